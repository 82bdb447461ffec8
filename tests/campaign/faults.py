#!/usr/bin/env python3
"""A model in two stages, with a third machine to spare; in the middle of answers machines are killed, frozen for five seconds, or two of
them killed one after the other, at random moments. Every answer has to be the one that a single process gives, to the byte.

  tests/campaign/faults.py [--seconds 600] [--seed 1]

A machine is a process of `hearth node` on this one; all share one folder, and so one site.
"""
import argparse, os, random, signal, subprocess, sys, tempfile, threading, time

from server import finish, model_file

PROMPT = "Write a long story about a ship, and count 1 2 3 4 1 2 3 4."
KINDS = ("killed", "frozen", "two killed")


class Machine:
    """`within`: words before the command, as of a namespace."""

    def __init__(self, hearth, environment, host="127.0.0.1", within=()):
        self.process = subprocess.Popen([*within, hearth, "node", "--listen", f"{host}:0"], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if not line.startswith("Listening on port "):
            raise SystemExit(f"a node does not start: {line}")
        self.address = f"{host}:{line.split()[3]}"
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()


def longest_pause(answer, hit_at):
    """Reads an answer to its end: its bytes, and the longest time without any after the machine was hit."""
    out, last, worst = b"", None, 0.0
    while True:
        piece = os.read(answer.stdout.fileno(), 1 << 16)
        now = time.monotonic()
        if hit_at and last is not None and now > hit_at[0]:
            worst = max(worst, now - max(last, hit_at[0]))
        last = now
        if not piece:
            return out, worst
        out += piece


def one_run(command, environment, hearth, pick):
    """(kind, it was hit while it ran, its bytes, longest pause, what it said)"""
    machines = [Machine(hearth, environment) for _ in range(3)]
    kind, victim = pick.choice(KINDS), pick.randrange(2)
    stages = ["--stages", ",".join(m.address for m in machines[:2]), "--spare", machines[2].address]
    stages += ["--speculate", pick.choice(("off", "auto", "3"))]
    answer = subprocess.Popen(command + stages, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    hit_at, hit = [], []

    def strike(after, between):
        time.sleep(after)
        hit.append(answer.poll() is None)
        machines[victim].signal(signal.SIGSTOP if kind == "frozen" else signal.SIGKILL)
        hit_at.append(time.monotonic())
        if kind == "two killed":
            time.sleep(between)
            machines[1 - victim].signal(signal.SIGKILL)
        if kind == "frozen":
            time.sleep(5)
            machines[victim].signal(signal.SIGCONT)

    striker = threading.Thread(target=strike, args=(pick.random(), pick.random() * 0.3))
    striker.start()
    out, pause = longest_pause(answer, hit_at)
    said = answer.stderr.read().decode(errors="replace")
    answer.wait()
    striker.join()
    for machine in machines:
        machine.end()
    return kind, hit[0], out, pause, said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    pick, counts, failures, worst = random.Random(options.seed), dict.fromkeys(KINDS, 0), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, HEARTH_HOME=folder, HEARTH_THREADS="1")
        subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
        command = [options.hearth, "run", options.model, PROMPT, "--max-tokens", "150", "--temperature", "0.6", "--seed", "9",
                   "--context", "512"]
        whole = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        runs, end = 0, time.monotonic() + options.seconds
        while time.monotonic() < end:
            kind, hit, out, pause, said = one_run(command, environment, options.hearth, pick)
            runs += 1
            counts[kind] += hit
            if hit:
                worst = max(worst, pause)
            if out != whole:
                failures.append(f"run {runs}, {kind}: another answer: {out[:200]!r}; {said}")
    hits = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    what = f"{os.path.basename(options.model)}, {options.seconds:.0f} s, seed {options.seed}"
    return finish(what, f"{runs} answers; hit while they ran: {hits}; longest pause {worst:.2f} s", failures)


if __name__ == "__main__":
    sys.exit(main())
