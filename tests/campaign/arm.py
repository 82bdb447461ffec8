#!/usr/bin/env python3
"""A model on machines of two kinds: stages on x86 and on ARM (under qemu), in any order, and one taking over from the other in the middle of
an answer. Every answer has to be the one that a single x86 process gives, to the byte.

  tests/campaign/arm.py [--tokens 40] [--arm build/arm64/hearth]
"""
import argparse, os, signal, stat, subprocess, sys, tempfile

from faults import Machine
from server import finish, model_file

PROMPT = "Count: 1 2 3 4 5 6 7 8 9. Tell me a story about a ship at sea."
# Kinds of the stages, of the spare machine, and the stage that is killed after the first bytes.
CHAINS = (
    (("arm",), None, None),
    (("x86", "arm"), None, None),
    (("arm", "x86"), None, None),
    (("x86", "arm"), "x86", 1),
    (("arm", "x86"), "arm", 1),
    (("x86", "arm"), "arm", 0),
)
HOW = (("--temperature", "0", "--speculate", "off"), ("--temperature", "0.7", "--seed", "3", "--speculate", "auto"))


def answer(command, environment, machines, victim):
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = os.read(process.stdout.fileno(), 1 << 16)
    hit = victim is not None and process.poll() is None
    if hit:
        machines[victim].signal(signal.SIGKILL)
    rest, said = process.communicate()
    return out + rest, hit, said.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--arm", default="build/arm64/hearth")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--tokens", type=int, default=40)
    options = parser.parse_args()
    failures, runs, hits = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, HEARTH_HOME=folder, HEARTH_THREADS="1")
        emulated = os.path.join(folder, "hearth-arm")
        with open(emulated, "w") as script:
            script.write(f'#!/bin/sh\nexec qemu-aarch64-static -cpu max -L build/arm64-root {options.arm} "$@"\n')
        os.chmod(emulated, stat.S_IRWXU)
        programs = {"x86": options.hearth, "arm": emulated}
        subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
        for how in HOW:
            command = [options.hearth, "run", options.model, PROMPT, "--max-tokens", str(options.tokens), "--context", "256", *how]
            whole = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
            for kinds, spare, victim in CHAINS:
                machines = [Machine(programs[kind], environment) for kind in kinds + ((spare,) if spare else ())]
                addresses = [machine.address for machine in machines]
                stages = ["--stages", ",".join(addresses[:len(kinds)])] + (["--spare", addresses[-1]] if spare else [])
                out, hit, said = answer(command + stages, environment, machines, victim)
                for machine in machines:
                    machine.end()
                runs, hits = runs + 1, hits + hit
                what = f"{'+'.join(kinds)}{f', stage {victim} killed, {spare} to spare' if spare else ''}, {' '.join(how)}"
                print(f"{what}: {'equal' if out == whole else 'ANOTHER ANSWER'}", flush=True)
                if out != whole:
                    failures.append(f"{what}: {out[:200]!r} instead of {whole[:200]!r}; {said[-1000:]}")
    return finish(f"{os.path.basename(options.model)}, {options.tokens} tokens, ARM under qemu",
                  f"{runs} answers by stages on x86 and ARM, {hits} of them hit while they ran, equal to one x86 process", failures)


if __name__ == "__main__":
    sys.exit(main())
