#!/usr/bin/env python3
"""One, two, three and four stages give the answer of one machine, greedy and drawn, with guessed tokens and without.

  tests/campaign/stages.py [--model FILE ...] [--tokens 48]
"""
import argparse, os, subprocess, sys, tempfile

from faults import Machine
from server import finish, model_file

PROMPT = "Count: 1 2 3 4 5 6 7 8 9. Tell me a story about a ship at sea, and count again."
HOW = (("--temperature", "0", "--speculate", "auto"), ("--temperature", "0.7", "--seed", "3", "--speculate", "off"),
       ("--temperature", "0.7", "--seed", "4", "--speculate", "3"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", action="append")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--stages", type=int, default=4)
    options = parser.parse_args()
    models, failures, runs = options.model or [model_file()], [], 0
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, HEARTH_HOME=folder, HEARTH_THREADS="1")
        subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
        machines = [Machine(options.hearth, environment) for _ in range(options.stages)]
        for model in models:
            for how in HOW:
                command = [options.hearth, "run", model, PROMPT, "--max-tokens", str(options.tokens), "--context", "256", *how]
                whole = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
                for count in range(1, options.stages + 1):
                    chain = ("--stages", ",".join(machine.address for machine in machines[:count]))
                    out = subprocess.run([*command, *chain], env=environment, capture_output=True)
                    runs += 1
                    what = f"{os.path.basename(model)}, {count} stages, {' '.join(how)}"
                    print(f"{what}: {'equal' if out.stdout == whole else 'ANOTHER ANSWER'}", flush=True)
                    if out.stdout != whole:
                        failures.append(f"{what}: {out.stdout[:200]!r} instead of {whole[:200]!r}")
        for machine in machines:
            machine.end()
    return finish(f"{', '.join(os.path.basename(model) for model in models)}, {options.tokens} tokens",
                  f"{runs} answers over 1 to {options.stages} stages, compared with one process", failures)


if __name__ == "__main__":
    sys.exit(main())
