#!/usr/bin/env python3
"""What a server takes that has a model loaded, a connection open and nothing to do. Fails at 0.3 % of a core."""
import argparse, asyncio, sys

from server import Connection, Home, Server, finish, model_file, model_name, request_bytes

SHARE_MAX = 0.003


async def measure(server, model, seconds):
    connection = Connection(server.port)
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    await connection.send(request_bytes("POST", "/v1/chat/completions", server.keys["anna"], body))
    reply = await connection.reply()
    await reply.body()
    await asyncio.sleep(2)
    before = server.cpu_seconds()
    await asyncio.sleep(seconds)
    share = (server.cpu_seconds() - before) / seconds
    await connection.send(request_bytes("GET", "/health", server.keys["anna"]))
    alive = (await connection.reply()).status == 200
    connection.close()
    failures = [] if reply.status == 200 and alive else ["the connection does not answer"]
    if share >= SHARE_MAX:
        failures.append(f"{100 * share:.2f} % of a core")
    return share, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    with Server(Home(args.hearth, ["anna"]), [args.model]) as server:
        share, failures = asyncio.run(measure(server, model_name(args.model), args.seconds))
    return finish(f"{model_name(args.model)} loaded, one connection", f"{100 * share:.3f} % of a core over {args.seconds:.0f} s", failures)


if __name__ == "__main__":
    sys.exit(main())
