#!/usr/bin/env python3
"""Three servers of one site share requests; in the middle one of them is killed, or frozen for five seconds. Clients whose own door dies
ask another one for the rest. Every answer has to be the one that a single server gives: every event of a stream, in order, once.

  tests/campaign/doors.py [--requests 200] [--rounds 4] [--seed 1] [--clients 8]

Servers are processes on this machine; all share one folder, and so one site, one key and its certificates.
"""
import argparse, asyncio, json, os, random, signal, socket, subprocess, sys, time, urllib.request

from server import Connection, Failed, Home, finish, model_file, model_name, request_bytes

KINDS = ("killed", "frozen")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}}, "required": ["name", "age"]}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Door:
    def __init__(self, home, model, name, port, door, peers):
        self.home, self.name, self.port, self.door = home, name, port, door
        self.log_path = os.path.join(home.folder.name, f"{name}.log")
        command = [home.hearth, "serve", model, "--listen", f"127.0.0.1:{port}", "--door", f"127.0.0.1:{door}", "--require-key",
                   "--parallel", "4", "--threads", "1", "--context", "512", "--log-format", "off"]  # fmt: skip
        if peers:
            command += ["--peers", ",".join(f"127.0.0.1:{peer}" for peer in peers)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=home.environment)

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def wait_until_ready(self):
        while "Listening on" not in self.log():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} did not start: " + self.log()[-2000:])
            time.sleep(0.05)

    def end(self):
        self.process.kill()
        self.process.wait()


def metrics_lines(home, port, name):
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {home.boss}"})) as reply:
        return [line for line in reply.read().decode().splitlines() if line.startswith(name)]


def start(home, model, names):
    ports = [(free_port(), free_port()) for _ in names]
    doors = [Door(home, model, name, *ports[i], [p for j, (_, p) in enumerate(ports) if j != i]) for i, name in enumerate(names)]
    for door in doors:
        door.wait_until_ready()
    # A door that died before it ever heard of another one would take its clients' answers with it.
    while not all(sum(line.endswith(" 1") for line in metrics_lines(home, door.port, "hearth_door_up{")) == len(names) - 1 for door in doors):
        time.sleep(0.05)
    return doors


def questions(count, pick, model):
    """(path, body) of requests that differ, all of them with a seed."""
    made = []
    for i in range(count):
        topic = pick.choice(("the sea", "a ship", "the moon", "an old house", "bread", "the road north"))
        body = {"model": model, "stream": pick.random() < 0.7, "max_tokens": pick.randint(8, 64), "seed": i,
                "temperature": pick.choice((0, 0.8))}  # fmt: skip
        if pick.random() < 0.3:
            made.append(("/v1/completions", body | {"prompt": f"{i}. Once upon a time {topic}"}))
            continue
        body["messages"] = [{"role": "user", "content": f"{i}: Tell me about {topic}."}]
        if pick.random() < 0.2:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
        elif pick.random() < 0.2:
            body["n"] = 2
        made.append(("/v1/chat/completions", body))
    return made


class Told:
    """What a client has of a stream."""

    def __init__(self):
        self.last, self.events, self.rest, self.ended = None, [], b"", False
        self.frames, self.heard, self.pause = set(), None, 0.0

    def take(self, piece):
        now = time.monotonic()
        if self.heard is not None:
            self.pause = max(self.pause, now - self.heard)
        self.heard = now
        *whole, self.rest = (self.rest + piece).split(b"\n\n")
        for event in whole:
            lines = dict(line.split(b": ", 1) for line in event.split(b"\n"))
            self.last = lines[b"id"].decode()
            if lines[b"data"] == b"[DONE]":
                self.ended = True
                continue
            chunk = json.loads(lines[b"data"])
            self.frames.add((chunk.pop("id"), chunk.pop("created")))
            self.events.append(chunk)

    def answer(self):
        """What has to be equal: the events of each choice, in order."""
        if len(self.frames) != 1:
            return f"ids and times of an answer changed: {self.frames}"
        by_choice = {}
        for event in self.events:
            by_choice.setdefault(event["choices"][0]["index"], []).append(event)
        return by_choice


async def ask(question, key, ports, request_id):
    """The answer, asked at the first port; at the next one, for the rest, as often as a connection breaks."""
    path, body = question
    told, hops = Told(), 0
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        connection = Connection(ports[hops % len(ports)])
        try:
            head = request_bytes("POST", path, key, body).split(b"\r\n", 1)
            more = f"Idempotency-Key: {request_id}\r\n" + (f"Last-Event-ID: {told.last}\r\n" if told.last else "")
            await connection.send(head[0] + b"\r\n" + more.encode() + head[1])
            reply = await connection.reply()
            if reply.status == 429:  # all are full, as it says; come again
                await reply.body()
                await asyncio.sleep(min(int(reply.headers.get("retry-after", 1)), 2))
                continue
            if reply.status != 200:
                return f"status {reply.status}: {(await reply.body())[:200]}", hops, 0.0
            if not body["stream"]:
                answer = json.loads(await reply.body())
                return [(c.get("message", c.get("text")), c["finish_reason"]) for c in answer["choices"]], hops, 0.0
            told.rest = b""
            async for piece in reply.pieces():
                told.take(piece)
            if not told.ended:
                return "a stream ended without [DONE]", hops, 0.0
            return told.answer(), hops, told.pause
        except (OSError, asyncio.IncompleteReadError):
            hops += 1
            await asyncio.sleep(0.05)
        finally:
            connection.close()
    return "no answer in 240 s", hops, 0.0


async def ask_all(asked, key, ports_of, clients, tag, when_done=None):
    answers, queue, done = [None] * len(asked), list(range(len(asked)))[::-1], 0

    async def client():
        nonlocal done
        while queue:
            i = queue.pop()
            answers[i] = await ask(asked[i], key, ports_of(i), f"{tag}-{i}")
            done += 1
            if when_done:
                when_done(done)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def one_round(home, model, asked, expected, kind, pick, clients, tag):
    doors = start(home, model, ["a", "b", "c"])
    ports, victim, struck = [door.port for door in doors], pick.randrange(3), []

    def strike(done):
        if struck or done < len(asked) * fraction:
            return
        struck.append(time.monotonic())
        doors[victim].process.send_signal(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        if kind == "frozen":
            asyncio.get_running_loop().call_later(5, doors[victim].process.send_signal, signal.SIGCONT)

    fraction = pick.uniform(0.1, 0.5)
    # A client of a frozen door would wait for it as long as it takes; those of a killed one go elsewhere by themselves.
    entry = [port for i, port in enumerate(ports) if kind == "killed" or i != victim]
    try:
        answers = await ask_all(asked, home.keys["user"], lambda i: entry[i % len(entry):] + entry[: i % len(entry)], clients, tag, strike)
        failures = [f"{tag} {kind}: request {i}: {answer} instead of {want}"[:600]
                    for i, ((answer, _, _), want) in enumerate(zip(answers, expected)) if answer != want]  # fmt: skip
        routed = 0
        for i, door in enumerate(doors):
            if i == victim and kind == "killed":
                continue
            lines = await asyncio.to_thread(metrics_lines, home, door.port, "hearth_door_requests_total")
            routed += sum(float(line.rsplit(" ", 1)[1]) for line in lines
                          if "127.0.0.1" in line)  # fmt: skip
        return failures, sum(hops > 0 for _, hops, _ in answers), int(routed), [pause for _, _, pause in answers]
    finally:
        for door in doors:
            door.end()


async def main():
    options = argparse.ArgumentParser()
    options.add_argument("--hearth", default="build/release/hearth")
    options.add_argument("--model", default=model_file())
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    pick = random.Random(options.seed)
    home = Home(os.path.abspath(options.hearth), ["user"])
    subprocess.run([home.hearth, "cluster", "init", "--name", "campaign"], env=home.environment, check=True, capture_output=True)
    asked = questions(options.requests, pick, model_name(options.model))
    single = start(home, options.model, ["single"])[0]
    expected = [answer for answer, _, _ in await ask_all(asked, home.keys["user"], lambda i: [single.port], options.clients, "single")]
    single.end()
    failures = [f"the single server: request {i}: {answer}" for i, answer in enumerate(expected) if isinstance(answer, str)]
    resumed, routed, pauses = 0, 0, []
    for i in range(options.rounds):
        kind = KINDS[i % len(KINDS)]
        wrong, hopped, sent_on, paused = await one_round(home, options.model, asked, expected, kind, pick, options.clients, f"round{i}")
        failures, resumed, routed, pauses = failures + wrong, resumed + hopped, routed + sent_on, pauses + paused
        print(f"{kind}: {len(asked) - len(wrong)} of {len(asked)} equal, {hopped} asked another door for the rest, "
              f"{sent_on} answered by another door, longest pause {max(paused):.2f} s", flush=True)
    if routed == 0:
        failures.append("no door sent anything on")
    counts = f"{options.rounds * len(asked)} answers, {resumed} gone on with at another door, {routed} sent on, longest pause {max(pauses):.2f} s"
    return finish(f"3 doors of {model_name(options.model)}, one killed or frozen", counts, failures)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
