#!/usr/bin/env python3
"""Quality of quantisation at given bytes: llama.cpp's types and ours from one f32 source, judged on texts that calibration
never saw.

  quality_table.py --source F32.gguf --calibrate TEXT --judge TEXT --judge TEXT [--only ROWS] [--json FILE] [--markdown]
                   [--into FILE] [--plots FOLDER]

For llama.cpp: llama-imatrix (64 x 512 tokens), llama-quantize with it, then llama-perplexity --kl-divergence against the
source's own logits, and `hearth eval --reference`. For us: `hearth quantize`, then the same judges (llama.cpp's where the file
is a GGUF). Each row says its command, its target, and what was reached. Rows that are in FILE already, made of the same source
and texts, are not made again (--again makes them); so a run that was cut off goes on. ROWS are names, comma-separated, with *
for any letters: `--list` lists them.

llama.cpp's programs lie in $HEARTH_PEERS/llama.cpp/build/bin ($HEARTH_PEERS is ~/.cache/hearth-peers unless it is set). The
source of our table is SmolLM2-135M with its weights moved off the 4-bit grid by exact rescalings: --unsnap SCRIPT makes it
(SCRIPT IN.gguf OUT.gguf) where --source does not exist. --text SCRIPT prints the texts that do not exist (SCRIPT moby-dick
--from N --chapters N); austen.py beside this file prints that of another author. Needs Python's standard library only.
"""
import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import quality_plots

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ.get("HEARTH_PEERS", pathlib.Path.home() / ".cache/hearth-peers"))
LLAMA_TYPES = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_0", "Q4_1", "Q5_0"]
MEASURED = "hearth-mixed-84.json"
CHUNKS, CONTEXT, CALIBRATION_CHUNKS, KV_CONTEXT = 16, 512, 64, 2048


class Failure(Exception):
    pass


class Target:
    """What a row must reach: a figure of each judge, at most `factor` times another row's or at most `limit`."""

    def __init__(self, figure, than=None, factor=1.0, limit=None, at_least=False):
        self.figure, self.than, self.factor, self.limit, self.at_least = figure, than, factor, limit, at_least

    def words(self):
        name = {"mean_kld": "mean KLD", "kld_p999": "99.9 % KLD", "same_top": "top-1"}.get(self.figure, self.figure)
        bound = f"{self.factor:g} x {self.than}" if self.than else f"{self.limit:g}"
        return f"{name} {'≥' if self.at_least else '≤'} {bound}"

    def check(self, row, rows):
        """(reached, text) over all judges; None where a figure is not known."""
        known = []
        for judge, figures in row["judges"].items():
            for engine, ours in figures.items():
                value, bound = ours.get(self.figure), self.limit
                if self.than:
                    other = rows.get(self.than, {}).get("judges", {}).get(judge, {}).get(engine, {}).get(self.figure)
                    bound = None if other is None else other * self.factor
                if value is None or bound is None:
                    return None, "not measured"
                known.append((value >= bound if self.at_least else value <= bound,
                              f"{value / (bound / self.factor):.2f} x" if self.than else f"{value:.4g}"))
        return (all(good for good, _ in known) if known else None), ", ".join(text for _, text in known)


class Limit:
    """A figure of the row itself, not of a judge."""

    def __init__(self, figure, limit, unit=1.0, name=None):
        self.figure, self.limit, self.unit, self.name = figure, limit, unit, name or figure

    def words(self):
        return f"{self.name} ≤ {self.limit:g}"

    def check(self, row, rows):
        value = row.get(self.figure)
        return (None, "not measured") if value is None else (value / self.unit <= self.limit, f"{value / self.unit:.4g}")


class Share:
    """A figure of the row, at most `factor` times that of another row."""

    def __init__(self, figure, than, factor, name):
        self.figure, self.than, self.factor, self.name = figure, than, factor, name

    def words(self):
        return f"{self.name} ≤ {self.factor:g} x {self.than}"

    def check(self, row, rows):
        value, other = row.get(self.figure), rows.get(self.than, {}).get(self.figure)
        return (None, "not measured") if not value or not other else (value <= self.factor * other, f"{value / other:.3f} x")


class Again:
    """Made twice, the file is the same."""

    def words(self):
        return "the same bytes again"

    def check(self, row, rows):
        same = row.get("same_bytes_again")
        return same, {True: "the same", False: "different", None: "not measured"}[same]


class SameTypes:
    """The map of tensor types, and with it the bytes, is that of another row."""

    def __init__(self, than):
        self.than = than

    def words(self):
        return f"types and bytes of {self.than}"

    def check(self, row, rows):
        other = rows.get(self.than, {}).get("types")
        if not other or not row.get("types"):
            return None, "not measured"
        different = [name for name, kind in other.items() if row["types"].get(name) != kind]
        return not different, "the same" if not different else f"{len(different)} tensors differ, {different[0]} first"


class Row:
    """One way to make a file: the arguments of `hearth quantize`, or the type of llama-quantize. Or another row's file (`of`)
    judged with options of its own (`evaluate`). `twice`: made a second time to see whether it is the same, byte for byte."""

    def __init__(self, name, arguments=None, llama_type=None, suffix=".gguf", targets=(), evaluate=(), of=None, model=None,
                 judged=True, twice=False, context=None):
        self.name, self.arguments, self.llama_type, self.suffix = name, arguments, llama_type, suffix
        self.targets, self.evaluate, self.of, self.model = list(targets), list(evaluate), of, model
        self.judged, self.twice, self.context = judged, twice, context or CONTEXT

    def path(self, work):
        name = self.of or self.name
        return work / ((f"smollm2-{name.lower()}" if name in LLAMA_TYPES else name) + self.suffix)


def minutes(limit):
    return Limit("seconds", limit, 60.0, "minutes")


def peak_gb(limit, name="peak GB"):
    return Limit("peak_bytes", limit, 1e9, name)


def megabytes(limit):
    return Limit("bytes", limit, 1e6, "MB")


def all_rows():
    rows = [Row(kind, llama_type=kind) for kind in LLAMA_TYPES]
    one_type = [minutes(15), peak_gb(1.5)]
    for kind in ("iq4_nl", "q4_0", "q4_1", "q5_0", "q8_0"):
        peer, twice = kind.upper(), kind == "q4_0"
        quality = [Target("mean_kld", peer, 1.0 if kind == "q8_0" else 0.7), Target("kld_p999", peer)]
        rows.append(Row(f"hearth-{kind}", ["--type", kind, "--format", "gguf"], twice=twice,
                        targets=[SameTypes(peer), *quality, *one_type, *([Again()] if twice else [])]))

    def pack(name, kind, targets, *more, **options):
        return Row(name, ["--type", kind, *more, "--format", "pack"], suffix=".pack", targets=targets, **options)

    # What the first measures serves the others.
    for size, factor in ((84, 1.0), (91, 1.0), (106, 0.5)):
        known = [] if size == 84 else ["--measured", MEASURED]
        rows.append(pack(f"hearth-mixed-{size}", "mixed", [megabytes(size), Target("mean_kld", "Q4_K_M", factor), minutes(60),
                                                           peak_gb(1.5)], "--target-bytes", f"{size}MB", *known))
    kv = {"of": "Q8_0", "context": KV_CONTEXT}
    return rows + [
        pack("hearth-i8", "i8", [megabytes(145), Target("mean_kld", "Q8_0"), *one_type]),
        pack("hearth-i4", "i4", one_type),
        # What the high planes of i8 are by themselves, made for that alone.
        pack("hearth-i4h", "i4h", one_type, "--head-type", "i4h"),
        Row("hearth-i8-at-4", of="hearth-i8", evaluate=["--precision", "4"], suffix=".pack",
            targets=[Target("mean_kld", "hearth-i4h", 1.3)]),
        pack("gemma-170", "mixed",
             [megabytes(170), Target("mean_kld", limit=0.02), Target("same_top", limit=0.95, at_least=True)],
             "--target-bytes", "170MB", model="gemma3-270m-q4_k_m"),
        pack("qwen-1.5b", "i4", [Limit("peak_bytes", 3.0, float(1 << 30), "peak GiB")], model="qwen2.5-coder-1.5b-q4_k_m",
             judged=False),
        Row("kv-f16", evaluate=["--kv-type", "f16"], **kv),
        Row("kv-i4", evaluate=["--kv-type", "i4"], **kv,
            targets=[Target("perplexity", "kv-f16", 1.01), Share("kv_bytes", "kv-f16", 0.3, "bytes of keys and values")]),
    ]


def digest(path):
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def run(command, log=None):
    """Runs a program and returns (what it printed, seconds, peak resident bytes). Its errors are kept in `log`."""
    command = [str(part) for part in command]
    start = time.monotonic()
    with open(log, "wb") if log else open(os.devnull, "wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        printed = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = pathlib.Path(log).read_text(errors="replace")[-1500:] if log else ""
        raise Failure(f"{' '.join(command)} ended with {process.returncode}\n{said}")
    return printed, time.monotonic() - start, usage.ru_maxrss * 1024


class Bench:
    def __init__(self, args):
        self.args, self.work = args, args.work
        self.hearth, self.llama = args.hearth, PEERS / "llama.cpp/build/bin"
        self.work.mkdir(parents=True, exist_ok=True)
        self.source = self.made_source()
        self.calibrate = self.made_text(args.calibrate, 20, 30)
        self.judges = [self.made_text(args.judge[0], 1, 6), *args.judge[1:]]
        for path in (self.calibrate, *self.judges):
            if not path.exists():
                raise Failure(f"{path} is missing (see --help: --text, austen.py)")
        self.inputs = {"source": digest(self.source), "calibrate": digest(self.calibrate),
                       "judges": {path.stem: digest(path) for path in self.judges}}
        self.store = args.json
        self.rows = self.stored_rows()

    def made_source(self):
        source = self.args.source
        if not source.exists():
            if not self.args.unsnap:
                raise Failure(f"{source} is missing, and no --unsnap SCRIPT makes it")
            part = source.with_suffix(".part")
            run([PEERS / "venv/bin/python", self.args.unsnap, PEERS / "models/smollm2-135m-q4_1.gguf", part])
            part.rename(source)
        return source

    def made_text(self, path, first, chapters):
        if not path.exists() and self.args.text:
            path.write_text(run([self.args.text, "moby-dick", "--from", first, "--chapters", chapters])[0])
        return path

    def stored_rows(self):
        if not self.store.exists():
            return {}
        known = json.loads(self.store.read_text())
        if known.get("inputs") != self.inputs:
            raise Failure(f"{self.store} was measured with another source or other texts: name another file with --json")
        return known["rows"]

    def keep(self, row):
        self.rows[row["name"]] = row
        order = [each.name for each in all_rows()]
        rows = {name: self.rows[name] for name in sorted(self.rows, key=lambda name: order.index(name) if name in order else 99)}
        part = self.store.with_suffix(".part")
        part.write_text(json.dumps({"inputs": self.inputs, "tokens": [CHUNKS, CONTEXT], "rows": rows}, indent=1) + "\n")
        part.rename(self.store)

    def imatrix(self):
        if not (path := self.work / "imatrix.gguf").exists():
            run([self.llama / "llama-imatrix", "-m", self.source, "-f", self.calibrate, "-c", CONTEXT, "-b", CONTEXT, "--chunks",
                 CALIBRATION_CHUNKS, "-t", self.args.threads, "-o", self.work / "imatrix.part.gguf"], self.work / "imatrix.log")
            (self.work / "imatrix.part.gguf").rename(path)

    def source_of(self, row):
        return PEERS / "models" / (row.model + ".gguf") if row.model else self.source

    def make(self, row):
        """The row's file, its command as it can be typed, and what making it cost."""
        out = row.path(self.work)
        if row.of:
            return out, None, {}
        part = out.with_name(out.stem + ".part" + row.suffix)
        log = self.work / (out.stem.removeprefix("smollm2-") + ".log")
        if row.llama_type:
            command = ["llama-quantize", "--imatrix", self.work / "imatrix.gguf", self.source, part, row.llama_type, self.args.threads]
        else:
            arguments = [self.work / word if word == MEASURED else word for word in row.arguments]
            command = ["hearth", "quantize", self.source_of(row), part, *arguments, "--calibrate", self.calibrate,
                       "--seed", 1, "--report", out.with_suffix(".json")]
        typed = " ".join(pathlib.Path(word).name if os.sep in str(word) else str(word) for word in command)
        typed = typed.replace(".part", "")
        report = out.with_suffix(".json")
        if out.exists() and not self.args.again:
            told = json.loads(report.read_text()) if report.exists() and not row.llama_type else None
            cost = {"seconds": told["seconds"], "peak_bytes": told["peak_rss_bytes"]} if told else {}
            return out, typed, self.rows.get(row.name, {}).get("cost", cost)
        command[0] = self.llama / "llama-quantize" if row.llama_type else self.hearth
        if row.llama_type:
            self.imatrix()
        _, seconds, peak = run(command, log)
        cost = {"seconds": round(seconds, 1), "peak_bytes": peak}
        if row.twice:
            first = digest(part)
            run(command, log)
            cost["same_bytes_again"] = digest(part) == first
        part.rename(out)
        return out, typed, cost

    def base_logits(self, judge):
        path = self.work / f"base-{judge.stem}.kld"
        if not path.exists():
            run([self.llama / "llama-perplexity", "-m", self.source, "-f", judge, "-c", CONTEXT, "-b", CONTEXT, "--chunks",
                 CHUNKS, "-t", self.args.threads, "--kl-divergence-base", path.with_suffix(".part")], self.work / "base.log")
            path.with_suffix(".part").rename(path)
        return path

    def judged_by_llama(self, file, judge):
        log = self.work / "judge.log"
        printed, _, _ = run([self.llama / "llama-perplexity", "-m", file, "-c", CONTEXT, "-b", CONTEXT, "--chunks", CHUNKS, "-t",
                             self.args.threads, "--kl-divergence-base", self.base_logits(judge), "--kl-divergence"], log)
        printed += log.read_text(errors="replace")
        found = {}
        for figure, pattern, unit in (("mean_kld", r"Mean\s+KLD:\s+(\S+)", 1), ("kld_p999", r"99\.9%\s+KLD:\s+(\S+)", 1),
                                      ("same_top", r"Same top p:\s+(\S+)", 100), ("perplexity", r"Mean PPL\(Q\)\s*:\s+(\S+)", 1)):
            match = re.search(pattern, printed)
            if not match:
                raise Failure(f"llama-perplexity printed no {figure} for {file}")
            found[figure] = float(match.group(1)) / unit
        return found

    def judged_by_hearth(self, row, file, judge):
        printed, _, _ = run([self.hearth, "eval", file, "--reference", self.source_of(row), "--text", judge, "--context",
                             row.context, "--chunks", CHUNKS * CONTEXT // row.context, "--threads", self.args.threads,
                             "--no-cache", "--json", *row.evaluate], self.work / "judge.log")
        known = json.loads(printed)
        return {figure: known[figure] for figure in ("mean_kld", "kld_p999", "same_top", "perplexity")}

    def judged_by(self, row):
        able = ["hearth"] if row.suffix != ".gguf" or row.model or row.of else ["llama.cpp", "hearth"]
        return [engine for engine in able if engine in self.args.engines]

    def measure(self, row):
        known = {} if self.args.again else self.rows.get(row.name, {}).get("judges", {})
        judges = self.judges if row.judged else []
        engines = self.judged_by(row)
        if row.name in self.rows and not self.args.again and all(
                set(engines) <= set(known.get(judge.stem, {})) for judge in judges):
            return
        file, command, cost = self.make(row)
        told = json.loads(run([self.hearth, "inspect", file, "--json", "--context", row.context,
                               *(row.evaluate if "--kv-type" in row.evaluate else [])])[0])
        result = {"name": row.name, "engine": "llama.cpp" if row.llama_type else "hearth", "command": command, "of": row.of, "model": row.model,
                  "evaluate": row.evaluate, "bytes": file.stat().st_size, "cost": cost, **cost,
                  "bits_per_weight": told["weights"]["all"]["bits_per_weight"], "kv_bytes": told["memory"]["kv_bytes"],
                  "types": {tensor["name"]: tensor["type"] for tensor in told["tensors"]}, "judges": known}
        for judge in judges:
            figures = known.setdefault(judge.stem, {})
            for engine in engines:
                if engine not in figures:
                    figures[engine] = (self.judged_by_llama(file, judge) if engine == "llama.cpp"
                                       else self.judged_by_hearth(row, file, judge))
                    print(f"{row.name}: {judge.stem}: {engine}: {figures[engine]}", file=sys.stderr, flush=True)
                    self.keep(result)
        self.keep(result)


def head_type(row):
    types = row["types"]
    return types.get("output.weight") or types.get("token_embd.weight", "")


def table(rows, judge):
    """The rows of llama.cpp and of ours that are files of their own, larger ones first."""
    engines = [name for name in ("llama.cpp", "hearth") if any(name in row["judges"].get(judge, {}) for row in rows)]
    head = ["row", "MB", "bits per weight", "embedding"]
    for engine in engines:
        head += [f"mean KLD ({engine})", "99.9 %", "top-1 %"]
    lines = ["| " + " | ".join(head) + " |", "| --- | ---: | ---: | --- |" + " ---: |" * (3 * len(engines))]
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        cells = [row["name"], f"{row['bytes'] / 1e6:.1f}", f"{row['bits_per_weight']:.2f}", head_type(row)]
        for engine in engines:
            known = row["judges"].get(judge, {}).get(engine)
            cells += ([f"{known['mean_kld']:.4f}", f"{known['kld_p999']:.3f}", f"{100 * known['same_top']:.1f}"] if known
                      else [""] * 3)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(rows, judges, known):
    lines = []
    for judge in judges:
        lines += [f"Judged on {quality_plots.JUDGES.get(judge, judge)}:", ""]
        lines += [*table([row for row in rows if judge in row["judges"] and not row["of"] and not row.get("model")], judge), ""]
    aimed = [row for row in all_rows() if row.targets and row.name in {each["name"] for each in rows}]
    if aimed:
        lines += ["| row | command | target: reached, on each text by each judge |", "| --- | --- | --- |"]
    for row in aimed:
        command = known[row.name]["command"] or f"{row.of} with {' '.join(row.evaluate)}"
        said = []
        for target in row.targets:
            reached, text = target.check(known[row.name], known)
            said.append(f"{target.words()}: {text}" + {True: "", False: " **(missed)**", None: ""}[reached])
        lines.append(f"| {row.name} | `{command}` | {'<br>'.join(said)} |")
    lines += [""] if aimed else []
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work = HERE.parent.parent / "build/quality"
    parser.add_argument("--work", type=pathlib.Path, default=work, help="folder of what is made (default: build/quality)")
    parser.add_argument("--source", type=pathlib.Path, help="the f32 model (default: smollm2-f32.gguf in the work folder)")
    parser.add_argument("--calibrate", type=pathlib.Path, help="text of the calibration (default: calibrate.txt there)")
    parser.add_argument("--judge", type=pathlib.Path, action="append",
                        help="text to judge on, may be repeated (default: judge-1.txt and judge-2.txt there)")
    parser.add_argument("--unsnap", type=pathlib.Path, help="script that makes the source")
    parser.add_argument("--text", type=pathlib.Path, help="script that prints the texts")
    parser.add_argument("--hearth", type=pathlib.Path, default=HERE.parent.parent / "build/release/hearth", help="our program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="*", help="names of rows, comma-separated")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--again", action="store_true", help="make and measure rows that are known, too")
    parser.add_argument("--engines", default="llama.cpp,hearth", help="which programs judge (default: both)")
    parser.add_argument("--no-run", action="store_true", help="print what is known; make nothing")
    parser.add_argument("--json", type=pathlib.Path, help="file of the results (default: results.json in the work folder)")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--into", type=pathlib.Path,
                        help="file whose part between <!-- quality table --> and <!-- end --> becomes the tables")
    parser.add_argument("--plots", type=pathlib.Path, help="folder for the plots (SVG)")
    args = parser.parse_args()
    args.source = args.source or args.work / "smollm2-f32.gguf"
    args.calibrate = args.calibrate or args.work / "calibrate.txt"
    args.judge = args.judge or [args.work / "judge-1.txt", args.work / "judge-2.txt"]
    args.json = args.json or args.work / "results.json"
    args.hearth = args.hearth.resolve()
    wanted = [row for row in all_rows() if any(fnmatch.fnmatch(row.name.lower(), each.lower()) for each in args.only.split(","))]
    if args.list:
        return print("\n".join(f"{row.name:18}" + "; ".join(target.words() for target in row.targets) for row in wanted))
    bench = Bench(args)
    if not args.no_run and not args.hearth.exists():
        raise Failure(f"{args.hearth} is missing: build it, or name it with --hearth")
    asked = [] if args.no_run else [args.hearth, "quantize", "--help"]
    can_quantize = asked and subprocess.run(asked, capture_output=True).returncode == 0
    failed = 0
    for row in [] if args.no_run else wanted:
        if not row.llama_type and not can_quantize:
            print(f"{row.name}: left out, {args.hearth} has no quantize", file=sys.stderr)
            continue
        try:
            bench.measure(row)
        except Failure as failure:
            failed += 1
            print(f"{row.name}: {failure}", file=sys.stderr, flush=True)
    known = [bench.rows[row.name] for row in wanted if row.name in bench.rows]
    tables = markdown(known, [judge.stem for judge in bench.judges], bench.rows)
    if args.markdown:
        print(tables)
    if args.into:
        begin, end = "<!-- quality table -->\n", "<!-- end -->"
        before, rest = args.into.read_text().split(begin)
        args.into.write_text(before + begin + tables + end + rest.split(end, 1)[1])
    if args.plots:
        quality_plots.write(args.plots, known)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"quality_table: {failure}")
