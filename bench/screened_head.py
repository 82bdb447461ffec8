#!/usr/bin/env python3
"""How much of a head a screening pass could leave out if its answer has to be exact.

    bench/screened_head.py MODEL.gguf --server llama-server --text TEXT

Final hidden states come from llama-server (they are the model's own, whoever computes them). Scores from less than the whole head
(four bits of each weight, or some principal directions) plus a bound of what is missing tell which tokens could still be the
likeliest; those, in panels of eight rows, have to be computed whole. Needs numpy and gguf.
"""
import argparse
import json
import socket
import subprocess
import time
import urllib.request

import numpy as np
from gguf import GGUFReader, dequantize

BLOCK = 32


def hidden_states(arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [arguments.server, "-m", arguments.model, "--embeddings", "--pooling", "none", "-t", "2", "--port", str(port),
               "-c", "1024", "-b", "1024", "-ub", "1024", "--no-warmup"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(address + "/health")
                break
            except OSError:
                time.sleep(0.5)
        with open(arguments.text, encoding="utf-8") as file:
            body = json.dumps({"content": file.read(1800), "embd_normalize": -1}).encode()
        request = urllib.request.Request(address + "/embedding", body, {"Content-Type": "application/json"})
        answer = json.loads(urllib.request.urlopen(request).read())
    finally:
        server.terminate()
        server.wait()
    return np.array(answer[0]["embedding"], dtype=np.float32)[8::5]


def tell(name, hidden, scores_and_bounds):
    candidates, panels = [], []
    for h in hidden:
        scores, bound = scores_and_bounds(h)
        possible = scores + bound >= (scores - bound).max()
        padded = np.zeros((len(possible) + 7) // 8 * 8, bool)
        padded[: len(possible)] = possible
        candidates.append(possible.mean())
        panels.append(padded.reshape(-1, 8).any(1).mean())
    print(f"{name}: {100 * np.mean(candidates):.1f} % of the tokens, {100 * np.mean(panels):.1f} % of the panels are left")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--server", required=True)
    parser.add_argument("--text", required=True)
    arguments = parser.parse_args()
    hidden = hidden_states(arguments)
    tensors = {tensor.name: tensor for tensor in GGUFReader(arguments.model).tensors}
    head = tensors.get("output.weight") or tensors["token_embd.weight"]
    weights = dequantize(head.data, head.tensor_type).astype(np.float32)
    rows, width = weights.shape
    blocks = weights.reshape(rows, width // BLOCK, BLOCK)
    print(f"{len(hidden)} rows, a head of {rows} x {width}")
    scale = np.maximum(np.abs(blocks).max(2, keepdims=True) / 127, 1e-12)
    four_bits = (np.floor(np.round(blocks / scale) / 16 + 0.5) * 16 * scale).reshape(rows, width)
    missing = (weights - four_bits).reshape(rows, width // BLOCK, BLOCK)
    by_row, by_block = np.linalg.norm(missing, axis=(1, 2)), np.linalg.norm(missing, axis=2)
    tell("four bits, bound by rows", hidden, lambda h: (four_bits @ h, by_row * np.linalg.norm(h)))
    tell("four bits, bound by blocks of 32", hidden,
         lambda h: (four_bits @ h, by_block @ np.linalg.norm(h.reshape(-1, BLOCK), axis=1)))
    _, directions = np.linalg.eigh((weights.T @ weights).astype(np.float64))
    directions = directions[:, ::-1].astype(np.float32)
    turned, half = weights @ directions, width // 2
    rest = np.linalg.norm(turned[:, half:], axis=1)

    def principal(h):
        along = directions.T @ h
        return turned[:, :half] @ along[:half], rest * np.linalg.norm(along[half:])

    tell("half of the principal directions", hidden, principal)


main()
