#!/usr/bin/env python3
"""The plots of docs/power.md, from the simulator's runs.

  mkdir csv && HEARTH_POWER_CSV=csv build/release/power_test --gtest_filter='Heat.Two*:Battery.TheFloor*'
  bench/power/plots.py csv docs

heat-*.csv are governed machines, free-*.csv the same without a governor, battery-*.csv batteries with a floor of 15 %.
"""
import csv, pathlib, sys

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 760, 150, 64, 24, 56, 44
TRIPS = {"phone": 75, "gateway": 80, "mini-pc": 90}
STYLE = """
text { font: 13px system-ui, 'Segoe UI', Roboto, sans-serif; fill: #655c52 }
.title { font-weight: 650; font-size: 15px; fill: #27221d }
.grid { stroke: #e3dcd0 } .limit { stroke: #b3261e; stroke-dasharray: 5 4 }
.ours { fill: none; stroke: #a83f0e; stroke-width: 1.6 } .free { fill: none; stroke: #978b7e } .share { fill: none; stroke: #2f6f8f }
.ours-text { fill: #a83f0e } .share-text { fill: #2f6f8f } .limit-text { fill: #b3261e } .ground { fill: #fffefc }
@media (prefers-color-scheme: dark) {
  text { fill: #ada297 } .title { fill: #ede7df } .grid { stroke: #38312c } .limit { stroke: #f2b8b5 } .limit-text { fill: #f2b8b5 }
  .ours { stroke: #f59b63 } .free { stroke: #83766a } .share { stroke: #7fc4e3 }
  .ours-text { fill: #f59b63 } .share-text { fill: #7fc4e3 } .ground { fill: #211d1a }
}
"""


def read(path):
    with open(path) as file:
        rows = list(csv.reader(file))[1:]
    return [tuple(map(float, row)) for row in rows]


class Panel:
    """One plot of a column of them: x in minutes, y from low to high."""

    def __init__(self, index, low, high, minutes):
        self.top, self.low, self.high, self.minutes = TOP + index * (PANEL + GAP), low, high, minutes
        self.parts = []
        for value in (low, (low + high) / 2, high):
            y = self.y(value)
            self.parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self.parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for minute in range(0, int(minutes) + 1, 30):
            self.parts.append(f'<text x="{self.x(minute):.1f}" y="{self.top + PANEL + 18}" text-anchor="middle">{minute} min</text>')

    def x(self, minute):
        return LEFT + (WIDTH - LEFT - RIGHT) * minute / self.minutes

    def y(self, value):
        return self.top + PANEL * (1 - (value - self.low) / (self.high - self.low))

    def line(self, css, rows, column, scale=1.0, every=15):
        points = [f"{self.x(row[0] / 60):.1f},{self.y(row[column] * scale):.1f}" for row in rows[::every]]
        self.parts.append(f'<polyline class="{css}" points="{" ".join(points)}"/>')

    def limit(self, value):
        y = self.y(value)
        self.parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')

    def title(self, text):
        self.parts.append(f'<text x="{LEFT}" y="{self.top - 8}">{text}</text>')


def write(path, title, legend, panels):
    height = TOP + len(panels) * (PANEL + GAP)
    body = "\n".join(part for panel in panels for part in panel.parts)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n<title>{title}</title>\n'
                    f'<style>{STYLE}</style>\n<rect class="ground" width="{WIDTH}" height="{height}"/>\n'
                    f'<text class="title" x="{LEFT}" y="22">{title}</text>\n{legend}\n{body}\n</svg>\n')


def legend(*entries):
    out, x = [], WIDTH - RIGHT
    for css, text in reversed(entries):
        out.append(f'<text class="{css}" x="{x}" y="22" text-anchor="end">{text}</text>')
        x -= 8 * len(text) + 8
    return "".join(out)


def heat(source, target):
    for plant, trip in TRIPS.items():
        panels = []
        for index, ambient in enumerate((25, 35, 45)):
            ours, free = read(source / f"heat-{plant}-{ambient}.csv"), read(source / f"free-{plant}-{ambient}.csv")
            panel = Panel(index, 20, 100, 120)
            panel.title(f"{ambient} °C around it")
            panel.line("free", free, 1)
            panel.line("share", ours, 3, 100)
            panel.line("ours", ours, 1)
            panel.limit(trip)
            panels.append(panel)
        write(target / f"power-heat-{plant}.svg", f"{plant}: two simulated hours",
              legend(("ours-text", "governed, °C"), ("share-text", "its share, %"), ("", "ungoverned, °C"), ("limit-text", "limit")), panels)


def battery(source, target):
    panels = []
    for index in range(3):
        rows = read(source / f"battery-{index + 1}.csv")
        panel = Panel(index, 0, 40, 240)
        panel.title(f"seed {index + 1}")
        panel.line("free", [(row[0], min(row[3], 40)) for row in rows], 1, every=30)
        panel.line("share", [(row[0], row[2] * 40) for row in rows], 1, every=30)
        panel.line("ours", [row for row in rows if row[1] <= 40], 1, every=30)
        panel.limit(15)
        panels.append(panel)
    write(target / "power-battery.svg", "Batteries, floor 15 %",
          legend(("ours-text", "charge, %"), ("share-text", "share (40 = all)"), ("", "jobs that wait"), ("limit-text", "floor")), panels)


if __name__ == "__main__":
    heat(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    battery(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
