#!/usr/bin/env python3
"""Loads a running server over its OpenAI door and prints what clients see.

  bench/serve_load.py chats --model FILE [--peer LLAMA_SERVER] [--clients 8] [--rounds 2] [--pairs 3]
  bench/serve_load.py prefix --model FILE
  bench/serve_load.py realtime --model FILE [--requests 500]

chats: so many clients, each with its own prompts, one request after the other; all tokens per second, time between tokens and to the
first one. With --peer both servers stand side by side and take turns with the same requests; the ratios are of medians over the
pairs. prefix: the first token of a prompt of 1,000 tokens of which all but the tail is cached, against the prefill of that
tail and 10 ms. realtime: the first token of real-time requests beside eight batch requests, against two decode steps
and its own prefill. The last line is a row for docs/campaigns.md. Nothing but Python's standard library is needed.
"""
import argparse, asyncio, contextlib, json, os, random, socket, statistics, subprocess, sys, tempfile, time

WORDS = ("the a ship sea wind captain sails harbour night light old storm crew whale island map voice morning water deck rope "
         "anchor gull mast story north sound river stone garden winter letter window road market bread silver quiet").split()


MODEL = "default"


def text(seed, words):
    pick = random.Random(seed)
    return " ".join(pick.choice(WORDS) for _ in range(words))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def server(command, port, home):
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, HEARTH_HOME=home))
    try:
        deadline = time.monotonic() + 120
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                sys.exit(f"{command[0]} did not start: {log.read()[-2000:].decode(errors='replace')}")
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
                    s.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                    if b" 200 " in s.recv(64):
                        break
            except OSError:
                pass
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)


async def post(port, path, body, on_piece=None):
    """One stream; returns (times of the pieces with text in seconds, usage). Lines are looked at, not parsed: clients share the cores."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = json.dumps(dict(body, stream=True, stream_options={"include_usage": True}, model=MODEL, temperature=0)).encode()
    writer.write(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(payload)) + payload)
    start, times, usage, buffer = time.monotonic(), [], None, b""
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError((head + await reader.read(2000)).decode(errors="replace"))
    while data := await reader.read(65536):
        now = time.monotonic()
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if b'"usage":{' in line:
                usage = json.loads(line[6:])["usage"]
            if (b'"content":"' in line and b'"content":""' not in line) or (b'"text":"' in line and b'"text":""' not in line):
                times.append(now - start)
                if on_piece:
                    on_piece(now)
    writer.close()
    return times, usage


async def chat(port, prompt, tokens, on_piece=None, **more):
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "ignore_eos": True, **more}
    return await post(port, "/v1/chat/completions", body, on_piece)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


async def chats(port, args, salt):
    gaps, firsts, tokens = [], [], 0

    async def client(c):
        nonlocal tokens
        for r in range(args.rounds):
            prompt = text(f"{salt}-{c}-{r}", args.words)
            if args.raw:
                body = {"prompt": prompt, "max_tokens": args.tokens, "ignore_eos": True}
                times, usage = await post(port, "/v1/completions", body)
            else:
                times, usage = await chat(port, prompt, args.tokens)
            firsts.append(times[0])
            gaps.extend(b - a for a, b in zip(times, times[1:]))
            tokens += usage["completion_tokens"]

    start = time.monotonic()
    await asyncio.gather(*(client(c) for c in range(args.clients)))
    took = time.monotonic() - start
    return {"tokens_per_second": tokens / took, "tokens": tokens, "gap_p50_ms": 1e3 * quantile(gaps, 0.5),
            "gap_p95_ms": 1e3 * quantile(gaps, 0.95), "first_p50_ms": 1e3 * quantile(firsts, 0.5)}


def compare_chats(args, ports):
    """Both take turns, each time with other requests; the medians and their ratios."""
    found = {name: [] for name in ports}
    for pair in range(args.pairs):
        for name in list(ports) if pair % 2 == 0 else reversed(list(ports)):
            found[name].append(asyncio.run(chats(ports[name], args, f"{args.seed}-{pair}")))
            print(f"{name:7}", show(found[name][-1]), flush=True)
    medians = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
    for name, median in medians.items():
        print(f"{name:7}", show(median), "(median)")
    counts = show(medians["hearth"])
    if "peer" in medians:
        counts += "; to the peer: " + show({key: value / medians["peer"][key] for key, value in medians["hearth"].items()})
    return counts, "measured"


def tail_seconds(args, home, tail, depth):
    """The prefill of the tail behind as many positions, as `hearth bench` has it."""
    command = [args.hearth, "bench", args.model, "--prompt", str(tail), "--gen", "1", "--depth", str(depth), "--threads", str(args.threads),
               "--repeat", "5", "--json"]
    found = json.loads(subprocess.run(command, env=dict(os.environ, HEARTH_HOME=home), check=True, capture_output=True).stdout)
    return tail / next(each["tokens_per_second"] for each in found["results"] if each["test"].startswith("pp"))


async def measure_prefix(port, args, home):
    pick, tail, all_tokens, firsts = random.Random(args.seed), 20, 1000, []
    tokens = lambda count: [pick.randrange(100, 20000) for _ in range(count)]
    ask = lambda prompt: post(port, "/v1/completions", {"prompt": prompt, "max_tokens": 4})
    beginning = tokens(all_tokens - tail)
    await ask(tokens(100))
    cold, _ = await ask(beginning + tokens(tail))
    for _ in range(args.requests or 20):
        times, usage = await ask(beginning + tokens(tail))
        firsts.append(times[0])
    numbers = {"cold_ms": 1e3 * cold[0], "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
               "first_p50_ms": 1e3 * quantile(firsts, 0.5), "tail_prefill_ms": 1e3 * tail_seconds(args, home, tail, all_tokens - tail)}
    numbers["allowed_ms"] = numbers["tail_prefill_ms"] + 10
    return show(numbers), "clean" if numbers["first_p50_ms"] <= numbers["allowed_ms"] else "FAILED: too late"


async def measure_realtime(port, args, home):
    running, steps, started = [True], [], [0]

    async def batch(c):
        r = 0
        while running[0]:
            r += 1
            last = [None]

            def piece(now):
                if last[0]:
                    steps.append(now - last[0])
                else:
                    started[0] += 1
                last[0] = now

            await chat(port, text(f"{args.seed}-{c}-{r}", 60), 1200, piece, **{"class": "batch"})

    async def alone():
        return [(await chat(port, text(f"{args.seed}-alone-{i}", 20), 2))[0][0] for i in range(20)]

    own = await alone()
    jobs = [asyncio.create_task(batch(c)) for c in range(8)]
    while started[0] < 8:
        await asyncio.sleep(0.1)
    firsts, pick = [], random.Random(args.seed)
    for i in range(args.requests or 500):
        times, _ = await chat(port, text(f"{args.seed}-rt-{i}", 20), 2, **{"class": "realtime"})
        firsts.append(times[0])
        await asyncio.sleep(pick.random() * 0.1)
    running[0] = False
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    own += await alone()
    step, prefill = quantile(steps, 0.5), quantile(own, 0.5)
    allowed = 2 * step + prefill
    numbers = {"requests": len(firsts), "first_p50_ms": 1e3 * quantile(firsts, 0.5), "first_p99_ms": 1e3 * quantile(firsts, 0.99),
               "allowed_ms": 1e3 * allowed, "decode_step_of_8_ms": 1e3 * step, "own_prefill_ms": 1e3 * prefill,
               "within_percent": 100 * sum(first <= allowed for first in firsts) / len(firsts)}
    return show(numbers), "clean" if numbers["first_p99_ms"] <= numbers["allowed_ms"] else "FAILED: too late"


def show(numbers):
    return ", ".join(f"{key} {value:.2f}".rstrip("0").rstrip(".") for key, value in numbers.items())


def main():
    global MODEL
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["chats", "prefix", "realtime"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--peer", help="llama-server of llama.cpp")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--raw", action="store_true", help="chats as plain text, for models without a template")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", default="", help="the store of models; default: one for this run")
    args = parser.parse_args()
    MODEL = os.path.basename(args.model).removesuffix(".gguf")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as servers:
        commands = {"hearth": lambda port: [args.hearth, "serve", args.model, "--listen", f"127.0.0.1:{port}", "--parallel",
                                            str(args.clients), "--context", str(args.context), "--threads", str(args.threads),
                                            "--log-format", "off"]}
        if args.peer:
            commands["peer"] = lambda port: [args.peer, "-m", args.model, "--host", "127.0.0.1", "--port", str(port), "--parallel",
                                             str(args.clients), "-c", str(args.context * args.clients), "-t", str(args.threads)]
        ports = {name: free_port() for name in commands}
        home = args.home or scratch
        for name, command in commands.items():
            servers.enter_context(server(command(ports[name]), ports[name], home))
        if args.what == "chats":
            counts, result = compare_chats(args, ports)
        else:
            counts, result = asyncio.run({"prefix": measure_prefix, "realtime": measure_realtime}[args.what](ports["hearth"], args, home))
    print(f"row: {args.what} on {MODEL} | {counts} | {result}")
    return result.startswith("FAILED")


if __name__ == "__main__":
    sys.exit(main())
