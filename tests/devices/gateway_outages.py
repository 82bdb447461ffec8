"""Outages of a gateway's broker: gateway_outages.py [--hearth build/release/hearth] [--seconds 468] [--times].

  tests/devices/python build/devices gateway_outages.py --seconds 468 --times

A line of devices at one broker, a receiver at another, and a PLC (pymodbus). The receiver's broker is killed, then its cable is pulled (a proxy
swallows what passes and closes nothing), each for --seconds; the PLC is killed for as long, and the gateway once in the middle. 468 s are 13 hours at
100 times their speed. Afterwards every record of class A has to have arrived, in order, within the bound of the disk; of class B too, but for those
that went into the pulled cable before anybody noticed. --times also holds what is
measured to its bounds. The last line is the row of docs/campaigns.md.
"""
import argparse
import collections
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import paho.mqtt.client as mqtt

PATIENCE = 120  # seconds; nothing is measured with it
RATES = {"a": 50, "b": 30, "c": 20}  # values a second
SIGNALS = 5  # of each class
BYTES = {"a": 16 << 20, "b": 8 << 20, "c": 128 << 10}
DISK_MORE = 8 << 20  # journal, reserve, indices and the page that is being filled
RECOVERY_MAX, LIVE_MAX = 10, 1  # seconds


class Failed(Exception):
    """What was looked for."""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def comes_true(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: never came true")
        time.sleep(0.05)


class Broker:
    def __init__(self, folder, name):
        self.port, self.file = free_port(), f"{folder}/{name}.conf"
        with open(self.file, "w") as file:
            file.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n")

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", self.file], stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Proxy:
    """Between gateway and receiver's broker. `way`: "open", "refuse", or "swallow": what passes is lost and nothing is closed, ever."""

    def __init__(self, to):
        self.to, self.way, self.listener, self.pairs = to, "open", socket.create_server(("127.0.0.1", 0)), []
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.way == "refuse":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.pump, args=(client, server), daemon=True).start()

    def pump(self, client, server):
        dead = False  # a connection that lost something stays dead, as with a router that forgot it
        while True:
            ready, _, _ = select.select([client, server], [], [], 0.1)
            dead = dead or self.way == "swallow"
            for one in ready:
                try:
                    data = one.recv(65536)
                except OSError:
                    data = b""
                if not data and (one is client or not dead):
                    client.close()
                    server.close()
                    return
                if not data:
                    return  # the broker is gone, which the gateway may not learn
                if not dead:
                    try:
                        (server if one is client else client).sendall(data)
                    except OSError:
                        pass


class Line:
    """The devices: numbered values with their times, some per second, and what they said."""

    def __init__(self, port):
        self.sent, self.running, self.stop = collections.defaultdict(list), threading.Event(), False
        self.client = mqtt.Client()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        begin, turn, last = time.monotonic(), 0, 0
        while not self.stop:
            self.running.wait()
            with self.lock:
                for kind, rate in RATES.items():
                    for _ in range(rate // 10):
                        now = max(last + 1, time.time_ns() // 1_000_000)
                        last = now
                        name = f"line/{kind}{turn % SIGNALS}"
                        turn += 1
                        self.client.publish("raw/" + name, json.dumps({"v": turn, "t": now}), 1).wait_for_publish(PATIENCE)
                        self.sent[name].append((now, turn))
            begin += 0.1
            time.sleep(max(0, begin - time.monotonic()))
            begin = max(begin, time.monotonic() - 1)

    def pause(self):
        self.running.clear()
        with self.lock:
            pass

    def count(self, kinds="abc"):
        return sum(len(values) for name, values in self.sent.items() if name[5] in kinds)


class Receiver:
    def __init__(self, port):
        self.port, self.arrived, self.client = port, collections.defaultdict(list), None

    def connect(self):
        if self.client:
            self.client.loop_stop()
        listening = threading.Event()
        self.client = mqtt.Client()
        self.client.on_message = self.hear
        self.client.on_subscribe = lambda *_: listening.set()
        comes_true("the receiver's broker answers", self.connects)
        self.client.subscribe("out/#", 1)
        self.client.loop_start()
        if not listening.wait(PATIENCE):
            raise Failed("the receiver's broker does not let it listen")

    def connects(self):
        try:
            return self.client.connect("127.0.0.1", self.port) == 0
        except OSError:
            return False

    def hear(self, _client, _data, message):
        sample = json.loads(message.payload)
        if sample["quality"] == "good":  # a stale one is its last value said again
            self.arrived[message.topic.removeprefix("out/")].append((sample["time"], sample["value"], time.time()))

    def distinct(self):
        return sum(len({each[:2] for each in values}) for name, values in list(self.arrived.items()) if name.startswith("line/"))


class Gateway:
    def __init__(self, hearth, folder, profile):
        self.hearth, self.folder, self.port, self.profile = hearth, folder, free_port(), f"{folder}/site.toml"
        with open(self.profile, "w") as file:
            file.write(profile)

    def start(self):
        with open(f"{self.folder}/gateway.log", "ab") as log:
            self.process = subprocess.Popen([self.hearth, "gateway", "--config", self.profile, "--folder", f"{self.folder}/data", "--listen", f"127.0.0.1:{self.port}"],
                                            stdout=log, stderr=log, env=dict(os.environ, HEARTH_HOME=self.folder))
        comes_true("the gateway answers", lambda: self.ask("") is not None)

    def ask(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/gateway{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def signal(self, name):
        answer = self.ask(f"/signals?prefix={name}")
        return answer["data"][0] if answer and answer["data"] else {"quality": None, "value": None}

    def waiting(self, classes="ABC"):
        answer = self.ask("")
        return sum(each["records"] for each in answer["queue"] if each["class"] in classes) if answer else -1

    def dropped(self):
        return [each["dropped"] for each in self.ask("")["queue"]]

    def disk(self):
        return sum(os.stat(f"{self.folder}/data/{name}").st_size for name in os.listdir(f"{self.folder}/data") if name.startswith("queue"))


def profile(source, out, plc):
    text = ""
    for kind in RATES:
        for i in range(SIGNALS):
            text += f'[[signal]]\nname = "line/{kind}{i}"\nclass = "{kind.upper()}"\n'
    text += '[[signal]]\nname = "marker"\nclass = "B"\n[[signal]]\nname = "plc/temperature"\nclass = "B"\n'
    text += f'[[adapter]]\ntype = "mqtt"\nname = "in"\nhost = "127.0.0.1"\nport = {source}\n[[adapter.in]]\nsignal = "marker"\ntopic = "raw/marker"\n'
    for kind in RATES:
        for i in range(SIGNALS):
            text += f'[[adapter.in]]\nsignal = "line/{kind}{i}"\ntopic = "raw/line/{kind}{i}"\npointer = "/v"\ntime_pointer = "/t"\n'
    text += f'[[adapter]]\ntype = "mqtt"\nname = "out"\nhost = "127.0.0.1"\nport = {out}\n[adapter.out]\ntopic = "out/{{signal}}"\nsignals = ["line/*"]\n'
    text += f'[[adapter]]\ntype = "modbus"\nhost = "127.0.0.1"\nport = {plc}\npoll = "200ms"\nregister = [{{ signal = "plc/temperature", address = 0, form = "i16", scale = 0.1 }}]\n'
    return text + "[queue]\ndrain_per_second = 1000\n" + "".join(f"class_{kind}_bytes = {size}\n" for kind, size in BYTES.items())


class Campaign:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.source, self.far = Broker(folder, "source"), Broker(folder, "far")
        self.source.start()
        self.far.start()
        comes_true("the devices' broker answers", lambda: socket.socket().connect_ex(("127.0.0.1", self.source.port)) == 0)
        self.proxy, self.plc_port, self.plc = Proxy(self.far.port), free_port(), None
        self.gateway = Gateway(os.path.abspath(options.hearth), folder, profile(self.source.port, self.proxy.port, self.plc_port))
        self.line, self.receiver = Line(self.source.port), Receiver(self.far.port)
        self.disk, self.dropped_before, self.recovered, self.live, self.repeated = 0, [0, 0, 0], {}, [], 0
        self.lost, self.into_the_cable = collections.Counter(), 0

    def start_plc(self):
        here = os.path.dirname(os.path.abspath(__file__))
        self.plc = subprocess.Popen([sys.executable, f"{here}/modbus_device.py", str(self.plc_port)], stderr=subprocess.DEVNULL)

    def hears(self):
        """The gateway hears the devices' broker."""
        self.marker = getattr(self, "marker", 0) + 1
        self.line.client.publish("raw/marker", str(self.marker), 1)
        return self.gateway.signal("marker")["value"] == self.marker

    def all_arrived(self):
        newest = all(sent[-1][0] in [each[0] for each in self.receiver.arrived[name][-2000:]] for name, sent in self.line.sent.items())
        return newest and self.gateway.waiting() == 0

    def quiet(self):
        """Nobody says anything, and nothing is under way."""
        self.line.pause()
        comes_true("all arrives", self.all_arrived)

    def kill_gateway(self, kind):
        """In the middle of an outage, when what must not be lost is on disk: it has to wait again."""
        self.line.pause()
        if kind == "cable pulled":  # the others have no answer, so those go into the cable until its end is noticed
            comes_true("class A is on disk", lambda: self.gateway.waiting("A") == self.line.count("a") - self.before["a"])
        else:
            comes_true("all is on disk", lambda: self.gateway.waiting() + self.gateway.dropped()[2] == self.line.count() - sum(self.before.values()))
        self.dropped_before[2] += self.gateway.dropped()[2]
        if self.gateway.dropped()[:2] != [0, 0]:
            raise Failed(f"records of class A or B were dropped: {self.gateway.dropped()}")
        self.gateway.process.send_signal(signal.SIGKILL)
        self.gateway.process.wait()
        self.gateway.start()
        comes_true("the gateway hears its devices again", self.hears)
        self.line.running.set()

    def outage(self, kind):
        print(f"{kind}: away for {self.options.seconds} s", flush=True)
        self.quiet()  # what a broker took and then died with is not the gateway's
        self.before = {each: self.line.count(each) for each in RATES}
        dropped_before = self.dropped_before[2] + self.gateway.dropped()[2]
        if kind == "broker killed":
            self.proxy.way = "refuse"
            self.far.kill()
        else:
            self.proxy.way = "swallow"
        self.plc.kill()
        self.plc.wait()
        self.line.running.set()
        begin, killed = time.monotonic(), False
        while time.monotonic() < begin + self.options.seconds:
            time.sleep(0.5)
            self.disk = max(self.disk, self.gateway.disk())
            if not killed and time.monotonic() > begin + self.options.seconds / 2:
                killed = True
                self.kill_gateway(kind)
        comes_true("the PLC is known to be away", lambda: self.gateway.signal("plc/")["quality"] != "good")
        if kind == "broker killed":
            self.far.start()
            self.receiver.connect()
        before, waiting = self.receiver.distinct(), self.gateway.waiting()
        self.start_plc()
        back = time.time()
        self.proxy.way = "open"
        waits = {kind: lambda: self.receiver.distinct() > before, kind + ", PLC": lambda: self.gateway.signal("plc/")["quality"] == "good"}
        comes_true("both recover", lambda: all([self.is_back(each, condition, back) for each, condition in waits.items()]))
        drained = time.time()
        comes_true("what waited is passed on", lambda: self.gateway.waiting() < max(10, waiting // 100))
        end = time.time()
        self.live += [at - sent / 1000 for values in list(self.receiver.arrived.values()) for sent, _, at in values if drained + 1 < sent / 1000 < end - 1]
        self.disk = max(self.disk, self.gateway.disk())
        self.quiet()
        self.account(kind, self.dropped_before[2] + self.gateway.dropped()[2] - dropped_before)
        print(f"  back after {self.recovered[kind]:.1f} s, the PLC after {self.recovered[kind + ', PLC']:.1f} s; {waiting} waited, drained in {end - back:.0f} s", flush=True)

    def run(self):
        self.start_plc()
        self.receiver.connect()
        self.gateway.start()
        comes_true("the gateway hears its devices", self.hears)
        comes_true("and the PLC", lambda: self.gateway.signal("plc/")["quality"] == "good")
        self.line.running.set()
        comes_true("values arrive", lambda: self.receiver.distinct() > 100)
        for kind in ("broker killed", "cable pulled"):
            self.outage(kind)

    def is_back(self, what, condition, since):
        if what not in self.recovered and condition():
            self.recovered[what] = time.time() - since
        return what in self.recovered

    def account(self, kind, dropped):
        """Of class B and C."""
        lost = collections.Counter()
        for name, sent in self.line.sent.items():
            lost[name[5]] += len(set(sent) - {each[:2] for each in self.receiver.arrived[name]})
        lost -= self.lost
        self.lost += lost
        if kind == "cable pulled":
            self.into_the_cable = lost["b"]
        elif lost["b"] or lost["c"] != dropped:
            raise Failed(f"{kind}: lost {lost['b']} of class B, {lost['c']} of C, of which {dropped} are counted as dropped")

    def judge(self):
        lost, falling = collections.Counter(), []
        for name, sent in self.line.sent.items():
            values = self.receiver.arrived[name]
            first = list(dict.fromkeys(each[:2] for each in values))
            self.repeated += len(values) - len(first)
            lost[name[5]] += len(set(sent) - set(first))
            if set(first) - set(sent):
                raise Failed(f"{name}: values arrived that nobody sent")
            if falls_three_times([each[0] for each in first]):
                falling.append(name)
        if lost["a"]:
            raise Failed(f"lost: {lost['a']} of class A")
        if falling:
            raise Failed(f"out of order: {falling}")
        if self.disk > sum(BYTES.values()) + DISK_MORE:
            raise Failed(f"the disk: {self.disk} bytes for {sum(BYTES.values())}")
        worst, live = max(self.recovered.values()), statistics.quantiles(self.live, n=100)[98] if len(self.live) > 100 else 0
        if self.options.times and (worst > RECOVERY_MAX or live > LIVE_MAX):
            raise Failed(f"back after {worst:.1f} s, live values' 99th percentile while draining {live:.2f} s")
        return self.dropped_before[2] + self.gateway.dropped()[2], worst, live


def falls_three_times(times):
    """Live values go before what waited, so there are two rising orders among each other, never three."""
    ends = [0, 0]
    for each in times:
        at = 0 if each > ends[0] and (ends[0] >= ends[1] or each <= ends[1]) else 1
        if each <= ends[at]:
            at = 1 - at
            if each <= ends[at]:
                return True
        ends[at] = each
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--seconds", type=float, default=468)
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    what = f"broker killed, cable pulled, PLC killed for {options.seconds:g} s each, the gateway killed in the middle of both"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # a broker that root starts reads its file as somebody else
        campaign = Campaign(options, folder)
        try:
            campaign.run()
            dropped, worst, live = campaign.judge()
        except Failed as failure:
            with open(f"{folder}/gateway.log") as log:
                print(log.read()[-2000:], file=sys.stderr)
            print(f"row: {what} | {campaign.line.count()} records, {campaign.receiver.distinct()} arrived | FAILED: {failure}")
            return 1
        finally:
            for each in (campaign.source, campaign.far, campaign.gateway):
                if hasattr(each, "process"):
                    each.process.kill()
            if campaign.plc:
                campaign.plc.kill()
    print(f"row: {what} | {campaign.line.count()} records, none of class A lost, {campaign.into_the_cable} of class B went into the pulled cable, {dropped} of class C dropped and counted, {campaign.repeated} came twice; "
          f"disk at most {campaign.disk / 1048576:.1f} MiB of {sum(BYTES.values()) / 1048576:.1f} MiB | "
          f"back after at most {worst:.1f} s, live values' 99th percentile while draining {1000 * live:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
