#!/usr/bin/env python3
"""Writes tests/data/home_assistant: the requests that Home Assistant's integrations make of Ollama and of OpenAI-compatible servers.

Maintenance only; no test runs it. Needs the packages of tests/clients/requirements.txt: they are the clients that Home Assistant uses,
and what they put on the wire is recorded. Lines of the head end with a line feed instead of two characters; a line feed is added.
"""
import asyncio
from pathlib import Path

import ollama
import openai

FOLDER = Path(__file__).resolve().parent.parent / "data" / "home_assistant"
MODEL = "smollm2:135m"
SYSTEM = """Current time is 17:42:31. Today's date is 2026-11-23.
You are a voice assistant for Home Assistant.
Answer questions about the world truthfully.
Answer in plain text. Keep it simple and to the point.
When controlling Home Assistant always call the intent tools. Use HassTurnOn to lock and HassTurnOff to unlock a lock.
Static Context: An overview of the areas and the devices in this smart home:
- names: Küchenlicht
  domain: light
  areas: Kitchen
- names: Thermostat
  domain: climate
  areas: Hall
"""
ON = {"name": {"type": "string"}, "area": {"type": "string"}, "floor": {"type": "string"},
      "domain": {"type": "array", "items": {"type": "string"}},
      "device_class": {"type": "array", "items": {"type": "string", "enum": ["awning", "blind", "outlet", "switch", "gate"]}}}
LIGHT = {"name": {"type": "string"}, "color": {"type": "string"},
         "temperature": {"type": "integer", "minimum": 0}, "brightness": {"type": "integer", "minimum": 0, "maximum": 100}}
FUNCTIONS = [
    ("HassTurnOn", "Turns on/opens/presses a device or entity. For locks, this performs a 'lock' action.", ON),
    ("HassTurnOff", "Turns off/closes a device or entity. For locks, this performs an 'unlock' action.", ON),
    ("HassLightSet", "Sets the brightness percentage or color of a light", LIGHT),
    ("GetLiveContext", "Provides real-time information about the CURRENT state of devices.", {}),
]
TOOLS = [{"type": "function", "function": {"name": name, "description": about,
          "parameters": {"type": "object", "properties": properties, "required": []}}} for name, about, properties in FUNCTIONS]
USER = {"role": "user", "content": "Turn on the kitchen light"}
SCHEMA = {"type": "object", "properties": {"state": {"type": "string", "enum": ["on", "off"]}, "brightness": {"type": "integer"}},
          "required": ["state", "brightness"], "additionalProperties": False}


async def record(name, ask):
    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), 0)
        body = await reader.readexactly(length)
        lines = ["Host: 127.0.0.1:11434" if line.lower().startswith("host:") else line for line in lines]
        (FOLDER / f"{name}.http").write_bytes("\n".join(lines).encode() + body + b"\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    except Exception:
        pass  # nobody answers
    server.close()


async def main():
    system = {"role": "system", "content": SYSTEM}
    arguments = {"name": "Küchenlicht", "domain": ["light"]}
    ollama_call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "HassTurnOn", "arguments": arguments}}]}
    ollama_result = {"role": "tool", "content": '{"speech": {}, "response_type": "action_done", "data": {"success": []}}'}

    async def ollama_chat(url, messages):
        stream = await ollama.AsyncClient(host=url).chat(model=MODEL, messages=messages, tools=TOOLS, stream=True, think=False,
                                                         keep_alive="-1s", options={"num_ctx": 8192})
        async for _ in stream:
            pass

    await record("ollama_1_tags", lambda url: ollama.AsyncClient(host=url).list())
    await record("ollama_2_pull", lambda url: ollama.AsyncClient(host=url).pull(MODEL))
    await record("ollama_3_chat", lambda url: ollama_chat(url, [system, USER]))
    await record("ollama_4_result", lambda url: ollama_chat(url, [system, USER, ollama_call, ollama_result]))

    client = lambda url: openai.AsyncOpenAI(base_url=url + "/v1", api_key="-", max_retries=0)
    call = {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "HassTurnOn", "arguments": '{"name":"Küchenlicht"}'}}]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": ollama_result["content"]}
    form = {"type": "json_schema", "json_schema": {"name": "task", "strict": True, "schema": SCHEMA}}

    def chat(messages, **options):
        return lambda url: client(url).chat.completions.create(model=MODEL, messages=messages, user="01K0", **options)

    await record("chat_1_models", lambda url: client(url).models.list())
    await record("chat_2_probe", chat([{"role": "user", "content": "ping"}], tools=TOOLS, max_tokens=3))
    await record("chat_3_probe_stream", chat([{"role": "user", "content": "ping"}], tools=TOOLS, max_tokens=3, stream=True))
    several = {"tools": TOOLS, "max_tokens": 150, "top_p": 1.0, "temperature": 1.0, "stream": True}
    await record("chat_4_tools", chat([system, USER], **several))
    await record("chat_5_result", chat([system, USER, call, result], **several))
    await record("chat_6_task", chat([system, USER], response_format=form, max_tokens=150, top_p=1.0, temperature=1.0, stream=True))

    flat = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]
    items = [{"type": "message", "role": "developer", "content": SYSTEM}, {"type": "message", **USER}]
    called = {"type": "function_call", "name": "HassTurnOn", "arguments": '{"name":"Küchenlicht"}', "call_id": "call_1"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": ollama_result["content"]}

    def responses(given):
        return lambda url: client(url).responses.create(model=MODEL, input=given, tools=flat, max_output_tokens=150, top_p=1.0,
                                                        temperature=1.0, user="01K0", store=False, stream=True)

    await record("responses_1_tools", responses(items))
    await record("responses_2_result", responses(items + [called, output]))


asyncio.run(main())
