#!/usr/bin/env python3
"""Many conversations on a small box: memory for a few of them, the others on disk; every answer has to be that of a server with room.

  tests/campaign/parked.py [--model FILE] [--hearth PROGRAM] [--conversations 100] [--turns 3] [--memory BYTES]

All conversations take a turn in an order drawn anew, four at a time; one in ten is real-time work, which others make place for.
"""
import argparse, asyncio, json, random, subprocess, sys

from server import Connection, Failed, Home, Server, finish, model_file, model_name, request_bytes

CONTEXT, PARALLEL, ANSWER = 1024, 2, 24
WORDS = "ship harbour lamp winter river stone letter garden engine window bridge song market cloud road sailor".split()


def beginning(number):
    pick = random.Random(number)
    return f"Story {number}. " + " ".join(pick.choice(WORDS) for _ in range(220)) + ".\n"


async def ask(server, model, text, turn_class):
    connection = Connection(server.port)
    body = {"model": model, "prompt": text, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True, "class": turn_class}
    await connection.send(request_bytes("POST", "/v1/completions", server.keys["anna"], body))
    reply = await connection.reply()
    whole = await reply.body()
    connection.close()
    if reply.status != 200:
        raise Failed(f"{reply.status} {whole[:300]}")
    answer = json.loads(whole)
    return answer["choices"][0]["text"], answer["usage"]


async def talk(server, model, args, at_once, sample=None):
    """What was said in each conversation; tokens of prompts, and of those not run again, after the first turn."""
    texts, prompt, cached = {i: beginning(i) for i in range(args.conversations)}, 0, 0
    pick, gate = random.Random(1), asyncio.Semaphore(at_once)

    async def turn(number, turn_class):
        nonlocal prompt, cached
        async with gate:
            answer, usage = await ask(server, model, texts[number], turn_class)
            if sample:
                sample()
        texts[number] += answer + "\nAnd then?\n"
        return usage["prompt_tokens"], usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)

    for number in range(args.turns):
        order = list(texts)
        pick.shuffle(order)
        classes = ["realtime" if pick.random() < 0.1 else "batch" for _ in order]
        for used, reused in await asyncio.gather(*(turn(i, c) for i, c in zip(order, classes))):
            prompt, cached = prompt + used * (number > 0), cached + reused * (number > 0)
    return texts, prompt, cached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", type=int, help="bytes (default: what the model and two contexts take)")
    args = parser.parse_args()
    model, home, failures, peak = model_name(args.model), Home(args.hearth, ["anna"]), [], 0
    shape = ["--context", str(CONTEXT), "--parallel", str(PARALLEL)]
    plan = subprocess.run([args.hearth, "plan", args.model, *shape, "--json", "--memory", "64G"], check=True, capture_output=True, text=True)
    memory = args.memory or json.loads(plan.stdout)["plan"]["total_bytes"]
    with Server(home, [args.model], *shape, "--prompt-cache", "0", "--queue", "128") as server:
        expected, _, _ = asyncio.run(talk(server, model, args, 1))
    with Server(home, [args.model], *shape, "--memory", str(memory), "--swap", "4GiB", "--queue", "128") as server:
        def sample():
            nonlocal peak
            peak = max(peak, server.resident_bytes())
        texts, prompt, cached = asyncio.run(talk(server, model, args, 4, sample))
    for number, text in texts.items():
        if text != expected[number]:
            failures.append(f"conversation {number}: {text[-200:]!r} instead of {expected[number][-200:]!r}")
    if peak > memory:
        failures.append(f"{peak} bytes were resident, {memory} are allowed")
    counts = (f"{args.conversations} conversations x {args.turns} turns in {memory / 1e6:.0f} MB (peak {peak / 1e6:.0f} MB), {len(texts) - len(failures)} equal; "
              f"{100 * cached / max(prompt, 1):.1f} % of {prompt} tokens of later prompts not run again")
    return finish(model, counts, failures)


if __name__ == "__main__":
    sys.exit(main())
