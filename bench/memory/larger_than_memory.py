#!/usr/bin/env python3
"""A model larger than its memory: time for a token, against what the disk allows and against llama.cpp under the same limit.

  larger_than_memory.py MODEL.gguf [--share 0.5 | --memory 260M] [--gen 32] [--repeat 3]

Each run begins with an empty page cache and in a memory control group (version 1 or 2, as root) of the bound and 32 MiB. `--share` of
the weights fits beside everything else. Printed, as JSON lines and one table: tokens per second, bytes read for a token, the disk's rate for
direct sequential reads in the same run, and time for a token as a multiple of (bytes that cannot stay) / (that rate). llama.cpp runs with
mmap and without repacking, its best there, from $HEARTH_PEERS/llama.cpp/build/bin if it is there. Whether the answer is the same as without
a bound is checked, too.
"""
import argparse
import json
import mmap
import os
import pathlib
import re
import statistics
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ.get("HEARTH_PEERS", pathlib.Path.home() / ".cache/hearth-peers"))
PROMPT = "Once upon a time there was a lighthouse keeper who"


class Group:
    """A control group with a bound on memory; programs are started in it."""

    def __init__(self, bytes_max):
        old = pathlib.Path("/sys/fs/cgroup/memory")
        self.path = (old if old.is_dir() else pathlib.Path("/sys/fs/cgroup")) / f"hearth-bench-{os.getpid()}"
        self.path.mkdir()
        limit = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
        (self.path / limit).write_text(str(bytes_max))

    def run(self, command):
        def enter():
            (self.path / "cgroup.procs").write_text(str(os.getpid()))
        return subprocess.run([str(word) for word in command], preexec_fn=enter, capture_output=True, text=True)

    def close(self):
        self.path.rmdir()


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def disk_rate(path):
    """Bytes a second of direct reads of 1 MiB, four at a time into large pages, as the program does them."""
    pieces, piece = min(path.stat().st_size, 640 << 20) // (1 << 20), 1 << 20
    ready = threading.Barrier(5)

    def read(first):
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        buffer = memoryview(memory)[:piece]
        os.preadv(file, [buffer], 0)
        ready.wait()
        for i in range(first, pieces, 4):
            os.preadv(file, [buffer], i * piece)
        os.close(file)
    readers = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for reader in readers:
        reader.start()
    ready.wait()
    start = time.monotonic()
    for reader in readers:
        reader.join()
    return pieces * piece / (time.monotonic() - start)


def pack_of(hearth, model):
    """Where the model's pack lies."""
    packs = json.loads(subprocess.run([hearth, "cache", "--json"], capture_output=True, text=True, check=True).stdout)["packs"]
    return pathlib.Path(next(pack["path"] for pack in packs if pack["model"] == model.name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the weights that fits (default: 0.5)")
    parser.add_argument("--memory", help="the bound itself, instead of a share")
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--hearth", type=pathlib.Path, default=HERE.parent.parent / "build/release/hearth")
    args = parser.parse_args()
    context = ["--context", "512"]
    answer = [args.hearth, "run", args.model, PROMPT, "--raw", "--temperature", "0", "-n", args.gen, *context]
    answer = [str(word) for word in answer]
    whole = subprocess.run(answer, capture_output=True, text=True, check=True).stdout
    plan = [args.hearth, "plan", args.model, *context, "--json", "--memory"]
    ample = json.loads(subprocess.run([*plan, "64G"], capture_output=True, text=True, check=True).stdout)
    weights = ample["weight_bytes"]
    wanted = args.memory or str(ample["plan"]["total_bytes"] - int(weights * (1 - args.share)))
    fitted = json.loads(subprocess.run([*plan, wanted], capture_output=True, text=True, check=True).stdout)
    memory, fit = fitted["memory_bytes"], fitted["plan"]
    llama = PEERS / "llama.cpp/build/bin/llama-bench"
    ours, theirs, rates, same = [], [], [], True
    for _ in range(args.repeat):
        group = Group(memory + (32 << 20))
        drop_caches()
        rates.append(disk_rate(pack_of(args.hearth, args.model)))
        drop_caches()
        bench = group.run([args.hearth, "bench", args.model, "--memory", memory, "--prompt", 0, "--gen", args.gen, "--repeat", 1, *context, "--json"])
        ours.append(json.loads(bench.stdout)["results"][-1]["tokens_per_second"])
        drop_caches()
        same = same and group.run([*answer, "--memory", memory]).stdout == whole
        if llama.exists():
            drop_caches()
            said = group.run([llama, "-m", args.model, "-p", 0, "-n", args.gen, "-r", 1, "--repack", 0, "-lm", "mmap", "-o", "json"]).stdout
            found = re.search(r'"avg_ts":\s*([0-9.]+)', said)
            theirs.append(float(found.group(1)) if found else 0.0)
        group.close()
    rate, speed = statistics.median(rates), statistics.median(ours)
    cannot_stay = max(ample["plan"]["weights_resident_bytes"] - (memory - fit["program_bytes"] - fit["kv_bytes"]), 1)
    result = {"memory_bytes": memory, "weight_bytes": weights, "read_per_token_bytes": fit["weights_read_per_token_bytes"],
              "cannot_stay_bytes": cannot_stay, "disk_bytes_per_second": rate, "tokens_per_second": speed,
              "of_the_disk": (1 / speed) / (cannot_stay / rate), "same_answer": same,
              "llama_cpp_tokens_per_second": statistics.median(theirs) if theirs else None}
    print(json.dumps(result))
    print(f"{memory / 1e6:.0f} MB for {weights / 1e6:.0f} MB of weights: {speed:.2f} tokens/s; {cannot_stay / 1e6:.0f} MB cannot stay, "
          f"the disk reads {rate / 1e9:.2f} GB/s: {result['of_the_disk']:.2f} x the time that takes; same answer: {same}"
          + (f"; llama.cpp {statistics.median(theirs):.2f} tokens/s" if theirs else ""))


if __name__ == "__main__":
    main()
