"""What Home Assistant's integrations send (recorded, tests/data/home_assistant), and what their parsers need of the answers."""
import http.client
import json
import unittest
from urllib.parse import urlsplit

import jsonschema

from served import DATA, MODEL, URL


def replay(name):
    """Status, content type and body of the answer to a recorded request, sent as it was recorded."""
    head, _, body = (DATA / "home_assistant" / f"{name}.http").read_bytes().removesuffix(b"\n").partition(b"\n\n")
    address = urlsplit(URL)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=300)
    connection.connect()
    connection.sock.sendall(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
    answer = http.client.HTTPResponse(connection.sock, method=head.split()[0].decode())
    answer.begin()
    text = answer.read().decode()
    connection.close()
    if answer.status != 200:
        raise AssertionError(f"{name}: {answer.status} {text}")
    return answer.headers["Content-Type"], text


class HomeAssistant(unittest.TestCase):
    def events(self, name):
        kind, text = replay(name)
        self.assertTrue(kind.startswith("text/event-stream"), kind)
        return [json.loads(block.split("data: ", 1)[1]) if not block.endswith("[DONE]") else "[DONE]"
                for block in text.strip().split("\n\n")]  # fmt: skip

    def test_ollama_setup(self):
        self.assertIn(MODEL, [model["model"] for model in json.loads(replay("ollama_1_tags")[1])["models"]])
        self.assertEqual(json.loads(replay("ollama_2_pull")[1])["status"], "success")

    def test_ollama_conversation(self):
        for name in ("ollama_3_chat", "ollama_4_result"):
            with self.subTest(name):
                kind, text = replay(name)
                self.assertEqual(kind, "application/x-ndjson")
                lines = [json.loads(line) for line in text.splitlines()]
                self.assertEqual([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])
                for line in lines:
                    self.assertEqual((line["model"], line["message"]["role"]), (MODEL, "assistant"))
                    for call in line["message"].get("tool_calls", []):
                        self.assertIsInstance(call["function"]["arguments"], dict)
                self.assertIn(lines[-1]["done_reason"], ("stop", "length"))
                for figure in ("total_duration", "load_duration", "prompt_eval_count", "eval_count", "eval_duration"):
                    self.assertIn(figure, lines[-1])

    def test_setup_probes(self):
        """A call that is cut off in the middle is 200 and ends by length."""
        self.assertIn(MODEL, [model["id"] for model in json.loads(replay("chat_1_models")[1])["data"]])
        self.assertIn(json.loads(replay("chat_2_probe")[1])["choices"][0]["finish_reason"], ("length", "stop"))
        events = self.events("chat_3_probe_stream")
        self.assertIn(events[-2]["choices"][0]["finish_reason"], ("length", "stop"))

    def test_conversation_with_tools(self):
        for name in ("chat_4_tools", "chat_5_result", "chat_6_task"):
            with self.subTest(name):
                *chunks, done = self.events(name)
                self.assertEqual(done, "[DONE]")
                deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
                self.assertEqual([i for i, delta in enumerate(deltas) if "role" in delta], [0])
                reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
                self.assertEqual(reasons[:-1], [None] * (len(chunks) - 1))
                self.assertIn(reasons[-1], ("stop", "length", "tool_calls"))
                self.assertEqual(deltas[-1], {}, "its parser does not look at this chunk's delta")
                arguments, text = {}, ""
                for delta in deltas:
                    text += delta.get("content") or ""
                    calls = delta.get("tool_calls", [])
                    self.assertLessEqual(len(calls), 1, "it reads the first one only")
                    for call in calls:
                        if call["index"] not in arguments:
                            self.assertTrue(call["id"] and call["function"]["name"])
                        arguments[call["index"]] = arguments.get(call["index"], "") + call["function"].get("arguments", "")
                if reasons[-1] == "tool_calls":
                    self.assertTrue(all(isinstance(json.loads(text), dict) for text in arguments.values()))
                if name == "chat_6_task" and reasons[-1] == "stop":
                    form = json.loads((DATA / f"home_assistant/{name}.http").read_text().split("\n\n", 1)[1])["response_format"]
                    jsonschema.validate(json.loads(text), form["json_schema"]["schema"])

    def test_conversation_by_responses(self):
        for name in ("responses_1_tools", "responses_2_result"):
            with self.subTest(name):
                events = self.events(name)
                types = [event["type"] for event in events]
                self.assertEqual(types[0], "response.created")
                self.assertIn(types[-1], ("response.completed", "response.incomplete"))
                self.assertEqual([event["sequence_number"] for event in events], list(range(len(events))))
                items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
                self.assertEqual(items, events[-1]["response"]["output"])
