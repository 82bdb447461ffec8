#!/usr/bin/env python3
"""Four machines behind one slow link get a model: the link has to carry each byte once.

  tests/campaign/push.py [--megabits 20] [--nodes 4]

The machines are processes of `hearth node` in a network namespace, behind a pair of virtual interfaces whose rate a token bucket limits; what
the link carried is the interface's own count. Needs root and iproute2.
"""
import argparse, os, pathlib, subprocess, sys, tempfile, time

from faults import Machine
from server import finish, model_file

MOST = 1.03  # of the pack's bytes: frames, TLS, TCP and IP


def sh(*words):
    subprocess.run(words, check=True, capture_output=True)


class SlowLink:
    """A namespace at the other end of a link."""

    def __init__(self, megabits):
        self.name, self.near = f"hearth{os.getpid()}", f"hn{os.getpid()}"
        far = f"hf{os.getpid()}"
        subnet = f"10.213.{os.getpid() % 250}"
        self.near_address, self.far_address = f"{subnet}.1", f"{subnet}.2"
        sh("ip", "netns", "add", self.name)
        sh("ip", "link", "add", self.near, "type", "veth", "peer", "name", far)
        sh("ip", "link", "set", far, "netns", self.name)
        sh("ip", "addr", "add", f"{self.near_address}/24", "dev", self.near)
        sh("ip", "link", "set", self.near, "up")
        for words in (("addr", "add", f"{self.far_address}/24", "dev", far), ("link", "set", far, "up"), ("link", "set", "lo", "up")):
            sh("ip", "netns", "exec", self.name, "ip", *words)
        sh("tc", "qdisc", "add", "dev", self.near, "root", "tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "200ms")

    def sent_bytes(self):
        return int(pathlib.Path(f"/sys/class/net/{self.near}/statistics/tx_bytes").read_text())

    def close(self):
        sh("ip", "netns", "del", self.name)
        subprocess.run(("ip", "link", "del", self.near), capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--megabits", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    options = parser.parse_args()
    hearth, failures, machines = os.path.abspath(options.hearth), [], []
    with tempfile.TemporaryDirectory() as home:
        link = SlowLink(options.megabits)
        try:
            environment = dict(os.environ, HEARTH_HOME=home, HEARTH_THREADS="1")
            sh_env = dict(env=environment, check=True, capture_output=True, text=True)
            subprocess.run([hearth, "cluster", "init", "--name", "owner"], **sh_env)
            subprocess.run([hearth, "run", options.model, "Hi", "--max-tokens", "1"], **sh_env)  # makes the pack
            pack = max(file.stat().st_size for file in pathlib.Path(home).rglob("*") if file.is_file())
            for number in range(options.nodes):
                folder = os.path.join(home, f"node{number}")
                os.makedirs(folder)
                os.symlink(os.path.join(home, "site"), os.path.join(folder, "site"))
                within = ("ip", "netns", "exec", link.name)
                machines.append(Machine(hearth, dict(environment, HEARTH_HOME=folder), link.far_address, within))
            before, begin = link.sent_bytes(), time.monotonic()
            pushed = subprocess.run([hearth, "push", options.model, *(machine.address for machine in machines)], env=environment, capture_output=True, text=True)
            passed, carried = time.monotonic() - begin, link.sent_bytes() - before
            if pushed.returncode != 0:
                failures.append(pushed.stderr[-500:])
            if carried > MOST * pack:
                failures.append(f"the link carried {carried} bytes for a pack of {pack}")
            whole = [max((file.stat().st_size for file in pathlib.Path(home, f"node{number}", "parts").glob("*.part")), default=0)
                     for number in range(options.nodes)]
            if whole != [pack] * options.nodes:
                failures.append(f"packs of {whole} bytes instead of {pack}")
        finally:
            for machine in machines:
                machine.end()
            link.close()
    return finish(f"{os.path.basename(options.model)}, {options.nodes} machines behind {options.megabits} Mbit/s",
                  f"pack {pack} bytes, the link carried {carried} ({carried / pack:.3f}), {passed:.0f} s; alone it takes "
                  f"{pack * 8 / options.megabits / 1e6:.0f} s", failures)


if __name__ == "__main__":
    sys.exit(main())
