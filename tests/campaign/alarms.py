#!/usr/bin/env python3
"""Nobody is given up without need: two stages answer for an hour while every core is busy and two of a hundred frames are lost on each link.

  tests/campaign/alarms.py [--seconds 3600] [--loss 0.02] [--busy N]

Between machines stands a proxy for each: what TCP does when a frame is lost is send it again after 0.2 s or more, and hold back what follows; the
proxy does that. Every answer has to be the same, and no machine may be taken for lost. --busy: processes that only burn time (default: as many as there
are cores).
"""
import argparse, asyncio, multiprocessing, os, random, re, subprocess, sys, tempfile, threading, time, urllib.request

from faults import Machine, Owner
from server import finish, model_file

RESEND = 0.2  # seconds: the least that Linux waits


class LossyLinks:
    """Proxies on one thread, in front of addresses."""

    def __init__(self, loss, seed):
        self.loss, self.random, self.lost, self.frames = loss, random.Random(seed), 0, 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def before(self, address):
        """The address that stands for it."""
        host, port = address.rsplit(":", 1)

        async def start():
            return await asyncio.start_server(lambda r, w: self._serve(r, w, host, int(port)), "127.0.0.1", 0)

        server = asyncio.run_coroutine_threadsafe(start(), self.loop).result()
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer, host, port):
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer), return_exceptions=True)

    async def _copy(self, reader, writer):
        try:
            while piece := await reader.read(1448):
                self.frames += 1
                wait = RESEND
                while self.random.random() < self.loss:  # lost again: twice as long
                    self.lost += 1
                    await asyncio.sleep(wait)
                    wait *= 2
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


def burn():
    while True:
        pass


def metric(owner, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{owner.port}/metrics").read().decode()
    return sum(int(float(value)) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--busy", type=int, default=os.cpu_count())
    parser.add_argument("--pause", type=float, default=0, help="seconds between answers")
    options = parser.parse_args()
    failures, answers, machines, owner = [], 0, [], None
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(options.busy)]
    for burner in burners:
        burner.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, HEARTH_HOME=folder, HEARTH_THREADS="1")
            subprocess.run([options.hearth, "cluster", "init", "--name", "owner"], env=environment, check=True, capture_output=True)
            links = LossyLinks(options.loss, 1)
            machines = [Machine(options.hearth, environment) for _ in range(2)]
            owner = Owner(options.hearth, options.model, environment, ["--stages", ",".join(links.before(m.address) for m in machines)])
            end, whole = time.monotonic() + options.seconds, None
            while time.monotonic() < end:
                out = "".join(owner.stream("middle", 60))
                whole = whole or out
                answers += 1
                if out != whole:
                    failures.append(f"answer {answers} is another: {out[:200]!r}")
                losses = metric(owner, "hearth_chain_losses_total")
                if losses:
                    failures.append(f"{losses} machines were taken for lost after {answers} answers: {owner.last_words()}")
                    break
                time.sleep(options.pause)
    finally:
        for process in [*machines, *([owner] if owner else [])]:
            process.end()
        for burner in burners:
            burner.kill()
    return finish(f"{os.path.basename(options.model)}, {options.seconds:.0f} s, {options.busy} processes that only burn time",
                  f"{answers} equal answers, {links.lost} of {links.frames} frames sent again, {0 if not failures else 'some'} machines taken for lost", failures)


if __name__ == "__main__":
    sys.exit(main())
