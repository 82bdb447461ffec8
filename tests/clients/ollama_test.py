"""Ollama's own client."""
import json
import math
import unittest

import jsonschema
import ollama

from openai_test import HI, LIGHT, PARAMETERS, TOOLS
from served import ENCODER, MODEL, SPARE, STORED, URL

client = ollama.Client(host=URL)
FEW = {"num_predict": 5, "num_ctx": 8192}


class Ollama(unittest.TestCase):
    def test_models_are_listed_shown_and_seen_running(self):
        self.assertLessEqual({MODEL, STORED, ENCODER}, {model.model for model in client.list().models})
        shown = client.show(MODEL)
        self.assertIn("completion", shown.capabilities)
        self.assertEqual(shown.details.family, "llama")
        client.generate(MODEL, "")
        self.assertIn(MODEL, [model.model for model in client.ps().models])

    def test_a_chat_streams_lines_that_make_the_whole(self):
        greedy = FEW | {"temperature": 0}
        whole = client.chat(MODEL, HI, options=greedy)
        parts = list(client.chat(MODEL, HI, stream=True, keep_alive=-1, think=False, options=greedy))
        self.assertEqual("".join(part.message.content for part in parts), whole.message.content)
        self.assertEqual([part.done for part in parts], [False] * (len(parts) - 1) + [True])
        self.assertIn(parts[-1].done_reason, ("length", "stop"))
        self.assertLessEqual(parts[-1].eval_count, 5)
        self.assertGreater(parts[-1].total_duration, 0)

    def test_a_format_holds(self):
        answer = client.chat(MODEL, LIGHT, format=PARAMETERS, options={"num_predict": 200, "temperature": 0})
        if answer.done_reason == "stop":
            jsonschema.validate(json.loads(answer.message.content), PARAMETERS)
        with self.assertRaises(ollama.ResponseError) as raised:
            client.chat(MODEL, LIGHT, format={"$ref": "#/nowhere"})
        self.assertEqual(raised.exception.status_code, 400)

    def test_tools_and_their_results_go_in(self):
        call = {"function": {"name": "light", "arguments": {"room": "hall", "on": True}}}
        history = LIGHT + [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "done", "tool_name": "light"}]
        self.assertEqual(client.chat(MODEL, history, tools=TOOLS, options=FEW).message.role, "assistant")

    def test_generate_with_and_without_the_template(self):
        greedy = FEW | {"temperature": 0}
        plain, raw = (client.generate(MODEL, "Hi", raw=raw, options=greedy).response for raw in (False, True))
        self.assertNotEqual(plain, raw)
        as_pirate = client.generate(MODEL, "Hi", system="You are a pirate.", options=greedy)
        self.assertGreater(as_pirate.prompt_eval_count, 0)

    def test_embeddings(self):
        both = client.embed(ENCODER, ["the sea", "a ship"]).embeddings
        self.assertEqual(client.embed(ENCODER, "a ship").embeddings[0], both[1])
        self.assertEqual(client.embeddings(ENCODER, "a ship").embedding, both[1])
        self.assertAlmostEqual(math.hypot(*client.embed(ENCODER, "a", dimensions=3).embeddings[0]), 1, places=5)
        self.assertEqual(client.embed(ENCODER, "sea " * 99).prompt_eval_count, 24)
        with self.assertRaisesRegex(ollama.ResponseError, "tokens"):
            client.embed(ENCODER, "sea " * 99, truncate=False)

    def test_models_are_loaded_and_put_out_by_asking_nothing(self):
        self.assertEqual(client.chat(STORED, []).done_reason, "load")
        self.assertIn(STORED, [model.model for model in client.ps().models])
        self.assertEqual(client.chat(STORED, [], keep_alive=0).done_reason, "unload")
        self.assertNotIn(STORED, [model.model for model in client.ps().models])

    def test_a_model_that_is_there_is_as_good_as_pulled(self):
        self.assertEqual(client.pull(MODEL).status, "success")
        self.assertEqual([line.status for line in client.pull(MODEL, stream=True)], ["pulling manifest", "success"])

    def test_a_model_is_deleted(self):
        client.delete(SPARE)
        for ask in (client.delete, client.show, lambda name: client.chat(name, HI), lambda name: client.generate(name, "a")):
            with self.assertRaises(ollama.ResponseError) as raised:
                ask(SPARE)
            self.assertEqual(raised.exception.status_code, 404)
            self.assertIn(f"'{SPARE}' not found", raised.exception.error)
