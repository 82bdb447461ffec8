"""A CoAP device (aiocoap): coap_device.py PORT. Says "ready", and each write, on stderr.

count (observed) counts up all the time; lamp and level (observed) and plain (not) are text; state is JSON, pack SenML JSON; long comes in
many blocks; cbor speaks another format.
"""
import asyncio
import json
import sys

import aiocoap
from aiocoap import resource

TEXT, JSON, CBOR, SENML = 0, 50, 60, 110
values = {"count": 0, "lamp": "off", "level": 20, "plain": 1, "state": {"temp": 21.5, "on": True}, "mode": "eco"}


def senml():
    return [{"bn": "urn:dev:", "bt": 1_700_000_000, "bv": 1, "n": "t", "v": 20.5}, {"n": "t", "t": 10, "v": 21.5},
            {"n": "mode", "vs": values["mode"]}, {"n": "other", "v": 9}]


bodies = {
    "count": lambda: (TEXT, values["count"]),
    "lamp": lambda: (TEXT, values["lamp"]),
    "level": lambda: (TEXT, values["level"]),
    "plain": lambda: (TEXT, values["plain"]),
    "state": lambda: (JSON, json.dumps(values["state"])),
    "pack": lambda: (SENML, json.dumps(senml())),
    "long": lambda: (JSON, json.dumps({"pad": "x" * 20_000, "value": 7})),
    "cbor": lambda: (CBOR, "1"),
}


class Values(resource.ObservableResource):
    def __init__(self, name):
        super().__init__()
        self.name = name

    async def render_get(self, request):
        form, body = bodies[self.name]()
        return aiocoap.Message(payload=str(body).encode(), content_format=form, max_age=60)

    async def render_put(self, request):
        form, text = request.opt.content_format, request.payload.decode()
        print(f"{request.code.name} {self.name} {int(form)} {text} {request.opt.uri_query}".strip(), file=sys.stderr)
        if self.name == "state":
            values["state"].update(json.loads(text))
        elif self.name == "pack":
            values["mode"] = json.loads(text)[0]["vs"]
        elif self.name == "level" and float(text) > 90:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST)
        else:
            values[self.name] = text
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)

    render_post = render_put


class Plain(resource.Resource):
    render_get, render_put, render_post = Values.render_get, Values.render_put, Values.render_post

    def __init__(self, name):
        super().__init__()
        self.name = name

    def updated_state(self):
        pass


async def main():
    site = resource.Site()
    for name in bodies:
        site.add_resource(["dev", name], (Plain if name in ("plain", "long", "cbor") else Values)(name))
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", int(sys.argv[1])))
    print("ready", file=sys.stderr)
    count = site._resources[("dev", "count")]
    while True:
        await asyncio.sleep(0.05)
        values["count"] += 1
        count.updated_state()


asyncio.run(main())
