#!/usr/bin/env python3
"""What stages cost and gain: ratios of runs in turn, on one machine, a thread for each stage.

  bench/chain_speed.py --hearth build/release/hearth --model FILE [--rpc FOLDER] [--pairs 5] [--tokens 128]

1. Four requests at once: two stages (the owner's own layers and one machine) of one thread each, to one process of two threads.
2. One request: what a boundary between stages costs a token, from chains of one and of four machines.
3. With --rpc, the folder of llama.cpp's ggml-rpc-server and llama-bench: one request over two stages, to llama.cpp over two rpc-servers.
The texts of 1 are compared. Figures are medians of the pairs' ratios; nothing else may run meanwhile.
"""
import argparse, concurrent.futures, json, os, pathlib, socket, statistics, subprocess, sys, tempfile, time, urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/campaign"))
from faults import Machine, Owner


def rate_of_four(owner, tokens):
    """Tokens a second, and the texts."""
    def ask(i):
        body = {"prompt": f"The sea is wide. {'abcd'[i]}", "max_tokens": tokens, "temperature": 0.7, "seed": i, "ignore_eos": True}
        request = urllib.request.Request(f"http://127.0.0.1:{owner.port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["choices"][0]["text"]

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(ask, range(4)))
    return 4 * tokens / (time.monotonic() - begin), texts


def seconds_of_one(hearth, environment, model, tokens, stages):
    """A token's, decoding."""
    command = [hearth, "run", model, "The sea", "--raw", "--temperature", "0", "--max-tokens", str(tokens), "--context", "512", "--speculate", "off", "--json"]
    done = json.loads(subprocess.run(command + (["--stages", ",".join(stages)] if stages else []), env=environment, check=True, capture_output=True).stdout)
    return done["timing"]["decode_seconds"] / (done["usage"]["completion_tokens"] - 1)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_turn(pairs, ours, theirs):
    ratios = []
    for _ in range(pairs):
        b = theirs()
        ratios.append(ours() / b)
    return statistics.median(ratios), ratios


def said(ratios):
    return " ".join(f"{ratio:.2f}" for ratio in ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rpc")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--own-layers", type=int, nargs="*", default=[0], help="that the owner runs in 1; 0: two machines, and the owner has no layers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = dict(os.environ, HEARTH_HOME=home, HEARTH_THREADS="1")
        subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
        machines = [Machine(options.hearth, environment) for _ in range(4)]
        addresses = [machine.address for machine in machines]
        serve = ["--parallel", "4", "--speculate", "off"]
        alone = Owner(options.hearth, options.model, dict(environment, HEARTH_THREADS="2"), serve)
        for layers in options.own_layers:
            stages = ["--stages", addresses[0], "--own-layers", str(layers)] if layers else ["--stages", ",".join(addresses[:2])]
            chain = Owner(options.hearth, options.model, environment, serve + stages)
            rate_of_four(alone, 8), rate_of_four(chain, 8)
            texts = [rate_of_four(owner, options.tokens)[1] for owner in (alone, chain)]
            middle, ratios = in_turn(options.pairs, lambda: rate_of_four(chain, options.tokens)[0], lambda: rate_of_four(alone, options.tokens)[0])
            print(f"four requests, two stages ({f'{layers} layers at the owner' if layers else 'two machines'}) to one process of two threads: {middle:.2f} ({said(ratios)}); "
                  f"texts {'equal' if texts[0] == texts[1] else 'DIFFER'}", flush=True)
            chain.end()
        alone.end()
        costs = []
        for _ in range(options.pairs):
            one = seconds_of_one(options.hearth, environment, options.model, options.tokens, addresses[:1])
            costs.append((seconds_of_one(options.hearth, environment, options.model, options.tokens, addresses) - one) / 3 * 1e3)
        print(f"a boundary costs a token {statistics.median(costs):.3f} ms ({said(costs)})", flush=True)
        if options.rpc:
            ports = [free_port(), free_port()]
            servers = [subprocess.Popen([f"{options.rpc}/ggml-rpc-server", "-t", "1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for port in ports]
            time.sleep(1)

            def theirs():
                command = [f"{options.rpc}/llama-bench", "-m", options.model, "-t", "1", "-p", "0", "-n", str(options.tokens), "-r", "1", "-ngl", "99", "-ts", "1/1", "-o", "json",
                           "--rpc", ",".join(f"127.0.0.1:{port}" for port in ports)]
                return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]["avg_ts"]

            middle, ratios = in_turn(options.pairs, lambda: 1 / seconds_of_one(options.hearth, environment, options.model, options.tokens, addresses[:2]), theirs)
            print(f"one request, two stages, to llama.cpp's RPC: {middle:.2f} ({said(ratios)})", flush=True)
            for server in servers:
                server.kill()
        for machine in machines:
            machine.end()


if __name__ == "__main__":
    main()
