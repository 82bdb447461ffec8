#!/usr/bin/env python3
"""A model in two stages, mostly with a third machine to spare; in the middle of answers machines are struck, at random moments of each kind.
Every answer has to be the one that a single process gives, to the byte, and no pause may be longer than two seconds.

  tests/campaign/faults.py [--seconds 600] [--seed 1] [--model FILE] [--answers N] [--pause 2] [--only "slow in prefill"]

Strikes: killed; frozen for five seconds (and back, as a zombie); cut off for five seconds (its network interface goes down); slow (one
per cent of a processor); two killed one after the other. Moments: while the prompt is read, at the first token, in the middle, while tokens are
guessed, while the answer keeps to a schema. A machine is a process of `hearth node` on this one; all share one folder, and so one site. With
root and iproute2 each lives in a network namespace of its own, on one bridge; else nobody is cut off.
"""
import argparse, collections, http.client, itertools, json, os, random, signal, socket, subprocess, sys, tempfile, threading, time

from server import finish, model_file

COPY = "Repeat this list word by word, three times: " + " ".join(f"item{n} is box {n * 7 % 10};" for n in range(24))
LONG = "Read this, then tell a story about it. " + " ".join(f"On day {n} the ship sailed {n * 13 % 40} miles and met {n % 7} whales." for n in range(24))
SHORT = "Write a long story about a ship, and count 1 2 3 4 1 2 3 4."
SCHEMA = {"type": "array", "minItems": 8, "maxItems": 12, "items": {"type": "object", "required": ["name", "miles"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "maxLength": 24}, "miles": {"type": "integer", "minimum": 1, "maximum": 999}}}}
# Prompt, speculation, more of the body.
MOMENTS = {"prefill": (LONG, "auto", {}), "first token": (SHORT, "off", {}), "middle": (SHORT, "off", {}), "guessing": (COPY, "3", {}),
           "schema": ("List ships and how far they sailed.", "auto", {"response_format": {"type": "json_schema", "json_schema": {"name": "ships", "schema": SCHEMA}}})}
STRIKES = ("killed", "frozen", "cut off", "slow", "two killed")

def sh(*words):
    subprocess.run(words, check=True, capture_output=True)


class Bridge:
    """Namespaces on one bridge, each with an address of its own."""

    def __init__(self, count):
        self.tag, self.names = f"h{os.getpid() % 100000}", []
        subnet = f"10.{os.getpid() % 200 + 20}.77"
        self.bridge, self.host = f"{self.tag}b", f"{subnet}.1"
        sh("ip", "link", "add", self.bridge, "type", "bridge")
        sh("ip", "addr", "add", f"{self.host}/24", "dev", self.bridge)
        sh("ip", "link", "set", self.bridge, "up")
        self.hosts = [f"{subnet}.{number + 2}" for number in range(count)]
        for number, host in enumerate(self.hosts):
            name, near, far = f"{self.tag}n{number}", self.near(number), f"{self.tag}f{number}"
            sh("ip", "netns", "add", name)
            self.names.append(name)
            sh("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            sh("ip", "link", "set", far, "netns", name)
            sh("ip", "link", "set", near, "master", self.bridge, "up")
            for words in (("addr", "add", f"{host}/24", "dev", far), ("link", "set", far, "up"), ("link", "set", "lo", "up")):
                sh("ip", "-n", name, *words)

    def near(self, number):
        return f"{self.tag}v{number}"

    def within(self, number):
        return ("ip", "netns", "exec", self.names[number])

    def set_link(self, number, state):
        sh("ip", "link", "set", self.near(number), state)

    def close(self):
        for name in self.names:
            subprocess.run(("ip", "netns", "del", name), capture_output=True)
        subprocess.run(("ip", "link", "del", self.bridge), capture_output=True)


def make_bridge(count):
    """None where this cannot be had."""
    try:
        return Bridge(count) if os.geteuid() == 0 else None
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


class Machine:
    """`within`: words before the command, as of a namespace."""

    def __init__(self, hearth, environment, host="127.0.0.1", within=()):
        self.process = subprocess.Popen([*within, hearth, "node", "--listen", f"{host}:0"], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.startswith("Listening on port "):
                break
        else:
            raise SystemExit("a node does not start")
        self.address = f"{host}:{line.split()[3]}"
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()


class Owner:
    """`hearth serve` over the machines."""

    def __init__(self, hearth, model, environment, options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([hearth, "serve", model, "--listen", f"127.0.0.1:{self.port}", "--context", "1024", *options], env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)
        while "Listening on" not in self.log():
            if self.process.poll() is not None:
                raise SystemExit("the owner does not start: " + self.log()[-2000:])
            time.sleep(0.02)

    def log(self):
        self.said.seek(0)
        return self.said.read()

    def last_words(self):
        return self.log()[-600:].replace("\n", "; ")

    def stream(self, moment, tokens):
        """Pieces of the answer, as they come."""
        prompt, _, more = MOMENTS[moment]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        body = {"messages": [{"role": "user", "content": prompt}], "stream": True, "max_tokens": tokens, "temperature": 0.6, "seed": 9, **more}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"status {response.status}: {response.read()}")
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    yield f"<{event['error']}>"
                for choice in event.get("choices", ()):
                    yield choice["delta"].get("content") or ""
            elif line.startswith(b"data: [DONE]"):
                return
        yield "<the stream broke>"

    def end(self):
        self.process.kill()
        self.process.wait()


class Strike:
    """Hits a machine, and takes back what can be."""

    def __init__(self, kind, machines, victim, bridge, pick):
        self.kind, self.machines, self.victim, self.bridge, self.between = kind, machines, victim, bridge, pick.random() * 0.3
        self.at, self.over, self.thread = None, threading.Event(), None

    def hit(self):
        self.thread = threading.Thread(target=self._run)
        self.at = time.monotonic()
        self.thread.start()

    def _run(self):
        victim = self.machines[self.victim]
        if self.kind in ("killed", "two killed"):
            victim.signal(signal.SIGKILL)
            if self.kind == "two killed" and not self.over.wait(self.between):
                self.machines[1 - self.victim].signal(signal.SIGKILL)
        elif self.kind == "frozen":
            victim.signal(signal.SIGSTOP)
            self.over.wait(5)
            victim.signal(signal.SIGCONT)
        elif self.kind == "cut off":
            self.bridge.set_link(self.victim, "down")
            self.over.wait(5)
            self.bridge.set_link(self.victim, "up")
        elif self.kind == "slow":
            while not self.over.is_set():
                victim.signal(signal.SIGSTOP)
                self.over.wait(0.099)
                victim.signal(signal.SIGCONT)
                time.sleep(0.001)

    def end(self):
        self.over.set()
        if self.thread:
            self.thread.join()


def struck_answer(owner, moment, tokens, strike, wait, pieces):
    """Its text, and the longest time without any after the strike. `wait`: seconds before it, or `pieces` of text."""
    timer = threading.Timer(wait, strike.hit) if moment == "prefill" else None
    if timer:
        timer.start()
    out, last, worst = "", time.monotonic(), 0.0
    for number, piece in enumerate(owner.stream(moment, tokens)):
        now = time.monotonic()
        if strike.at:
            worst = max(worst, now - max(last, strike.at))
        last, out = now, out + piece
        if not timer and number == pieces:
            strike.hit()
    hit = strike.at is not None
    if timer:
        timer.cancel()
    return out, hit, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--answers", type=int, default=0, help="so many instead of --seconds")
    parser.add_argument("--pause", type=float, default=2, help="seconds that none may be longer; 0: any")
    parser.add_argument("--only", default="", help="cases whose name has this")
    options = parser.parse_args()
    pick, failures = random.Random(options.seed), []
    worst, hits, repeats = collections.defaultdict(float), collections.Counter(), 0
    bridge = make_bridge(3)
    strikes = STRIKES if bridge else tuple(kind for kind in STRIKES if kind != "cut off")
    try:
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, HEARTH_HOME=folder, HEARTH_THREADS="1")
            subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
            whole, first = {}, 0.0
            alone = Owner(options.hearth, options.model, environment, ["--speculate", "off"])
            for moment in MOMENTS:
                begin, pieces = time.monotonic(), []
                for piece in alone.stream(moment, options.tokens):
                    if not pieces and moment == "prefill":
                        first = time.monotonic() - begin
                    pieces.append(piece)
                whole[moment] = pieces
            alone.end()
            end = time.monotonic() + options.seconds
            cases = [(moment, kind) for kind in strikes for moment in MOMENTS if options.only in f"{kind} in {moment}"]
            for run in itertools.count():
                if run % len(cases) == 0:
                    pick.shuffle(cases)
                if run == options.answers if options.answers else time.monotonic() > end:
                    break
                moment, kind = cases[run % len(cases)]
                machines = [Machine(options.hearth, environment, *((bridge.hosts[n], bridge.within(n)) if bridge else ())) for n in range(3)]
                chain = ["--stages", ",".join(m.address for m in machines[:2]), "--speculate", MOMENTS[moment][1]]
                if pick.random() < 0.75:
                    chain += ["--spare", machines[2].address]
                owner = Owner(options.hearth, options.model, environment, chain)
                strike = Strike(kind, machines, pick.randrange(2), bridge, pick)
                at = 0 if moment == "first token" else pick.randrange(1, max(2, len(whole[moment]) - 4))
                out, hit, pause = struck_answer(owner, moment, options.tokens, strike, pick.random() * first * 1.5, at)
                strike.end()
                case = f"{kind} in {moment}"
                hits[kind] += hit
                worst[kind] = max(worst[kind], pause if hit else 0)
                if out != "".join(whole[moment]):
                    failures.append(f"run {run + 1}, {case}: another answer: {out[:200]!r}; {owner.last_words()}")
                if hit and 0 < options.pause < pause:
                    failures.append(f"run {run + 1}, {case}: a pause of {pause:.2f} s; {owner.last_words()}")
                owner.end()
                for machine in machines:
                    machine.end()
    finally:
        if bridge:
            bridge.close()
    said = ", ".join(f"{hits[kind]} {kind} ({worst[kind]:.2f} s)" for kind in strikes)
    what = f"{os.path.basename(options.model)}, {f'{run} answers' if options.answers else f'{options.seconds:.0f} s'}, seed {options.seed}"
    return finish(what, f"{run} answers; hit while they ran, and the longest pause: {said}", failures)


if __name__ == "__main__":
    sys.exit(main())
