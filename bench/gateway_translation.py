#!/usr/bin/env python3
"""How long a value takes from a device's message to those that listen: MQTT in, plain MQTT, Home Assistant and Sparkplug B out, at a given rate.

  tests/devices/python build/devices ../../bench/gateway_translation.py [--hearth build/release/hearth] [--rate 1000] [--seconds 20]

A hundred signals; each message is timed from its publishing to its arrival at a client of the same broker (mosquitto, on this machine), through the
gateway. For comparison the way through the broker alone.
"""
import argparse, json, os, socket, statistics, subprocess, tempfile, threading, time

import paho.mqtt.client as mqtt

SIGNALS = 100


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def profile(port):
    broker = f'host = "127.0.0.1"\nport = {port}\n'
    signals = "".join(f'[[signal]]\nname = "line/s{i}"\nmin = 0\nmax = 1e9\nclass = "C"\n' for i in range(SIGNALS))
    ins = "".join(f'[[adapter.in]]\nsignal = "line/s{i}"\ntopic = "raw/s{i}"\n' for i in range(SIGNALS))
    return (f'{signals}\n[[adapter]]\ntype = "mqtt"\nname = "in"\n{broker}{ins}\n[[adapter]]\ntype = "mqtt"\nname = "out"\n{broker}[adapter.out]\ntopic = "out/{{signal}}"\nsignals = ["*"]\n'
            f'[[adapter]]\ntype = "home_assistant"\n{broker}signals = ["*"]\n[[adapter]]\ntype = "sparkplug"\n{broker}group = "plant"\nnode = "line"\nsignals = ["*"]\n')


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
    import struct
    from mqtt_spb_wrapper.spb_protobuf import Payload
    message = Payload()
    message.ParseFromString(payload)
    return [metric.double_value for metric in message.metrics if metric.HasField("double_value")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)  # a broker that root starts reads its file as somebody else
        port = free_port()
        with open(f"{home}/mosquitto.conf", "w") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n")
        broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", f"{home}/mosquitto.conf"], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        with open(f"{home}/site.toml", "w") as file:
            file.write(profile(port))
        listener = Listener(port, ["raw/#", "out/#", "hearth/#", "spBv1.0/#"])
        gateway = subprocess.Popen([options.hearth, "gateway", "--config", f"{home}/site.toml", "--listen", f"127.0.0.1:{free_port()}"], env=dict(os.environ, HEARTH_HOME=home),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        device = mqtt.Client()
        device.connect("127.0.0.1", port)
        device.loop_start()
        for i in range(SIGNALS):  # all are heard once before anything is timed
            device.publish(f"raw/s{i}", str(i))
        time.sleep(4)
        sent, begin = {}, time.monotonic()
        for n in range(options.rate * options.seconds):
            time.sleep(max(0, begin + n / options.rate - time.monotonic()))
            number = 1000 + n
            sent[number] = time.monotonic()
            device.publish(f"raw/s{n % SIGNALS}", str(number))
        time.sleep(2)
        for where in ("broker alone", "MQTT", "Home Assistant", "Sparkplug"):
            took = sorted(1e3 * (listener.arrived[where, number] - at) for number, at in sent.items() if (where, number) in listener.arrived)
            if took:
                print(f"{where}: {len(took)} of {len(sent)} values, p50 {statistics.median(took):.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms, most {took[-1]:.1f} ms")
            else:
                print(f"{where}: no values")
        gateway.terminate()
        gateway.wait()
        broker.terminate()


if __name__ == "__main__":
    main()
