#!/usr/bin/env python3
"""What `--power N` really does: the share of the processor time that a run gets, and whether its tokens are the same.

  bench/power/cpu_share.py --hearth build/release/hearth --model FILE [--shares 25,50,75] [--seconds 60] [--threads 2]

For each share one run generates for so many seconds. Of that the processor time of all its threads is taken from the moment that the first
token is there (loading is not part of the share), as a part of what its threads could have had in that time. The text is compared with that of a run
without a limit. On a machine whose processors are busy with other things the share is a limit, not a promise: the load is printed, and
`--nice -10` (as root) makes room. Nothing but Python's standard library is needed.
"""
import argparse, contextlib, os, subprocess, sys, time

PROMPT = "Once upon a time, in a harbour at the end of the world, there lived an old captain who"
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def take_precedence(nice):
    """Also before other sessions, which the kernel's automatic groups otherwise treat alike (sched(7))."""
    os.setsid()
    os.nice(nice)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
        group.write(str(nice))


def generate(options, share, seconds):
    """Text so far, share of the processor time, seconds."""
    # More tokens than there is time for: a text that goes on for ever needs a context and a sampler that does not end.
    command = [options.hearth, "run", options.model, PROMPT, "--raw", "--temperature", "0.9", "--seed", "1", "--context", "8192",
               "--threads", str(options.threads), "--power", str(share)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               preexec_fn=(lambda: take_precedence(options.nice)) if options.nice else None)
    text = os.read(process.stdout.fileno(), 1 << 16)  # waits for the first token
    begun, used, ended = time.monotonic(), cpu_seconds(process.pid), False
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() - begun < seconds:
        time.sleep(0.05)
        used_now, now = cpu_seconds(process.pid), time.monotonic()
        piece = process.stdout.read()
        text += piece or b""
        if piece == b"":
            ended = True
            break
    process.kill()
    process.wait()
    if ended and now - begun < seconds / 2:
        sys.exit(f"the answer ended after {now - begun:.0f} s; use another prompt or a larger model")
    return text, (used_now - used) / (now - begun) / options.threads, now - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", required=True)
    parser.add_argument("--shares", default="25,50,75,100")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args()
    texts = []
    for share in map(int, options.shares.split(",")):
        text, got, took = generate(options, share, options.seconds)
        texts.append(text)
        print(f"--power {share:3}: {100 * got:5.1f} % of {options.threads} threads' time in {took:.0f} s, {len(text)} bytes of text; "
              f"load average {os.getloadavg()[0]:.1f}", flush=True)
    shortest = min(map(len, texts))
    same = all(text[:shortest] == texts[0][:shortest] for text in texts)
    print(f"the first {shortest} bytes are {'the same in all' if same else 'NOT the same'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
