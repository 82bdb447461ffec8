#!/usr/bin/env python3
"""Compares llama.cpp with the references in tests/data/families, so that two independent engines agree on them.

Maintenance only; needs a built llama-server and the F32 files that `make_families.py --scratch DIR` wrote (with BF16
weights llama.cpp rounds the activations too, which hides small errors):

    check_families.py --server PATH/llama-server --scratch DIR [NAME ...]

For each kept position the server is given the tokens up to it and asked for the log-probabilities of all tokens.
Exits with 1 unless the largest difference of any family is below 0.002.
"""
import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from family_configs import FAMILIES, VOCAB

FOLDER = Path(__file__).resolve().parent.parent / "data" / "families"
ERROR_MAX = 2e-3


def ask(port, path, body=None):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_until_ready(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit("llama-server ended; run it by hand to see why")
        try:
            return ask(port, "/health")
        except urllib.error.URLError:
            time.sleep(0.1)
    raise SystemExit("llama-server did not get ready")


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def difference(port, tokens, wanted):
    """Largest absolute difference of the log-probabilities at one position."""
    answer = ask(port, "/completion", {
        "prompt": tokens[:wanted["position"] + 1], "n_predict": 1, "n_probs": VOCAB, "temperature": -1.0,
        "cache_prompt": False, "ignore_eos": True, "logit_bias": []})
    got = np.full(VOCAB, np.nan)
    for entry in answer["completion_probabilities"][0]["top_logprobs"]:
        got[entry["id"]] = entry["logprob"]
    return np.abs(got - log_softmax(np.array(wanted["values"], dtype=np.float64)))


def check_run(name, run, arguments):
    command = [arguments.server, "-m", arguments.scratch / f"{name}.gguf", "--port", str(arguments.port), "-c", "256",
               "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1", "--no-warmup", "-np", "1", "--no-webui"]
    if name == "phi3-longrope" and len(run["tokens"]) <= 32:
        # The server's contexts start at 256: the short factors need the bound raised.
        command += ["--override-kv", "phi3.rope.scaling.original_context_length=int:4096"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(arguments.port, process)
        # llama.cpp ignores the window of phi3 and of llama: only positions inside it compare.
        window = 20 if name == "phi3" else len(run["tokens"])
        return [(row["position"], difference(arguments.port, run["tokens"], row)) for row in run["logits"]
                if row["position"] < window]
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--port", type=int, default=18931)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.names or [name for name, entry in FAMILIES.items() if entry["gguf"]]:
        reference = json.loads((FOLDER / name / "reference.json").read_text())
        for run in reference["runs"]:
            errors = check_run(name, run, arguments)
            worst = max(float(np.max(error)) for _, error in errors)
            failed |= not worst < ERROR_MAX
            print(f"{name} {len(run['tokens'])}: " + " ".join(f"{p}:{np.max(e):.2g}" for p, e in errors), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
