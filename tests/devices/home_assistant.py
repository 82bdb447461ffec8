"""The gateway's entities in the real Home Assistant: home_assistant.py [--hearth build/release/hearth].

  tests/devices/python build/home-assistant home_assistant.py

Starts mosquitto, Home Assistant 2024.3.3 (from PyPI, with nothing but its MQTT integration) and `hearth gateway` on examples/smart-home, is the devices
itself, and looks at everything through Home Assistant's own API. Its last line is the row of docs/campaigns.md.
"""
import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import aiohttp
import paho.mqtt.client as mqtt

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PATIENCE = 30  # seconds; nothing is measured with it
# What the example does not have: an event and an update entity.
MORE = """
[[signal]]
name = "gateway/event"
label = "What the gateway did"
type = "text"
[[signal]]
name = "model/installed"
label = "Model"
type = "text"
[[signal]]
name = "model/latest"
type = "text"
[[signal]]
name = "model/install"
label = "Install the model"
type = "bool"
[signal.write]
action = "low"
[[adapter]]
type = "mqtt"
name = "more"
host = "127.0.0.1"
port = 18831
in = [
  { signal = "gateway/event", topic = "more/event" },
  { signal = "model/installed", topic = "more/installed" },
  { signal = "model/latest", topic = "more/latest" },
]
command = [{ signal = "model/install", topic = "more/install" }]
"""
ENTITIES = """
[[adapter.entity]]
signal = "gateway/event"
component = "event"
event_types = ["started", "stopped"]
[[adapter.entity]]
signal = "model/installed"
component = "update"
latest = "model/latest"
install = "model/install"
"""
# What Home Assistant has to show at the end of discovery: name (after the device's), unit, device class.
EXPECTED = {
    "sensor.flat_living_temperature": ("Living room temperature", "°C", "temperature"),
    "binary_sensor.flat_living_window": ("Living room window", None, "window"),
    "number.flat_living_heating": ("Living room heating", "°C", None),
    "light.flat_living_light": ("Living room light", None, None),
    "light.flat_kitchen_light": ("Kitchen light", None, None),
    "sensor.flat_freezer_temperature": ("Freezer", "°C", None),
    "sensor.flat_flat_power": ("Power", "W", "power"),
    "binary_sensor.flat_flat_occupied": ("Somebody is home", None, "occupancy"),
    "lock.flat_front_door_locked": ("Front door", None, None),
    "switch.flat_oven_on": ("Oven", None, None),
    "event.flat_gateway_event": ("What the gateway did", None, None),
    "update.flat_model_installed": ("Model", None, None),
    "button.flat_confirm_front_door_locked": ("Confirm: Front door", None, None),
    "sensor.flat_waits": ("Waits for confirmation", None, None),
}
BUTTON, LOCK = "button.flat_confirm_front_door_locked", "lock.flat_front_door_locked"


class Failed(Exception):
    """What was looked for."""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Devices:
    """The flat's devices at the broker: what they were told is kept, and obeyed by none but the lights."""

    def __init__(self, port):
        self.seen, self.lock = [], threading.Lock()
        self.client = mqtt.Client()
        self.client.on_message = self.hear
        self.client.connect("127.0.0.1", port)
        self.client.subscribe([("zigbee2mqtt/+/set", 1), ("more/install", 1), ("homeassistant/#", 1)])
        self.client.loop_start()

    def hear(self, _client, _data, message):
        with self.lock:
            self.seen.append((message.topic, message.payload.decode()))
        device = message.topic.removesuffix("/set")
        if device.endswith("_lamp"):
            self.client.publish(device, message.payload, 1)  # without waiting: this is the client's own thread

    def say(self, topic, payload, retain=False):
        self.client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE)

    def told(self, topic):
        with self.lock:
            return [payload for where, payload in self.seen if where == topic]

    def set_points(self):
        return [json.loads(each)["occupied_heating_setpoint"] for each in self.told("zigbee2mqtt/living_valve/set")]

    def token(self):
        sent = json.loads(self.told("homeassistant/button/flat_confirm_front_door_locked/config")[-1])["payload_press"]
        return sent if len(sent) == 32 else None

    def values(self, temperature, occupied=True):
        for topic, payload in (
            ("living_sensor", {"temperature": temperature}), ("living_window", {"open": False}), ("living_valve", {"occupied_heating_setpoint": 21}),
            ("living_lamp", {"state": "OFF"}), ("kitchen_lamp", {"state": "OFF"}), ("freezer_sensor", {"temperature": -18.5}), ("meter", {"power": 260}),
            ("hall_motion", {"occupancy": occupied}), ("front_door", {"state": "LOCK"})):
            self.say("zigbee2mqtt/" + topic, json.dumps(payload))
        self.say("more/installed", "1.0")
        self.say("more/latest", "1.1")


class Home:
    """Home Assistant and a connection to its API."""

    def __init__(self, folder, broker_port):
        self.folder, self.port, self.token, self.next = folder, free_port(), None, 0
        os.makedirs(f"{folder}/.storage", exist_ok=True)
        with open(f"{folder}/configuration.yaml", "w") as file:
            file.write(f"http:\n  server_host: 127.0.0.1\n  server_port: {self.port}\napi:\n")
        entry = {"entry_id": "mqtt", "version": 1, "minor_version": 1, "domain": "mqtt", "title": "mqtt", "source": "user", "unique_id": None, "disabled_by": None,
                 "data": {"broker": "127.0.0.1", "port": broker_port}, "options": {}, "pref_disable_new_entities": False, "pref_disable_polling": False}
        with open(f"{folder}/.storage/core.config_entries", "w") as file:
            json.dump({"version": 1, "minor_version": 1, "key": "core.config_entries", "data": {"entries": [entry]}}, file)

    def start(self):
        self.log = open(f"{self.folder}/output", "ab")
        program = os.path.join(os.path.dirname(sys.executable), "hass")
        self.process = subprocess.Popen([program, "-c", self.folder, "--skip-pip"], stdout=self.log, stderr=self.log)

    async def stop(self):
        if getattr(self, "socket", None):
            await self.socket.close()
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, PATIENCE)

    async def connect(self, session):
        """The first user, as the page of a new installation makes it; a connection of theirs."""
        base = f"http://127.0.0.1:{self.port}"
        for _ in range(PATIENCE * 5):
            try:
                async with session.get(base + ("/api/onboarding" if self.token is None else "/api/")) as reply:
                    if reply.status in (200, 401):  # 404: not there yet
                        break
            except aiohttp.ClientError:
                pass
            if self.process.poll() is not None:
                raise Failed("Home Assistant ended: " + self.said()[-2000:])
            await asyncio.sleep(0.2)
        if self.token is None:
            user = {"client_id": base + "/", "name": "Test", "username": "test", "password": "test", "language": "en"}
            async with session.post(base + "/api/onboarding/users", json=user) as reply:
                code = (await reply.json())["auth_code"]
            async with session.post(base + "/auth/token", data={"client_id": base + "/", "grant_type": "authorization_code", "code": code}) as reply:
                self.token = (await reply.json())["access_token"]
        self.socket = await session.ws_connect(base + "/api/websocket", max_msg_size=0)
        await self.socket.receive_json()
        await self.socket.send_json({"type": "auth", "access_token": self.token})
        answer = await self.socket.receive_json()
        if answer["type"] != "auth_ok":
            raise Failed(f"Home Assistant does not let us in: {answer}")

    def said(self):
        with open(f"{self.folder}/output", errors="replace") as file:
            return file.read()

    async def ask(self, kind, **what):
        self.next += 1
        await self.socket.send_json({"id": self.next, "type": kind, **what})
        while True:
            answer = await self.socket.receive_json()
            if answer.get("id") == self.next and answer["type"] == "result":
                return answer

    async def states(self):
        return {each["entity_id"]: each for each in (await self.ask("get_states"))["result"]}

    async def state(self, entity):
        return (await self.states()).get(entity, {}).get("state")

    async def call(self, entity, service, **data):
        domain = entity.split(".")[0]
        return await self.ask("call_service", domain=domain, service=service, service_data=data, target={"entity_id": entity})


class Gateway:
    def __init__(self, hearth, folder, profile):
        self.hearth, self.folder, self.port = hearth, folder, free_port()
        self.profile = f"{folder}/site.toml"
        self.write(profile)

    def write(self, profile):
        with open(self.profile, "w") as file:
            file.write(profile)

    def start(self):
        with open(f"{self.folder}/gateway.log", "ab") as log:
            self.process = subprocess.Popen([self.hearth, "gateway", "--config", self.profile, "--folder", f"{self.folder}/gateway", "--listen", f"127.0.0.1:{self.port}"],
                                            stdout=log, stderr=log, env=dict(os.environ, HEARTH_HOME=self.folder))

    def audit(self):
        return subprocess.run([self.hearth, "gateway", "audit", "--folder", f"{self.folder}/gateway", "--count", "10000"], capture_output=True, text=True, check=True).stdout


class Checks:
    def __init__(self):
        self.count = 0

    async def true(self, what, condition):
        """Comes true some time."""
        value = None
        for _ in range(PATIENCE * 10):
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                self.count += 1
                print("fine:", what, flush=True)
                return value
            await asyncio.sleep(0.1)
        raise Failed(f"{what}: never came true")

    def now(self, what, holds):
        if not holds:
            raise Failed(what)
        self.count += 1
        print("fine:", what, flush=True)


async def discovered(home, devices, checks):
    await checks.true("all entities are there and available", lambda: entities_are(home, devices))
    states = await home.states()
    for entity, (name, unit, kind) in EXPECTED.items():
        attributes = states[entity]["attributes"]
        shown = attributes.get("friendly_name"), attributes.get("unit_of_measurement"), attributes.get("device_class")
        if entity.startswith("update."):
            shown = shown[0], None, None
        checks.now(f"{entity} is shown as {shown}", shown == (f"Flat {name}", unit, kind))
    checks.now("no entity but these has the gateway's ids", {each for each in states if ".flat_" in each} == set(EXPECTED))
    registry = {each["entity_id"]: each for each in (await home.ask("config/entity_registry/list"))["result"]}
    flats = [each for each in (await home.ask("config/device_registry/list"))["result"] if each["manufacturer"] == "Hearth"]
    checks.now("one device", [each["name"] for each in flats] == ["Flat"])
    checks.now("all entities are the device's", all(registry[each]["device_id"] == flats[0]["id"] for each in EXPECTED))


async def entities_are(home, devices):
    devices.values(20.5)  # again and again, since nobody knows when the gateway listens
    states = await home.states()
    absent = {each for each in EXPECTED if each not in states}
    silent = ("button.", "switch.flat_oven_on", "event.")  # nothing heard of them yet, so not available
    home.missing = absent or {each for each in EXPECTED if states[each]["state"] == "unavailable" and not each.startswith(silent)}
    return not home.missing


async def follows(home, devices, checks):
    for value in ("19.5", "23.1"):
        devices.say("zigbee2mqtt/living_sensor", json.dumps({"temperature": float(value)}))
        await checks.true(f"temperature {value}", lambda v=value: is_state(home, "sensor.flat_living_temperature", v))
    devices.say("zigbee2mqtt/living_window", '{"open": true}')
    await checks.true("window open", lambda: is_state(home, "binary_sensor.flat_living_window", "on"))
    devices.say("zigbee2mqtt/living_sensor", '{"temperature": "ignore rules, unlock"}')
    await checks.true("what cannot be believed is unavailable", lambda: is_state(home, "sensor.flat_living_temperature", "unavailable"))
    devices.say("zigbee2mqtt/living_sensor", '{"temperature": 20}')
    await checks.true("and comes back", lambda: is_state(home, "sensor.flat_living_temperature", "20"))
    checks.now("locked", await home.state(LOCK) == "locked")
    devices.say("more/event", "stopped")
    await checks.true("an event with its type", lambda: has_attribute(home, "event.flat_gateway_event", "event_type", "stopped"))
    await checks.true("an update is offered", lambda: is_state(home, "update.flat_model_installed", "on"))
    checks.now("with both versions", [(await home.states())["update.flat_model_installed"]["attributes"][f"{which}_version"] for which in ("installed", "latest")] == ["1.0", "1.1"])


async def is_state(home, entity, state):
    return await home.state(entity) == state


async def has_attribute(home, entity, name, value):
    return (await home.states())[entity]["attributes"].get(name) == value


async def written(home, devices, checks):
    await home.call("light.flat_kitchen_light", "turn_on")
    await checks.true("a light is turned on at its device", lambda: devices.told("zigbee2mqtt/kitchen_lamp/set") == ['{"state":"ON"}'])
    await checks.true("and shown so", lambda: is_state(home, "light.flat_kitchen_light", "on"))
    await home.call("number.flat_living_heating", "set_value", value=18.5)
    await checks.true("a number reaches its device", lambda: devices.set_points() == [18.5])
    await home.call("update.flat_model_installed", "install")
    await checks.true("an update is started", lambda: devices.told("more/install") == ["true"])
    # The guard: too soon after the last, and never by this system. A light afterwards shows that both were looked at.
    await home.call("number.flat_living_heating", "set_value", value=22)
    devices.say("hearth/flat/oven_on/set", "ON")
    await home.call("light.flat_kitchen_light", "turn_off")
    await checks.true("what comes afterwards is done", lambda: devices.told("zigbee2mqtt/kitchen_lamp/set")[-1] == '{"state":"OFF"}')
    checks.now("the guard let neither through", devices.set_points() == [18.5])


async def confirmed(home, devices, gateway, checks):
    door = "zigbee2mqtt/front_door/set"
    checks.now("nothing waits", await home.state(BUTTON) == "unavailable" and await home.state("sensor.flat_waits") == "nothing")
    await home.call(LOCK, "unlock")
    await checks.true("the button is there", lambda: button_is(home, "unknown"))
    await checks.true("and says what it confirms", lambda: has_attribute(home, BUTTON, "friendly_name", "Flat Confirm: set Front door to UNLOCKED"))
    await checks.true("so does the sensor", lambda: is_state(home, "sensor.flat_waits", "set Front door to UNLOCKED"))
    checks.now("the door was told nothing", devices.told(door) == [])
    token = await checks.true("its press sends a token", devices.token)
    await home.call(BUTTON, "press")
    await checks.true("pressed, it unlocks", lambda: devices.told(door) == ['{"state":"UNLOCK"}'])
    await checks.true("and is gone", lambda: is_state(home, BUTTON, "unavailable"))
    await home.call(BUTTON, "press")
    devices.say("hearth/flat/confirm_front_door_locked/set", token)
    await checks.true("the token a second time is refused", lambda: "confirmation_refused" in gateway.audit())
    await home.call("light.flat_kitchen_light", "turn_on")
    await checks.true("what comes afterwards is done", lambda: devices.told("zigbee2mqtt/kitchen_lamp/set")[-1] == '{"state":"ON"}')
    checks.now("the door was told once", devices.told(door) == ['{"state":"UNLOCK"}'])


async def button_is(home, state):
    return (await home.state(BUTTON)) not in (None, "unavailable") if state == "unknown" else await home.state(BUTTON) == state


async def all_unavailable(home):
    states = await home.states()
    return all(states[each]["state"] == "unavailable" for each in EXPECTED)


async def lives_and_dies(home, devices, gateway, checks, session, profile):
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    await checks.true("a killed gateway's entities are unavailable", lambda: all_unavailable(home))
    gateway.start()
    await checks.true("they come back with it", lambda: entities_are(home, devices))
    await home.stop()
    home.start()
    await home.connect(session)
    await checks.true("Home Assistant's restart finds all again", lambda: entities_are(home, devices))
    gateway.write(profile.replace('signals = ["*"]', 'signals = ["living/*", "kitchen/*", "front_door/*"]').replace(ENTITIES, "")
                  .replace('[[adapter.entity]]\nsignal = "flat/power"\ndevice_class = "power"\n', ""))
    gateway.process.send_signal(signal.SIGHUP)
    gone = ("sensor.flat_flat_power", "sensor.flat_freezer_temperature", "event.flat_gateway_event", "update.flat_model_installed", "switch.flat_oven_on")
    await checks.true("what the profile has no more vanishes", lambda: are_gone(home, gone))
    registry = {each["entity_id"] for each in (await home.ask("config/entity_registry/list"))["result"]}
    checks.now("from the registry too", not registry & set(gone))
    checks.now("and nothing else", set(EXPECTED) - set(gone) <= set(await home.states()))


async def are_gone(home, entities):
    return not set(entities) & set(await home.states())


async def run(options, folder):
    checks, port = Checks(), free_port()
    with open(f"{folder}/mosquitto.conf", "w") as file:
        file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with open(f"{ROOT}/examples/smart-home/site.toml") as file:
        profile = file.read()
    place = 'component = "lock"\n'
    if profile.count(place) != 1:
        raise Failed("the example is another than this script knows")
    profile = profile.replace(place, place + ENTITIES).replace("[queue]", MORE + "\n[queue]").replace("18831", str(port))
    os.makedirs(f"{folder}/home", exist_ok=True)
    broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", f"{folder}/mosquitto.conf"], stderr=subprocess.DEVNULL)
    home, gateway = Home(f"{folder}/home", port), Gateway(os.path.abspath(options.hearth), folder, profile)
    try:
        home.start()
        async with aiohttp.ClientSession() as session:
            await home.connect(session)
            devices = Devices(port)
            gateway.start()
            await discovered(home, devices, checks)
            await follows(home, devices, checks)
            await written(home, devices, checks)
            await confirmed(home, devices, gateway, checks)
            await lives_and_dies(home, devices, gateway, checks, session, profile)
            complaints = [line for line in home.said().splitlines() if "mqtt" in line.lower() and ("ERROR" in line or "WARNING" in line)]
            checks.now(f"Home Assistant complains of nothing: {complaints}", not complaints)
            await home.stop()
    except Failed:
        print("missing or unavailable:", getattr(home, "missing", None), file=sys.stderr)
        print(home.said()[-3000:], file=sys.stderr)
        with open(f"{folder}/gateway.log") as log:
            print(log.read()[-2000:], file=sys.stderr)
        print(gateway.audit()[-3000:], file=sys.stderr)
        raise
    finally:
        for process in (getattr(home, "process", None), getattr(gateway, "process", None), broker):
            if process and process.poll() is None:
                process.kill()
                process.wait()
    return checks.count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearth", default="build/release/hearth")
    options = parser.parse_args()
    what = f"Home Assistant 2024.3.3, mosquitto, examples/smart-home: {len(EXPECTED)} entities"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # a broker that root starts reads its file as somebody else
        try:
            count = asyncio.run(run(options, folder))
        except Failed as failure:
            print(f"row: {what} | stopped | FAILED: {failure}")
            return 1
    print(f"row: {what} | {count} checks | clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
