#!/usr/bin/env python3
"""How long a value takes from a device to those that listen: MQTT or Modbus in, plain MQTT, Home Assistant and Sparkplug B out, at a given rate; and a
wish from each of those back to the Modbus device.

  tests/devices/python build/devices ../../bench/gateway_translation.py [--from mqtt|modbus] [--hearth build/release/hearth] [--rate 1000] [--seconds 20]

A hundred signals. A message is timed from its publishing, a register from the answer that has it (how long it lay there before is the polling's matter), to
the arrival at a client of the same broker (mosquitto, on this machine), through the gateway; a wish from its publishing to the request that writes the
register. For comparison the way through the broker alone.
"""
import argparse, json, os, socket, statistics, struct, subprocess, tempfile, threading, time

import paho.mqtt.client as mqtt

SIGNALS = 100


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def profile(port, plc, poll_ms):
    broker = f'host = "127.0.0.1"\nport = {port}\n'
    write = "" if plc is None else '[signal.write]\nmin = 0\nmax = 65535\naction = "low"\n'
    signals = "".join(f'[[signal]]\nname = "line/s{i}"\nmin = 0\nmax = 1e9\nclass = "C"\n{write}' for i in range(SIGNALS))
    if plc is None:
        ins = "".join(f'[[adapter.in]]\nsignal = "line/s{i}"\ntopic = "raw/s{i}"\n' for i in range(SIGNALS))
        source = f'[[adapter]]\ntype = "mqtt"\nname = "in"\n{broker}{ins}\n'
    else:
        registers = "".join(f'[[adapter.register]]\nsignal = "line/s{i}"\naddress = {i}\nwritable = true\n' for i in range(SIGNALS))
        wishes = "".join(f'[[adapter.request]]\nsignal = "line/s{i}"\ntopic = "wish/s{i}"\n' for i in range(SIGNALS))
        source = (f'[[adapter]]\ntype = "modbus"\nhost = "127.0.0.1"\nport = {plc.port}\npoll = "{poll_ms}ms"\n{registers}\n'
                  f'[[adapter]]\ntype = "mqtt"\nname = "wishes"\n{broker}{wishes}\n')
    return (f'{signals}\n{source}[[adapter]]\ntype = "mqtt"\nname = "out"\n{broker}[adapter.out]\ntopic = "out/{{signal}}"\nsignals = ["*"]\n'
            f'[[adapter]]\ntype = "home_assistant"\n{broker}signals = ["*"]\n[[adapter]]\ntype = "sparkplug"\n{broker}group = "plant"\nnode = "line"\nsignals = ["*"]\n')


class Plc:
    """A Modbus device over TCP: each answer to a poll has numbers of its own. When they were told, and when registers were written."""

    def __init__(self):
        self.polls, self.told, self.written, self.recording = 0, {}, {}, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.registers = [0] * SIGNALS
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            connection = self.listener.accept()[0]
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while True:
                    self.answer(connection)
            except (OSError, EOFError):
                pass

    def answer(self, connection):
        head = self.read(connection, 8)
        transaction, _, length, unit, function = struct.unpack(">HHHBB", head)
        body = self.read(connection, length - 2)
        first, value = struct.unpack(">HH", body[:4])
        if function == 3:
            if self.recording and value == SIGNALS:  # all of them: a poll, no reading back
                self.polls += 1
                self.registers = [(1000 + self.polls * SIGNALS + i) % 65536 for i in range(SIGNALS)]
            data = b"".join(struct.pack(">H", each) for each in self.registers[first:first + value])
            reply = bytes([function, len(data)]) + data
            if self.recording and value == SIGNALS:
                self.told.update((number, time.monotonic()) for number in self.registers)
        else:  # 6: one register
            self.written.setdefault((first, value), time.monotonic())
            self.registers[first] = value
            reply = bytes([function]) + body[:4]
        connection.sendall(struct.pack(">HHHB", transaction, 0, len(reply) + 1, unit) + reply)

    @staticmethod
    def read(connection, size):
        data = b""
        while len(data) < size:
            some = connection.recv(size - len(data))
            if not some:
                raise EOFError
            data += some
        return data


class Listener:
    """When numbers arrived, by where."""

    def __init__(self, port, topics):
        self.arrived, self.births = {}, threading.Event()
        self.client = mqtt.Client()
        self.client.on_message = self.hear
        self.client.connect("127.0.0.1", port)
        self.client.subscribe([(topic, 0) for topic in topics])
        self.client.loop_start()

    def hear(self, _client, _data, message):
        now, topic, payload = time.monotonic(), message.topic, message.payload
        if topic.startswith("spBv1.0/"):
            where, numbers = "Sparkplug", numbers_of(payload)
        elif topic.startswith("out/"):
            where, numbers = "MQTT", [json.loads(payload)["value"]]
        elif topic.startswith("raw/"):
            where, numbers = "broker alone", [float(payload)]
        else:
            where = "Home Assistant"
            try:
                numbers = [float(payload)]
            except ValueError:
                return
        for number in numbers:
            self.arrived.setdefault((where, int(number)), now)


def numbers_of(payload):
    """The doubles (field 13 of a metric) of a Sparkplug payload."""
    from mqtt_spb_wrapper.spb_protobuf import Payload
    message = Payload()
    message.ParseFromString(payload)
    return [metric.double_value for metric in message.metrics if metric.HasField("double_value")]


def command(name, number):
    from mqtt_spb_wrapper.spb_protobuf import Payload
    message = Payload()
    metric = message.metrics.add()
    metric.name, metric.datatype, metric.double_value = name, 10, number
    return message.SerializeToString()


def shown(where, took, of):
    took = sorted(1e3 * each for each in took)
    if not took:
        return print(f"{where}: no values")
    print(f"{where}: {len(took)} of {of} values, p50 {statistics.median(took):.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms, most {took[-1]:.1f} ms")


def messages(device, options):
    """MQTT in: when each number was published."""
    sent, begin = {}, time.monotonic()
    for n in range(options.rate * options.seconds):
        time.sleep(max(0, begin + n / options.rate - time.monotonic()))
        number = 1000 + n
        sent[number] = time.monotonic()
        device.publish(f"raw/s{n % SIGNALS}", str(number))
    return sent


def registers(plc, options):
    """Modbus in: when each number was told."""
    plc.recording = True
    time.sleep(min(options.seconds, 600 * SIGNALS / options.rate))  # as long as 16 bits tell numbers apart
    plc.recording = False
    return plc.told


def wishes(plc, device, count=500):
    """Back: how long each wish took to the register."""
    ways = {"MQTT": lambda i, n: (f"wish/s{i}", str(n)), "Home Assistant": lambda i, n: (f"hearth/hearth/line_s{i}/set", str(n)),
            "Sparkplug": lambda i, n: ("spBv1.0/plant/NCMD/line", command(f"line/s{i}", n))}  # fmt: skip
    for at, (where, message) in enumerate(ways.items()):
        sent = {}
        for n in range(count):
            key = (n % SIGNALS, 40000 + at * count + n)
            sent[key] = time.monotonic()
            device.publish(*message(*key), qos=1)
            time.sleep(0.01)
        time.sleep(2)
        shown(f"back from {where}", [plc.written[key] - begun for key, begun in sent.items() if key in plc.written], count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", choices=("mqtt", "modbus"), default="mqtt")
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    plc = Plc() if options.source == "modbus" else None
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)  # a broker that root starts reads its file as somebody else
        port = free_port()
        with open(f"{home}/mosquitto.conf", "w") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n")
        broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", f"{home}/mosquitto.conf"], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        with open(f"{home}/site.toml", "w") as file:
            file.write(profile(port, plc, 1000 * SIGNALS // options.rate))
        listener = Listener(port, ["raw/#", "out/#", "hearth/#", "spBv1.0/#"])
        gateway = subprocess.Popen([options.hearth, "gateway", "--config", f"{home}/site.toml", "--listen", f"127.0.0.1:{free_port()}"], env=dict(os.environ, HEARTH_HOME=home),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        device = mqtt.Client()
        device.connect("127.0.0.1", port)
        device.loop_start()
        for i in range(SIGNALS):  # all are heard once before anything is timed
            device.publish(f"raw/s{i}", str(i))
        time.sleep(4)
        sent = messages(device, options) if plc is None else registers(plc, options)
        time.sleep(2)
        for where in ("broker alone", "MQTT", "Home Assistant", "Sparkplug"):
            if plc is None or where != "broker alone":
                shown(where, [listener.arrived[where, number] - at for number, at in sent.items() if (where, number) in listener.arrived], len(sent))
        if plc:
            wishes(plc, device)
        gateway.terminate()
        gateway.wait()
        broker.terminate()


if __name__ == "__main__":
    main()
