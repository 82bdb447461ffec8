"""Anthropic's own client."""
import unittest

import anthropic
import jsonschema

from openai_test import HI, LIGHT, PARAMETERS
from served import MODEL, URL

client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0, timeout=300)


class Messages(unittest.TestCase):
    def test_a_stream_ends_as_the_message_it_makes(self):
        options = {"model": MODEL, "max_tokens": 8, "messages": HI, "system": "Be short", "extra_body": {"temperature": 0}}
        whole = client.messages.create(**options)
        with client.messages.stream(**options) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(whole.content[0].text, text)
        self.assertEqual(final.content[0].text, text)
        self.assertEqual((final.usage.output_tokens, final.stop_reason), (whole.usage.output_tokens, whole.stop_reason))

    def test_tools(self):
        tools = [{"name": "light", "description": "Switch a light", "input_schema": PARAMETERS}]
        options = {"model": MODEL, "max_tokens": 200, "tools": tools}
        answer = client.messages.create(messages=LIGHT, tool_choice={"type": "any"}, **options)
        self.assertEqual(answer.stop_reason, "tool_use")
        use = answer.content[-1]
        jsonschema.validate(use.input, PARAMETERS)
        with client.messages.stream(messages=LIGHT, tool_choice={"type": "tool", "name": "light"}, **options) as stream:
            jsonschema.validate(stream.get_final_message().content[-1].input, PARAMETERS)
        result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "done"}]}
        history = LIGHT + [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        client.messages.create(messages=history, tool_choice={"type": "none"}, **options | {"max_tokens": 5})

    def test_tokens_are_counted(self):
        counted = client.messages.count_tokens(model=MODEL, messages=HI).input_tokens
        usage = client.messages.create(model=MODEL, max_tokens=1, messages=HI).usage
        self.assertEqual(counted, usage.input_tokens + usage.cache_read_input_tokens)

    def test_errors_are_of_the_clients_classes(self):
        for wrong, error in (
            ({"model": "nope", "max_tokens": 5}, anthropic.NotFoundError),
            ({"model": MODEL, "max_tokens": 0}, anthropic.BadRequestError),
        ):
            with self.subTest(wrong), self.assertRaises(error):
                client.messages.create(messages=HI, **wrong)
