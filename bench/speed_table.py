#!/usr/bin/env python3
"""One table of the program's speed: model, test, tokens per second, share of the machine's limit, ratio to llama.cpp.

MODEL is a name in the store or a .gguf file; without one, the models of the store. pp512 is a prompt of 512 tokens from
nothing, tg64 are 64 single steps, tg32@4096 steps after 4,096 tokens of context, tg32x4 the total of 4 sequences at once, each after 64 tokens.
llama.cpp is measured where its llama-bench is found ($HEARTH_LLAMA_BENCH, the PATH, or $HEARTH_PEERS/llama.cpp/build/bin):
each pair runs its program, then ours, and the ratio is the median over the pairs. Needs only the standard library.
docs/performance.md says what the columns mean."""
import argparse, datetime, functools, json, os, pathlib, shutil, statistics, subprocess, sys

SMALL_BYTES = 300 << 20  # models up to this size get the longer tests


def run(*command, needed=True):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    message = f"{' '.join(map(str, command))}: {done.stderr.strip()[-800:]}"
    if needed:
        sys.exit(f"speed_table: {message}")
    print(f"left out: {message}", file=sys.stderr)
    return None


class Model:
    """What one token costs, from the file's table of tensors."""

    def __init__(self, hearth, name):
        known = json.loads(run(hearth, "inspect", name, "--json", "--context", 4096))
        self.path, meta = known["path"], known["metadata"]
        self.name = pathlib.Path(name).stem
        self.small = known["weights"]["all"]["bytes"] <= SMALL_BYTES
        family = meta.get("general.architecture", "")
        used, experts = meta.get(f"{family}.expert_used_count", 1), meta.get(f"{family}.expert_count", 1)
        self.positions_max = known["memory"]["context_max"]
        self.kv_bytes_per_position = known["memory"]["kv_bytes"] / known["memory"]["context"]
        self.windowed = f"{family}.attention.sliding_window" in meta
        names = {tensor["name"] for tensor in known["tensors"]}
        self.body_bytes = self.body_products = self.head_bytes = self.head_products = 0
        for tensor in known["tensors"]:
            elements = 1
            for length in tensor["shape"]:
                elements *= length
            if tensor["name"] in ("output.weight", "lm_head.weight") or (
                    tensor["name"].startswith(("token_embd.", "model.embed_tokens."))):
                # Without an output matrix of its own the embedding is one; else a row of it is all that is read.
                if tensor["name"].startswith(("output", "lm_head")) or not names & {"output.weight", "lm_head.weight"}:
                    self.head_bytes, self.head_products = tensor["bytes"], elements
                continue
            share = used / max(experts, 1) if "_exps" in tensor["name"] or ".experts." in tensor["name"] else 1
            self.body_bytes += tensor["bytes"] * share
            self.body_products += elements * share if len(tensor["shape"]) > 1 else 0

    def share(self, work, limit):
        """Least time of one step over the time it took; None where it is not known. `work`: tokens per second, rows, rows that
        want output and tokens of context of the step."""
        tokens_per_second, rows, outputs, depth = (*work, 0)[:4]
        if depth > 64 and self.windowed:
            return None
        read = self.body_bytes + self.head_bytes + depth * self.kv_bytes_per_position * outputs
        products = self.body_products * rows + self.head_products * outputs
        peak = max(limit["int8_add16_gop_s"], limit["int8_add32_gop_s"], limit["int8_dot_gop_s"])
        least = max(read / limit["read_gb_s"], 2 * products / peak if peak else 0) * 1e-9
        return tokens_per_second / rows * least


class Hearth:
    def __init__(self, program, threads):
        self.program, self.threads = program, threads

    def rates(self, model, prompt, gen, depth=0, batch=1):
        answer = json.loads(run(self.program, "bench", model.path, "--prompt", prompt, "--gen", gen, "--depth", depth,
                                "--batch", batch, "--threads", self.threads, "--repeat", 1, "--json"))
        return [each["tokens_per_second"] for each in answer["results"]], answer


class LlamaCpp:
    def __init__(self, program, threads):
        self.program, self.threads = program, threads
        beside = program and pathlib.Path(program).with_name("llama-batched-bench")
        self.batched = beside if beside and beside.exists() else None

    @staticmethod
    def found():
        peers = os.environ.get("HEARTH_PEERS")
        named = os.environ.get("HEARTH_LLAMA_BENCH")
        inside = peers and pathlib.Path(peers) / "llama.cpp/build/bin/llama-bench"
        return named or shutil.which("llama-bench") or (inside if inside and inside.exists() else None)

    def rates(self, model, prompt, gen, depth=0, batch=1):
        """In the order of ours (prompt, then steps); None where it cannot."""
        if not self.program or (batch > 1 and not self.batched):
            return None
        if batch > 1:
            answer = run(self.batched, "-m", model.path, "-t", self.threads, "-c", 2048, "-npp", 64, "-ntg", gen, "-npl", batch,
                         "--output-format", "jsonl", needed=False)
            rows = [json.loads(line) for line in (answer or "").splitlines() if line.startswith("{")]
            return [rows[0]["speed_tg"]] if rows else None
        answer = run(self.program, "-m", model.path, "-t", self.threads, "-p", prompt, "-n", gen, "-d", depth, "-r", 1, "-o", "json",
                     needed=False)
        return answer and [row["avg_ts"] for row in json.loads(answer)]


def measure(model, hearth, peer, args):
    """Rows of the table."""
    hearth.rates(model, 1, 0)  # lays the model out where that was not done before, so that loading is what it is afterwards
    prompt, gen = (512, 64) if model.small else (256, 32)
    prompt, gen = args.prompt or prompt, args.gen or gen
    tests = [(prompt, gen, 0, 1)]
    if args.depth and args.depth + gen <= model.positions_max:
        tests.append((0, 32, args.depth, 1))
    tests += [(0, 32, 64, batch) for batch in args.batch]
    rows = []
    for prompt, gen, depth, batch in tests:
        names = ([f"pp{prompt}"] if prompt else []) + [f"tg{gen}" + (f"x{batch}" if batch > 1 else "") + (f"@{depth}" if batch == 1 and depth else "")]
        pairs = []
        for _ in range(args.pairs if depth <= 64 else 1):
            theirs = peer.rates(model, prompt, gen, depth, batch)
            ours, answer = hearth.rates(model, prompt, gen, depth, batch)
            pairs.append((theirs, ours))
        for i, name in enumerate(names):
            rate = statistics.median(ours[i] for _, ours in pairs)
            ratios = [ours[i] / theirs[i] for theirs, ours in pairs if theirs]
            work = (rate, prompt, 1) if name.startswith("pp") else (rate, batch, batch, depth)
            row = {"model": model.name, "test": name, "tokens_per_second": rate,
                   "share": functools.partial(model.share, work),
                   "to_llama_cpp": statistics.median(ratios) if ratios else None}
            if not rows:
                kv = model.kv_bytes_per_position * max(prompt, gen)
                row["rss_over_mib"] = (answer["peak_rss_bytes"] - answer["weight_bytes"] - kv) / (1 << 20)
                row["load_ms"] = 1000 * answer["load_seconds"]
            rows.append(row)
            print(f"  {name}: {rate:.1f} tokens/s", file=sys.stderr)
    return rows


def cells(row):
    def text(key, form):
        return form.format(row[key]) if row.get(key) is not None else ""
    return [row["model"], row["test"], text("tokens_per_second", "{:.1f}"), text("of_limit", "{:.0%}"), text("to_llama_cpp", "{:.2f}"),
            text("rss_over_mib", "{:.0f}"), text("load_ms", "{:.0f}")]


HEADS = ["model", "test", "tokens/s", "of the limit", "to llama.cpp", "MiB over weights and KV", "load ms"]


def print_table(rows, markdown):
    table = [HEADS] + [cells(row) for row in rows]
    width = [max(len(line[i]) for line in table) for i in range(len(HEADS))]
    for number, line in enumerate(table):
        padded = [cell.ljust(width[i]) if i < 2 else cell.rjust(width[i]) for i, cell in enumerate(line)]
        print("| " + " | ".join(padded) + " |" if markdown else "  ".join(padded))
        if number == 0 and markdown:
            print("| " + " | ".join("-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(width)) + " |")


def machine(limit):
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), os.uname().machine)
    except OSError:
        name = os.uname().machine
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude", "*"], capture_output=True, text=True).stdout.strip()
    peaks = ", ".join(f"{limit[key]:.0f} {what}" for key, what in (
        ("int8_add16_gop_s", "Gop/s int8 in int16"), ("int8_dot_gop_s", "by dot products"), ("fp32_gflop_s", "Gflop/s fp32")) if limit[key])
    return (f"{datetime.date.today()}, commit {commit}, {name}, {limit['threads']} threads; "
            f"limits measured in the same run: {limit['read_gb_s']:.1f} GB/s read, {peaks}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--hearth", required=True, help="the program")
    parser.add_argument("--bench", required=True, help="hearth-bench, which measures the limits")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pairs", type=int, default=3, help="runs of each test (of the long context: one)")
    parser.add_argument("--prompt", type=int, help="instead of 512 or 256")
    parser.add_argument("--gen", type=int, help="instead of 64 or 32")
    parser.add_argument("--depth", type=int, default=4096, help="tokens of context; 0: leave the test out")
    parser.add_argument("--batch", type=lambda text: [int(n) for n in text.split(",") if n], default=[2, 4, 8], help="empty: leave it out")
    parser.add_argument("--no-peer", action="store_true", help="without llama.cpp")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = args.models or [line.split()[0] for line in run(args.hearth, "list").splitlines()[1:] if line.strip()]
    hearth, peer = Hearth(args.hearth, args.threads), LlamaCpp(None if args.no_peer else LlamaCpp.found(), args.threads)
    print(f"llama.cpp: {peer.program or 'not measured'}", file=sys.stderr)
    busy = os.getloadavg()[0]  # of others: nothing of ours has run yet
    def more(known):
        seen = json.loads(run(args.bench, "--limits", args.threads))
        return {key: max(value, known.get(key, 0)) for key, value in seen.items()}

    rows, limit = [], more({})
    for name in names:
        print(name, file=sys.stderr)
        rows += measure(Model(args.hearth, name), hearth, peer, args)
        # Around each model, as machines drift; the best is what the machine can do.
        limit = more(limit)
    for row in rows:
        row["of_limit"] = row.pop("share")(limit)
    if args.json:
        return print(json.dumps({"limits": limit, "rows": rows}, indent=1))
    print_table(rows, args.markdown)
    print(("\n" if args.markdown else "") + machine(limit))
    if busy > 0.5:
        print(f"Other programs were running (load {busy:.1f}), so neither rates nor ratios are worth quoting.")


main()
