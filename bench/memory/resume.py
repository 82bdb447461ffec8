#!/usr/bin/env python3
"""How soon a long conversation goes on: beside its state in memory, from disk after others took its room, and after a restart.

  resume.py MODEL.gguf [--tokens 4000] [--repeat 3] [--cold]

A server answers a text of so many tokens. Then the same conversation goes on, by one token more than the server knows ("next token"), and by
a question ("next turn"), each time counted from the request to the first piece of the answer. Printed as one line of JSON and a table of
medians; the answers have to be those of a server that nothing disturbed. --cold empties the page cache before (as root).
"""
import argparse
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class Server:
    def __init__(self, args, home, *options):
        self.process = subprocess.Popen(
            [args.hearth, "serve", args.model, "--listen", "127.0.0.1:0", "--context", str(args.tokens + 512), "--parallel", "1",
             "--log-format", "off", "--json", "--speculate", "off", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ, HEARTH_HOME=str(home)), text=True)
        self.port = int(json.loads(self.process.stdout.readline())["listening"][0].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def ask(self, prompt, tokens):
        """The answer's text, and seconds until it began."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.connect()
        body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True, "return_tokens": True})
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", body)
        answer, text, first = connection.getresponse(), "", None
        for line in answer:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0].get("text"):
                    first = first or time.monotonic() - begin
                    text += choices[0]["text"]
        connection.close()
        return text, first


def text_of(args):
    """Prose and code of our own, of about so many tokens."""
    files = sorted((HERE.parent.parent / "docs").glob("*.md"))
    text = "".join(file.read_text() for file in files)
    said = subprocess.run([args.hearth, "tokenize", args.model, "--json"], input=text[:args.tokens * 6], capture_output=True, text=True, check=True)
    tokens = json.loads(said.stdout)
    tokens = tokens["tokens"] if isinstance(tokens, dict) else tokens
    return [token["id"] if isinstance(token, dict) else token for token in tokens][:args.tokens]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--hearth", type=pathlib.Path, default=HERE.parent.parent / "build/release/hearth")
    args = parser.parse_args()
    prompt = text_of(args)
    question, other = "\nWhat was the first thing said?\n", [token ^ 1 for token in prompt]
    seconds = {}
    same = True

    def timed(what, server, asked, tokens, expected):
        nonlocal same
        text, first = server.ask(asked, tokens)
        seconds.setdefault(what, []).append(first)
        same = same and text == expected

    with tempfile.TemporaryDirectory() as home:
        tail = json.loads(subprocess.run([args.hearth, "tokenize", args.model, "--json"], input=question, capture_output=True, text=True, check=True).stdout)
        tail = tail["tokens"] if isinstance(tail, dict) else tail
        turn = prompt + [token["id"] if isinstance(token, dict) else token for token in tail]
        with Server(args, home, "--prompt-cache", "0") as server:
            expected = server.ask(prompt, 8)[0]
            expected_turn = server.ask(turn, 8)[0]
        for _ in range(args.repeat):
            with Server(args, home) as server:
                server.ask(prompt, 1)
                timed("next token, in memory", server, prompt, 8, expected)
            def drop():
                if args.cold:
                    os.sync()
                    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
            drop()
            with Server(args, home) as server:
                server.ask([prompt[0] ^ 1, *prompt[1:20]], 1)  # the model's pages are there
                timed("next token, after a restart", server, prompt, 8, expected)
            drop()
            with Server(args, home) as server:
                server.ask([prompt[0] ^ 1, *prompt[1:20]], 1)
                timed("next turn, after a restart", server, turn, 8, expected_turn)
                server.ask(other, 1)
                server.ask(list(reversed(other)), 1)
                drop()
                timed("next token, after others took its room", server, prompt, 8, expected)
    medians = {what: statistics.median(each) for what, each in seconds.items()}
    print(json.dumps({"tokens": len(prompt), "same_answers": same, "seconds": seconds}))
    for what, each in medians.items():
        print(f"{what:42} {each * 1000:8.1f} ms")
    print("answers:", "the same" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
