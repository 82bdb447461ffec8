"""A Sparkplug host (mqtt-spb-wrapper): sparkplug_host.py PORT GROUP. What it decodes is a line of JSON on stderr.

A message to "host/command" with {"node", "device", "name", "value"} makes it send that command.
"""
import json
import sys

import paho.mqtt.client as mqtt  # 1.6, which mqtt-spb-wrapper asks for
from google.protobuf.json_format import MessageToDict
from mqtt_spb_wrapper import MqttSpbEntityScada
from mqtt_spb_wrapper.spb_protobuf.sparkplug_b_pb2 import Payload

port, group = int(sys.argv[1]), sys.argv[2]


def say(**what):
    print(json.dumps(what), file=sys.stderr, flush=True)


def values_of(entity):
    return {name: entity.data.get_value(name) for name in entity.data.get_names()}


def known(*ids):
    node = scada.entities_eon[ids[0]]
    for entity in [node, *node.entities_eond.values()]:
        say(entity=entity.spb_eon_device_name or entity.spb_eon_name, alive=entity.is_alive(), values=values_of(entity))


def on_message(_client, _data, message):
    if message.topic == "host/command":
        wanted = json.loads(message.payload)
        scada.send_command(wanted["name"], wanted["value"], wanted["node"], wanted.get("device"))
    elif message.topic == "host/tell":
        for node in scada.entities_eon:
            known(node)
    elif "STATE" not in message.topic and "CMD" not in message.topic:
        payload = Payload()
        payload.ParseFromString(message.payload)
        say(topic=message.topic, payload=MessageToDict(payload, preserving_proto_field_name=True))


scada = MqttSpbEntityScada(group, "host")
scada.connect(host="127.0.0.1", port=port)
client = mqtt.Client()
client.on_message = on_message
client.connect("127.0.0.1", port)
client.subscribe([(f"spBv1.0/{group}/#", 1), ("host/#", 1)])
client.publish("ready/host", "1", retain=True)
client.loop_forever()
