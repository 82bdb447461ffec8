"""The plots of the quality table: size against divergence, one SVG for each judge's text (quality_table.py --plots FOLDER)."""
import html
import math

# The judges of our table by the names of their files.
JUDGES = {"judge-1": "Moby-Dick, chapters 1 to 6", "judge-2": "Persuasion, chapters 1 to 6"}

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 52, 52
STYLE = """
text { font: 13px system-ui, 'Segoe UI', Roboto, sans-serif; fill: #655c52 }
.title { font-weight: 650; font-size: 15px; fill: #27221d }
.ours { fill: #a83f0e; font-weight: 650 }
.grid { stroke: #e3dcd0 } .axis { stroke: #978b7e }
.theirs-line { fill: none; stroke: #978b7e; stroke-dasharray: 4 4 }
.ours-line { fill: none; stroke: #a83f0e; opacity: .6; stroke-width: 1.6 }
.theirs-mark { fill: #655c52 } .ours-mark { fill: #a83f0e } .ground { fill: #fffefc }
@media (prefers-color-scheme: dark) {
  text { fill: #ada297 } .title { fill: #ede7df } .ours { fill: #f59b63 }
  .grid { stroke: #38312c } .axis { stroke: #83766a } .theirs-line { stroke: #83766a } .ours-line { stroke: #f59b63 }
  .theirs-mark { fill: #ada297 } .ours-mark { fill: #f59b63 } .ground { fill: #211d1a }
}
"""


def log_ticks(low, high):
    steps = (1, 2, 5) if high / low < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def linear_ticks(low, high, count):
    unit = 10 ** math.floor(math.log10((high - low) / count))
    step = next(each * unit for each in (1, 2, 5, 10) if each * unit * count >= high - low)
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def frontier(points):
    """The points that no smaller one beats, by size."""
    best, kept = math.inf, []
    for point in sorted(points):
        if point[1] < best:
            best = point[1]
            kept.append(point)
    return kept


class Labels:
    """Places a label beside its point where it covers neither a point nor another label."""

    def __init__(self, marks):
        self.taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]

    def keep_off(self, line):
        for (x1, y1), (x2, y2) in zip(line, line[1:]):
            for share in (step / 20 for step in range(21)):
                x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
                self.taken.append((x, y, x, y))

    def place(self, x, y, words):
        length = 7.4 * len(words)
        beside, below = ((10, 4), (-10 - length, 4), (8, -9), (-8 - length, -9)), ((8, 18), (-8 - length, 18))
        for dx, dy in (*beside, *below, (-length / 2, -13), (-length / 2, 22)):
            box = (x + dx, y + dy - 11, x + dx + length, y + dy + 3)
            inside = box[0] > LEFT and box[2] < WIDTH and box[1] > 30 and box[3] < HEIGHT - BOTTOM
            if inside and all(box[2] < a or c < box[0] or box[3] < b or d < box[1] for a, b, c, d in self.taken):
                self.taken.append(box)
                return x + dx, y + dy
        return None


def draw(title, points):
    """`points`: (name, engine, MB, KLD)."""
    sizes, klds = [point[2] for point in points], [point[3] for point in points]
    low, high = min(sizes) - 4, max(sizes) + 8
    bottom, top = min(klds) / 1.4, max(klds) * 1.4
    x = lambda size: LEFT + (size - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda kld: TOP + (math.log(top) - math.log(kld)) / (math.log(top) - math.log(bottom)) * (HEIGHT - TOP - BOTTOM)
    text = lambda left, base, words, kind="", anchor="start": (
        f'<text x="{left:.1f}" y="{base:.1f}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>')
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
           f"<title>{html.escape(title)}</title>", f"<style>{STYLE}</style>",
           f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
           text(18, 26, title, "title"), text(18, TOP - 8, "mean KL divergence from the f32 source, nats (lower is better)")]
    for tick in log_ticks(bottom, top):
        out += [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>',
                text(LEFT - 8, y(tick) + 4, f"{tick:g}", "", "end")]
    base = HEIGHT - BOTTOM
    out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in linear_ticks(low, high, 8):
        out += [f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{base}" y2="{base + 5}"/>',
                text(x(tick), base + 20, f"{tick:g}", "", "middle")]
    out.append(text(WIDTH - RIGHT, HEIGHT - 12, "file size, MB", "", "end"))
    labels = Labels([(x(size), y(kld)) for _, _, size, kld in points])
    for side in ("theirs", "ours"):
        line = frontier([(size, kld) for _, engine, size, kld in points if (engine == "hearth") == (side == "ours")])
        if len(line) > 1:
            line = [(x(size), y(kld)) for size, kld in line]
            labels.keep_off(line)
            path = " ".join(f"{left:.1f},{at:.1f}" for left, at in line)
            out.append(f'<polyline class="{side}-line" points="{path}"/>')
    for name, engine, size, kld in sorted(points, key=lambda point: point[1] != "hearth"):
        side = "ours" if engine == "hearth" else "theirs"
        out.append(f'<circle class="{side}-mark" cx="{x(size):.1f}" cy="{y(kld):.1f}" r="{5 if side == "ours" else 4}"><title>'
                   f"{html.escape(name)}: {size:.1f} MB, {kld:.4f}</title></circle>")
        at = labels.place(x(size), y(kld), name)
        if at:
            out.append(text(at[0], at[1], name, side))
    return "\n".join(out) + "\n</svg>\n"


def write(folder, rows):
    """One file for each judge, of the files made of the table's source; our program judges, or llama.cpp's where only it did."""
    folder.mkdir(parents=True, exist_ok=True)
    for judge in sorted({judge for row in rows for judge in row["judges"]}):
        points = []
        for row in rows:
            figures = row["judges"].get(judge, {})
            judged = figures.get("hearth") or figures.get("llama.cpp")
            if judged and not row["of"] and not row.get("model"):
                points.append((row["name"].removeprefix("hearth-"), row["engine"], row["bytes"] / 1e6, judged["mean_kld"]))
        if points:
            made = folder / f"kld-{judge}.svg"
            made.write_text(draw(f"SmolLM2-135M, judged on {JUDGES.get(judge, judge)}", points))
            print(made)
