#!/usr/bin/env python3
"""Many clients at once, random aborts at every phase: every answer has to be that of a single run, and nothing may stay behind.

  tests/campaign/serve.py [--model FILE] [--hearth PROGRAM] [--seconds 1800] [--clients 64] [--questions 170] [--finished N]

References are made first, one after the other, by a server that does nothing else. With --finished it ends after so many answers.
"""
import argparse, asyncio, collections, json, random, statistics, sys, time

from questions import make_questions
from server import Connection, Failed, Home, Server, finish, model_file, model_name, request_bytes

TENANTS = ("anna", "bert", "carla", "dora")
PHASES = ("connecting", "half a head", "half a body", "waiting", "first piece", "in the middle", "just before the end")
HANGS_AFTER_S = 300


async def ask(connection, key, model, question, stream):
    await connection.send(request_bytes("POST", question.path, key, question.request(model, stream)))
    return await connection.reply()


async def make_references(server, model, questions):
    connection = Connection(server.port)
    for i, question in enumerate(questions):
        streamed = i // 17 % 2 == 1
        reply = await ask(connection, server.keys[TENANTS[0]], model, question, streamed)
        body = await reply.body()
        if reply.status != 200:
            raise Failed(f"{question.path} {question.body}: {reply.status} {body[:500]}")
        question.reference, question.bytes = question.read(body, streamed), len(body)
    connection.close()


class Campaign:
    def __init__(self, server, model, questions, args):
        self.server, self.model, self.questions, self.args = server, model, questions, args
        self.counts, self.failures, self.resident = collections.Counter(), [], []

    def over(self):
        done = self.counts["finished"] >= self.args.finished if self.args.finished else time.monotonic() > self.end
        return done or len(self.failures) > 20

    def check(self, question, body, streamed, how):
        try:
            answer = question.read(body, streamed)
            right = answer == question.reference
        except (AssertionError, ValueError, KeyError, IndexError) as error:
            answer, right = f"{type(error).__name__} {error}: {body[-300:]}", False
        if right:
            self.counts["finished"] += 1
        else:
            self.failures.append(f"{how} {question.path} {question.body} streamed={streamed}: {answer} instead of {question.reference}")

    async def read_reply(self, reply, pick):
        slowly, body = pick.random() < 0.1, b""
        async for piece in reply.pieces():
            body += piece
            if slowly:
                await asyncio.sleep(0.02)
        return body

    async def whole(self, connection, key, question, stream, pick):
        reply = await ask(connection, key, self.model, question, stream)
        body = await self.read_reply(reply, pick)
        if reply.status == 200:
            self.check(question, body, stream, "whole")
        elif reply.status in (429, 503):
            self.counts["refused"] += 1
            await asyncio.sleep(0.2)
        else:
            self.failures.append(f"{question.path} {question.body}: {reply.status} {body[:300]}")

    async def half_closed(self, key, question, stream, pick):
        """A client that sends its request and the end of its stream, and reads on."""
        connection = Connection(self.server.port)
        try:
            await connection.send(request_bytes("POST", question.path, key, question.request(self.model, stream)))
            connection.writer.write_eof()
            reply = await connection.reply()
            body = await self.read_reply(reply, pick)
            self.counts["half-closed, answered"] += 1
            if reply.status == 200:
                self.check(question, body, stream, "half-closed")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.counts["half-closed, closed"] += 1
        finally:
            connection.close()

    async def abort(self, key, question, stream, phase, pick):
        connection = Connection(self.server.port)
        data = request_bytes("POST", question.path, key, question.request(self.model, stream))
        head = data.index(b"\r\n\r\n")
        try:
            await connection.open()
            if phase == "half a head":
                await connection.send(data[:pick.randrange(1, head)])
            elif phase == "half a body":
                await connection.send(data[:pick.randrange(head, len(data) - 1)])
            elif phase != "connecting":
                await connection.send(data)
            if phase in PHASES[:4]:
                await asyncio.sleep(pick.random() * 0.3)
            else:
                reply, seen = await connection.reply(), 0
                enough = {"first piece": 1, "in the middle": question.bytes // 2}.get(phase, question.bytes - 1)
                async for piece in reply.pieces():
                    seen += len(piece)
                    if seen >= enough:
                        break
            self.counts["aborted: " + phase] += 1
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.failures.append(f"the server closed first ({phase}): {error}")
        finally:
            connection.close(rudely=pick.random() < 0.5)

    async def client(self, number):
        pick = random.Random(number)
        connection = Connection(self.server.port)
        while not self.over():
            question, stream = pick.choice(self.questions), pick.random() < 0.7
            key = self.server.keys[pick.choice(TENANTS)]
            what = pick.random()
            try:
                # Who has the lowest class and priority may wait as long as the others keep coming.
                async with asyncio.timeout(max(0, self.end - time.monotonic()) + HANGS_AFTER_S):
                    if what < 0.6:
                        await self.whole(connection, key, question, stream, pick)
                    elif what < 0.65:
                        await self.half_closed(key, question, stream, pick)
                    else:
                        await self.abort(key, question, stream, pick.choice(PHASES), pick)
            except TimeoutError:
                self.failures.append(f"no answer {HANGS_AFTER_S} s after the end: {question.path} {question.body}")
                connection.close(rudely=True)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                self.failures.append(f"an answer was cut off: {question.path} {question.body}: {error}")
                connection.close()
            if pick.random() < 0.2:
                connection.close()
        connection.close()

    async def fill(self, tenant, context, parallel):
        """All places and all room for keys and values at once; gives the answers, which have to be whole."""
        tokens = 16

        async def one(i):
            pick = random.Random(i)
            connection = Connection(self.server.port)
            body = {"model": self.model, "prompt": [pick.randrange(100, 40000) for _ in range(context - tokens)],
                    "max_tokens": tokens, "temperature": 0, "logprobs": 0}
            await connection.send(request_bytes("POST", "/v1/completions", self.server.keys[tenant], body))
            reply = await connection.reply()
            text = await reply.body()
            connection.close()
            return reply.status, text

        answers = []
        for status, text in await asyncio.gather(*(one(i) for i in range(parallel))):
            whole = json.loads(text)
            if status != 200 or len(whole["choices"][0]["logprobs"]["tokens"]) not in range(1, tokens + 1):
                self.failures.append(f"with all places taken: {status} {text[:300]}")
            else:
                answers.append(whole["choices"][0])
        return answers

    async def settled(self):
        """Waits until nothing runs; says what does if that does not come."""
        deadline = time.monotonic() + 60
        while True:
            now = await self.server.metrics()
            left = {name: now.get(name) for name in ("hearth_requests_running", "hearth_requests_waiting", "hearth_requests_parked",
                                                     "hearth_model_holders") if now.get(name) != 0}
            if now.get("hearth_http_connections") != 1:
                left["hearth_http_connections"] = now.get("hearth_http_connections")
            if not left:
                return
            if time.monotonic() > deadline:
                self.failures.append(f"60 s after the last client: {left}")
                return
            await asyncio.sleep(0.2)

    async def watch(self):
        """A line every 30 s, and the memory of each second."""
        begin, last = time.monotonic(), 0
        while not self.over():
            await asyncio.sleep(1)
            elapsed = time.monotonic() - begin
            self.resident.append(self.server.resident_bytes())
            if elapsed - last >= 30:
                last = elapsed
                print(f"{elapsed:6.0f} s  {self.counts['finished']} finished, {self.aborted()} aborted, {len(self.failures)} failures, "
                      f"{self.resident[-1] / 1e6:.1f} MB", flush=True)

    def growth(self):
        """From the twelfth of the time after which it is warm to the last one, of medians: buffers of requests come and go."""
        n = len(self.resident)
        warm, end = self.resident[n // 12:n // 6], self.resident[n - max(1, n // 12):]
        return statistics.median(end) / statistics.median(warm) - 1 if warm else 0.0

    def aborted(self):
        return sum(count for name, count in self.counts.items() if name.startswith("aborted"))

    async def run(self, context, parallel):
        before = await self.fill("anna", context, parallel)
        self.end = time.monotonic() + self.args.seconds
        await asyncio.gather(self.watch(), *(self.client(i) for i in range(self.args.clients)))
        await self.settled()
        if await self.fill("bert", context, parallel) != before:
            self.failures.append("with all places taken the answers are others than at first")
        await self.settled()
        if not self.args.finished and self.growth() >= 0.01:
            self.failures.append(f"memory grew by {100 * self.growth():.2f} % to {self.resident[-1]} bytes")
        bad = [line for line in self.server.log().splitlines() if '"status":5' in line and '"status":503' not in line]
        self.failures += [f"logged: {line}" for line in bad[:3]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--questions", type=int, default=170)
    parser.add_argument("--finished", type=int, default=0)
    args = parser.parse_args()
    model, context, parallel = model_name(args.model), 512, 4 if args.finished else 8
    questions = make_questions(args.questions, seed=1)
    options = ("--context", str(context), "--threads", "2")
    home = Home(args.hearth, TENANTS)
    with Server(home, [args.model], *options, "--parallel", "1", "--prompt-cache", "0") as server:
        asyncio.run(make_references(server, model, questions))
    print(f"{len(questions)} references made", flush=True)
    with Server(home, [args.model], *options, "--parallel", str(parallel), "--queue", "128", "--prompt-cache", "64MiB") as server:
        campaign = Campaign(server, model, questions, args)
        asyncio.run(campaign.run(context, parallel))
    counts = campaign.counts
    for name in sorted(counts):
        print(f"  {counts[name]:7d} {name}")
    how_long = f"until {args.finished} answers" if args.finished else f"{args.seconds:.0f} s"
    growth = "" if args.finished else f", memory {100 * campaign.growth():+.2f} %"
    return finish(f"{args.clients} clients, {model}, {how_long}", f"{counts['finished']} answers equal to a single run, "
                  f"{campaign.aborted()} aborted, {counts['refused']} refused{growth}", campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
