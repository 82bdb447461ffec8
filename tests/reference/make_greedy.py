#!/usr/bin/env python3
"""Greedy continuations by llama.cpp, as golden data for tests/e2e/greedy_test.cc. Maintenance only; the tests do not need it.

Usage: make_greedy.py LLAMA_SERVER MODEL.gguf OUT.json [further options of the server]
Starts llama-server on a free loopback port and asks for 64 tokens of 20 prompts at temperature 0, with the two best tokens of
each step, so that a difference can be judged: where the two are nearly equal, rounding may choose differently.

The committed data is of the tiny model in f32 (llama-quantize --allow-requantize IN OUT F32) with -ctk f32 -ctv f32 -fa off:
there the two engines compute the same function. On the quantised file llama.cpp agrees with itself on 3 of the 20 prompts only
when its KV type changes, so its greedy tokens there say nothing about another engine.
"""
import json, socket, subprocess, sys, time, urllib.request

PROMPTS = [
    "The capital of France is", "Once upon a time, in a village by the sea,", "Water boils at", "def fibonacci(n):",
    "The three primary colours are", "In 1969, humans first", "To make a cup of tea, first", "The opposite of hot is",
    "SELECT name FROM users WHERE", "Dear Sir or Madam,", "The quick brown fox", "Photosynthesis is the process by which",
    "My favourite book is", "2, 4, 6, 8,", "#include <stdio.h>\n\nint main() {", "The patient was given",
    "Temperature sensors measure", "Il était une fois", "{\"name\": \"Ada\", \"age\":", "The sun rises in the",
]


def ask(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=600))


def main():
    server, model, out = sys.argv[1:4]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([server, "-m", model, "-t", "2", "-c", "512", "-np", "1", "--port", str(port), *sys.argv[4:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                ask(port, "/health")
                break
            except OSError:
                time.sleep(0.2)
        cases = []
        for prompt in PROMPTS:
            tokens = ask(port, "/tokenize", {"content": prompt, "add_special": True})["tokens"]
            answer = ask(port, "/completion", {"prompt": tokens, "n_predict": 64, "temperature": 0, "top_k": 1, "n_probs": 2, "cache_prompt": False})
            steps = answer["completion_probabilities"]
            cases.append({"prompt": tokens, "tokens": [s["id"] for s in steps],
                          "gaps": [round(s["top_logprobs"][0]["logprob"] - s["top_logprobs"][1]["logprob"], 4) for s in steps]})
        with open(out, "w") as file:
            json.dump({"engine": "llama.cpp", "cases": cases}, file, separators=(",", ":"))
            file.write("\n")
    finally:
        process.kill()


main()
