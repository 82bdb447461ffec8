#!/usr/bin/env python3
"""Random workloads within a bound for memory: it is kept at every moment, nothing is killed, and every answer is the one of ample memory.

  tests/campaign/memory.py [--model FILE] [--second FILE] [--workloads 1000] [--hearth PROGRAM]

Four bounds, from twice the larger model's weights to 40 % of them (or the least that works). A workload is one to four requests at once for
one of the models, with prompts and answers of many lengths; sometimes the bound is lowered first, or raised again. As root the server runs in a
memory control group (version 1 or 2) of the bound and 32 MiB. Resident memory, anonymous and mapped together, is read every 2 ms; a bound that
was just lowered counts after one second.
"""
import argparse, asyncio, json, os, pathlib, random, subprocess, sys, threading, time

from server import Connection, Failed, Home, Server, finish, model_file, model_name, request_bytes

GROUP_REST = 32 << 20
LOWERED_WITHIN_S = 1.0
SHARES = (2.0, 1.0, 0.7, 0.4)
OPTIONS = ("--context", "1024", "--parallel", "4", "--threads", "2", "--queue", "64", "--prompt-cache", "0")


class Group:
    """A control group for the process that starts next; without root there is none."""

    def __init__(self, bytes_max):
        old = pathlib.Path("/sys/fs/cgroup/memory")
        self.v1 = old.is_dir()
        self.path = (old if self.v1 else pathlib.Path("/sys/fs/cgroup")) / f"hearth-campaign-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(bytes_max))
        except OSError as error:
            print(f"no control group: {error}", flush=True)
            self.path = None

    def __enter__(self):
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def leave(self):
        """This process goes back; what it started stays."""
        if self.path:
            (self.path.parent / "cgroup.procs").write_text(str(os.getpid()))

    def __exit__(self, *_):
        self.leave()
        if self.path:
            self.path.rmdir()


class Watcher:
    """Reads what a process has resident, and remembers by how much it was over the bound."""

    def __init__(self, server, bound):
        self.server, self.bounds, self.over, self.highest, self.samples = server, [(0.0, bound)], 0, 0, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def lower_to(self, bound):
        self.bounds.append((time.monotonic(), bound))

    def bound(self):
        """The highest of those that may still hold."""
        now = time.monotonic()
        past = [bound for since, bound in self.bounds if since + LOWERED_WITHIN_S <= now][-1:]
        return max(past + [bound for since, bound in self.bounds if since + LOWERED_WITHIN_S > now])

    def watch(self):
        while not self.stopped.wait(0.002):
            try:
                resident = self.server.resident_bytes()
            except (OSError, IndexError):
                return
            self.samples += 1
            self.highest = max(self.highest, resident)
            self.over = max(self.over, resident - self.bound())

    def stop(self):
        self.stopped.set()
        self.thread.join()


def stalled_seconds():
    """For how long anybody on this machine waited for memory."""
    try:
        return int(pathlib.Path("/proc/pressure/memory").read_text().split("total=")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return 0.0


async def ask(server, question):
    connection = Connection(server.port)
    try:
        await connection.send(request_bytes("POST", "/v1/completions", server.keys["anna"], question["body"]))
        reply = await connection.reply()
        body = await reply.body()
        return reply.status, body
    finally:
        connection.close()


async def set_limit(server, bytes_max):
    connection = Connection(server.port)
    await connection.send(request_bytes("POST", "/v1/memory", server.boss, {"limit": bytes_max}))
    reply = await connection.reply()
    await reply.body()
    connection.close()
    return reply.status


def text_of(body):
    choice = json.loads(body)["choices"][0]
    return choice["text"], choice["finish_reason"]


def make_questions(models):
    pick = random.Random(1)
    questions = []
    for model in models:
        for i in range(16):
            prompt = [pick.randrange(100, 30000) for _ in range(pick.choice((3, 20, 60, 200, 700)))]
            questions.append({"model": model, "body": {"model": model, "prompt": prompt, "max_tokens": pick.choice((1, 4, 8, 12)),
                                                       "temperature": pick.choice((0, 0, 1)), "seed": i}})
    return questions


class Campaign:
    def __init__(self, questions):
        self.questions, self.failures, self.answers, self.refused, self.lowered = questions, [], 0, 0, 0

    async def references(self, server):
        for question in self.questions:
            status, body = await ask(server, question)
            if status != 200:
                raise Failed(f"{status} {body[:300]}")
            question["reference"] = text_of(body)

    async def one(self, server, question):
        for _ in range(600):  # a model that is in use leaves no room for another
            status, body = await ask(server, question)
            if status not in (429, 503):
                break
            self.refused += 1
            await asyncio.sleep(0.1)
        if status != 200:
            self.failures.append(f"{question['model']}: {status} {body[:300]}")
        elif text_of(body) != question["reference"]:
            self.failures.append(f"{question['model']}: {text_of(body)} instead of {question['reference']}")
        else:
            self.answers += 1

    async def run(self, server, watcher, bound, least, workloads, pick):
        models = list(dict.fromkeys(question["model"] for question in self.questions))
        for _ in range(workloads):
            if pick.random() < 0.1:
                limit = pick.choice((bound, max(least, int(bound * 0.8))))
                watcher.lower_to(limit)
                self.lowered += 1
                if await set_limit(server, limit) != 200:
                    self.failures.append(f"a limit of {limit} was refused")
            model = pick.choice(models) if pick.random() < 0.3 else models[0]
            mine = [question for question in self.questions if question["model"] == model]
            await asyncio.gather(*(self.one(server, pick.choice(mine)) for _ in range(pick.choice((1, 1, 2, 4)))))
            if len(self.failures) > 20:
                return


def least_bound(hearth, home, models):
    """The least that the largest of the models starts in, by its plan."""
    least = 0
    for model in models:
        command = [hearth, "plan", model, "--context", "1024", "--parallel", "1", "--memory", "48M"]
        said = subprocess.run(command, env=home.environment, capture_output=True, text=True)
        words = (said.stdout + said.stderr).split()
        least = max(least, int(words[words.index("would") - 2]) << 20 if "would" in words else 0)
    return least + (40 << 20)  # the server itself, and what the other model left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--second", help="a smaller model that is asked for in between")
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--workloads", type=int, default=1000)
    args = parser.parse_args()
    files = [args.model] + ([args.second] if args.second else [])
    home = Home(os.path.abspath(args.hearth), ["anna"])
    campaign, rows, stalled, passed = Campaign(make_questions([model_name(file) for file in files])), [], 0.0, 0.0
    for file in files:
        subprocess.run([args.hearth, "pull", "--link", file, "--name", model_name(file)], env=home.environment, check=True, capture_output=True)
    with Server(home, [], *OPTIONS) as server:
        asyncio.run(campaign.references(server))
    least, size = least_bound(args.hearth, home, files), max(os.path.getsize(file) for file in files)
    for number, share in enumerate(SHARES):
        bound = max(int(size * share), least)
        with Group(bound + GROUP_REST) as group:
            with Server(home, [], "--memory", str(bound), *OPTIONS) as server:
                group.leave()
                watcher, begin, before = Watcher(server, bound), time.monotonic(), stalled_seconds()
                try:
                    asyncio.run(campaign.run(server, watcher, bound, least, args.workloads // len(SHARES), random.Random(number)))
                except (OSError, asyncio.IncompleteReadError) as error:
                    campaign.failures.append(f"the server is gone in {bound >> 20} MiB: {error}")
                watcher.stop()
                stalled, passed = stalled + stalled_seconds() - before, passed + time.monotonic() - begin
        rows.append(f"{watcher.highest >> 20} of {bound >> 20}")
        print(f"{bound >> 20} MiB: at most {watcher.highest >> 20} MiB resident in {watcher.samples} samples, {campaign.answers} answers so far, "
              f"{time.monotonic() - begin:.0f} s", flush=True)
        if watcher.over > 0:
            campaign.failures.append(f"{watcher.over} bytes more than the bound of {bound} were resident")
    waited = stalled / max(passed, 1e-9)
    if waited > 0.05:
        campaign.failures.append(f"{100 * waited:.1f} % of the time somebody waited for memory")
    return finish(f"{' and '.join(model_name(file) for file in files)}, resident MiB at most: {', '.join(rows)}",
                  f"{args.workloads} workloads, {campaign.answers} answers equal to those of ample memory, bound changed {campaign.lowered} times, "
                  f"{100 * waited:.1f} % of the time waiting for memory", campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
