#!/usr/bin/env python3
"""What tenants learn of each other: nothing of their texts, and nothing from the time an answer takes.

  tests/campaign/tenants.py [canaries | timing] [--requests 100000] [--pairs 4000]

canaries: every prompt carries a word of its tenant's own; no answer, list, error, metric or line of the log of anyone else has it.
timing: the time to the first token of prompts that another tenant's requests just began with, against fresh ones; as a control the
same with the tenant's own, which has to show.
"""
import argparse, asyncio, itertools, json, os, random, sys, time

from server import Connection, Home, Server, finish, model_file, model_name, request_bytes

TINY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/families/llama/model.gguf")
TENANTS = ("anna", "bert", "carla", "dora")
CANARIES = {name: f"CANARY{i}Q{''.join(random.SystemRandom().choices('ABCDEFGHJKLMNPRSTVWXZ', k=10))}" for i, name in enumerate(TENANTS)}
CONNECTIONS = 16
AUC_TOLERANCE, AUC_CONTROL_MIN = 0.02, 0.9


class Canaries:
    def __init__(self, server, requests):
        self.server, self.left, self.done, self.failures = server, requests, 0, []
        self.refused, self.own, self.files = 0, 0, {name: [] for name in TENANTS}

    def request(self, tenant, pick):
        """All tenants' prompts begin alike, so that what is shared by mistake would be used; some requests are wrong."""
        secret = CANARIES[tenant]
        prompt = "THE SAME BEGINNING FOR ALL OF THEM, " * pick.randint(0, 2) + f"THE SECRET IS {secret} " + str(pick.randrange(10))
        complete = {"model": "model", "prompt": prompt, "max_tokens": pick.randint(1, 6), "temperature": pick.choice((0, 1))}
        others = [id for name in TENANTS if name != tenant for id in self.files[name]]
        form = (f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name="file"; '
                f'filename="{secret}.jsonl"\r\n\r\n{json.dumps({"custom_id": secret})}\r\n--b--\r\n').encode()
        kinds = [
            (60, "POST", "/v1/completions", complete), (10, "POST", "/v1/completions", {**complete, "stream": True}),
            (5, "POST", "/v1/completions", {**complete, "echo": True}), (3, "POST", "/v1/completions", {**complete, "user": secret, "n": 2}),
            (3, "POST", "/v1/completions", {**complete, "stop": [secret], "logprobs": 2}),
            (2, "POST", "/v1/completions", {**complete, secret: secret, "temperature": secret}),
            (2, "POST", "/v1/chat/completions", {"model": secret, "messages": [{"role": "user", "content": prompt}]}),
            (2, "POST", "/v1/decide", {"model": "model", "state": prompt, "questions": {secret: {"type": "choice", "criteria": ["A", secret]}}}),
            (3, "POST", "/tokenize", {"model": "model", "content": prompt}), (2, "POST", "/api/generate", {"model": "model", "prompt": prompt, "raw": True}),
            (1, "GET", "/v1/models", None), (1, "GET", "/api/tags", None), (1, "GET", "/api/ps", None), (1, "GET", "/api/hearth/status", None),
            (1, "GET", "/v1/files", None), (1, "GET", "/v1/batches", None), (1, "GET", f"/v1/models/{secret}", None)]
        if others:
            kinds += [(1, "GET", f"/v1/files/{pick.choice(others)}{pick.choice(('', '/content'))}", None),
                      (1, "DELETE", f"/v1/files/{pick.choice(others)}", None)]
        if len(self.files[tenant]) < 50:
            kinds.append((1, "POST", "/v1/files", form))
        weights = [kind[0] for kind in kinds]
        return pick.choices(kinds, weights)[0][1:]

    async def client(self, number):
        pick, connection = random.Random(number), Connection(self.server.port)
        while self.left > 0 and not self.failures:
            self.left -= 1
            tenant = pick.choice(TENANTS)  # on one connection, one after the other
            method, path, body = self.request(tenant, pick)
            kind = "multipart/form-data; boundary=b" if isinstance(body, bytes) else "application/json"
            await connection.send(request_bytes(method, path, self.server.keys[tenant], body, kind))
            reply = await connection.reply()
            text = (await reply.body()).decode(errors="replace")
            self.judge(tenant, method, path, reply, text)
        connection.close()

    def judge(self, tenant, method, path, reply, text):
        self.done += 1
        if self.done % 10000 == 0:
            print(f"{self.done} requests", flush=True)
        seen = text + str(reply.headers)
        self.own += CANARIES[tenant] in seen
        for other in TENANTS:
            if other != tenant and CANARIES[other] in seen:
                self.failures.append(f"{method} {path} of {tenant} shows the word of {other}: {seen[:500]}")
        if reply.status >= 500 and reply.status != 503:
            self.failures.append(f"{method} {path}: {reply.status} {text[:300]}")
        if reply.status == 503 or reply.status == 429:
            self.refused += 1
        if path.startswith("/v1/files/") and reply.status != 404:
            self.failures.append(f"{method} {path} of another tenant: {reply.status}")
        if method == "POST" and path == "/v1/files" and reply.status == 200:
            self.files[tenant].append(json.loads(text)["id"])

    async def run(self):
        await asyncio.gather(*(self.client(i) for i in range(CONNECTIONS)))
        if self.own == 0:
            self.failures.append("no tenant saw its own word; nothing was tested")
        connection = Connection(self.server.port)
        await connection.send(request_bytes("GET", "/metrics", self.server.boss))
        metrics = (await (await connection.reply()).body()).decode()
        connection.close()
        for place, text in (("the metrics", metrics), ("the log", self.server.log())):
            for tenant, secret in CANARIES.items():
                if secret in text:
                    at = text.index(secret)
                    self.failures.append(f"{place} show the word of {tenant}: {text[max(0, at - 200):at + 50]}")


def auc(longer, shorter):
    """The chance that one of `longer` is longer than one of `shorter`."""
    ranked = sorted([(value, 1) for value in longer] + [(value, 0) for value in shorter])
    total, at = 0.0, 0
    for _, group in itertools.groupby(ranked, key=lambda pair: pair[0]):
        group = list(group)
        total += sum(own for _, own in group) * (at + (len(group) + 1) / 2)
        at += len(group)
    return (total - len(longer) * (len(longer) + 1) / 2) / (len(longer) * len(shorter))


class Timing:
    """Prompts of random tokens, so that no two begin alike by chance."""

    PROMPT_TOKENS = 72

    def __init__(self, server, model):
        self.server, self.model, self.connection, self.pick = server, model, Connection(server.port), random.Random(5)

    def prompt(self):
        return [self.pick.randrange(100, 40000) for _ in range(self.PROMPT_TOKENS)]

    async def first_token_seconds(self, tenant, prompt):
        body = {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        data = request_bytes("POST", "/v1/completions", self.server.keys[tenant], body)
        begin = time.perf_counter()
        await self.connection.send(data)
        reply = await self.connection.reply()
        await reply.body()
        assert reply.status == 200
        return time.perf_counter() - begin

    async def measure(self, primer, asker, pairs):
        """Pairs of (a prompt that `primer` just asked, a fresh one) in random order."""
        known, fresh = [], []
        for i in range(pairs):
            prompt = self.prompt()
            await self.first_token_seconds(primer, prompt)
            both = [(known, prompt), (fresh, self.prompt())]
            self.pick.shuffle(both)
            for times, asked in both:
                times.append(await self.first_token_seconds(asker, asked))
            if (i + 1) % 500 == 0:
                print(f"{primer}, {asker}: {i + 1} pairs, AUC {auc(fresh, known):.3f}", flush=True)
        return auc(fresh, known)


def canaries(args):
    with Server(Home(args.hearth, TENANTS), [TINY], "--parallel", "8", "--threads", "1", "--context", "256") as server:
        campaign = Canaries(server, args.requests)
        asyncio.run(campaign.run())
    return f"{campaign.done} requests of {len(TENANTS)} tenants, {campaign.refused} refused", campaign.failures


async def measure_both(server, args):
    timing = Timing(server, model_name(args.model))
    control = await timing.measure("anna", "anna", max(100, args.pairs // 10))
    other = await timing.measure("bert", "anna", args.pairs)
    timing.connection.close()
    return control, other


def timing(args):
    with Server(Home(args.hearth, TENANTS), [args.model], "--threads", "2", "--context", "512") as server:
        control, other = asyncio.run(measure_both(server, args))
    failures = []
    if abs(other - 0.5) > AUC_TOLERANCE:
        failures.append(f"another tenant's prompts show: AUC {other:.3f}")
    if control < AUC_CONTROL_MIN:
        failures.append(f"not even a tenant's own prompts show: AUC {control:.3f}")
    return f"{args.pairs} pairs: AUC {other:.3f}, with its own prompts {control:.3f}", failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["canaries", "timing", "all"], nargs="?", default="all")
    parser.add_argument("--model", default=model_file(), help="for timing")
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--requests", type=int, default=100000)
    parser.add_argument("--pairs", type=int, default=4000)
    args = parser.parse_args()
    counts, failures = [], []
    for name, measure in (("canaries", canaries), ("timing", timing)):
        if args.what in (name, "all"):
            count, found = measure(args)
            counts.append(count)
            failures += found
    return finish("canaries and timing" if args.what == "all" else args.what, "; ".join(counts), failures)


if __name__ == "__main__":
    sys.exit(main())
