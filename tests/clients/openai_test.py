"""OpenAI's own client."""
import json
import math
import time
import unittest

import jsonschema
import openai
from pydantic import BaseModel

from served import ADAPTER, DATA, ENCODER, MODEL, URL

client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=300)
HI = [{"role": "user", "content": "Say hi"}]
PARAMETERS = {
    "type": "object",
    "properties": {"room": {"type": "string", "enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "light", "description": "Switch a light", "parameters": PARAMETERS}}]
LIGHT = [{"role": "user", "content": "Turn on the kitchen light"}]


class Person(BaseModel):
    name: str
    age: int


def chat(messages=HI, **options):
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


class Chat(unittest.TestCase):
    def test_choices_differ_and_a_seed_repeats_them(self):
        first = chat(max_tokens=8, n=2, seed=1, logprobs=True, top_logprobs=3, temperature=2.0)
        again = chat(max_tokens=8, n=2, seed=1, temperature=2.0)
        texts = [choice.message.content for choice in first.choices]
        self.assertEqual(texts, [choice.message.content for choice in again.choices])
        self.assertNotEqual(*texts)
        self.assertLessEqual(first.usage.completion_tokens, 16)
        self.assertEqual([len(token.top_logprobs) for token in first.choices[0].logprobs.content], [3] * 8)

    def test_a_stream_is_the_whole_answer_in_parts(self):
        whole = chat(max_tokens=12, temperature=0)
        parts = list(chat(max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
        text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(parts[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertGreater(parts[-1].usage.prompt_tokens_details.cached_tokens, 0)

    def test_stop_texts_end_an_answer_and_are_no_part_of_it(self):
        choice = chat(max_tokens=40, temperature=0, stop=["!", " "]).choices[0]
        self.assertEqual(choice.finish_reason, "stop")
        self.assertNotRegex(choice.message.content, "[! ]")

    def test_a_required_call_has_arguments_by_its_schema_and_the_conversation_goes_on(self):
        choice = chat(LIGHT, tools=TOOLS, tool_choice="required", max_tokens=200, temperature=0).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        for call in choice.message.tool_calls:
            jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)
        results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in choice.message.tool_calls]
        history = LIGHT + [choice.message.model_dump(exclude_none=True)] + results
        self.assertEqual(chat(history, tools=TOOLS, tool_choice="none", max_tokens=5).choices[0].message.role, "assistant")

    def test_a_streamed_call_comes_head_first_one_in_a_chunk(self):
        named = {"type": "function", "function": {"name": "light"}}
        arguments, names = "", []
        for part in chat(tools=TOOLS, tool_choice=named, max_tokens=200, stream=True):
            calls = part.choices[0].delta.tool_calls or []
            self.assertLessEqual(len(calls), 1)
            for call in calls:
                names += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
        self.assertEqual(names, ["light"])
        jsonschema.validate(json.loads(arguments), PARAMETERS)

    def test_answers_have_the_form_that_was_asked_for(self):
        for form, wanted in (
            ({"choices": ["yes", "no"]}, "yes|no"),
            ({"regex": "[0-9]{3}"}, "[0-9]{3}"),
            ({"grammar": 'root ::= "a" | "b"'}, "a|b"),
            ({"structured_outputs": {"choice": ["left", "right"]}}, "left|right"),
        ):
            with self.subTest(form):
                self.assertRegex(chat(max_tokens=20, extra_body=form).choices[0].message.content, f"^({wanted})$")

    def test_a_class_of_pydantic_comes_back_as_an_object(self):
        invent = [{"role": "user", "content": "Invent a person with a short name."}]
        options = {"model": MODEL, "messages": invent, "response_format": Person, "max_tokens": 200, "temperature": 0}
        try:
            self.assertIsInstance(client.chat.completions.parse(**options).choices[0].message.parsed, Person)
        except openai.LengthFinishReasonError:
            pass  # said so, instead of an object that is cut off

    def test_what_cannot_be_held_is_refused_and_the_field_named(self):
        for options, field in (
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": {"$ref": "#/nowhere"}}}}, "response_format"),
            ({"temperature": -1}, "temperature"),
            ({"extra_body": {"grammar": "root ::= ["}}, "grammar"),
            ({"extra_body": {"class": "royal"}}, "class"),
        ):
            with self.subTest(field), self.assertRaises(openai.BadRequestError) as raised:
                chat(**options)
            self.assertRegex(raised.exception.param, "^" + field)

    def test_tokens_of_a_prompt_are_counted_as_they_are_used(self):
        counted = client.post("/chat/completions/input_tokens", body={"model": MODEL, "messages": HI}, cast_to=object)
        self.assertEqual(counted["input_tokens"], chat(max_tokens=1).usage.prompt_tokens)


class Others(unittest.TestCase):
    def test_models_and_adapters_are_listed_and_asked_by_name(self):
        models = {model.id: model for model in client.models.list()}
        self.assertLessEqual({MODEL, ADAPTER, ENCODER}, models.keys())
        self.assertEqual(models[ADAPTER].parent, MODEL)
        for name in (MODEL, ADAPTER):
            self.assertEqual(client.models.retrieve(name).id, name)
        answers = [
            client.chat.completions.create(model=name, messages=HI, max_tokens=12, temperature=0) for name in (MODEL, ADAPTER)
        ]
        self.assertNotEqual(*[answer.choices[0].message.content for answer in answers])
        self.assertEqual(answers[1].model, ADAPTER)
        for ask in (lambda: client.models.retrieve("nope"), lambda: client.completions.create(model="nope", prompt="a")):
            self.assertRaises(openai.NotFoundError, ask)

    def test_an_adapter_is_chosen_by_its_place_as_well(self):
        answer = lambda model, **extra: client.completions.create(
            model=model, prompt="The sea", max_tokens=8, temperature=0, extra_body=extra).choices[0].text
        plain, adapted = answer(MODEL), answer(ADAPTER)
        self.assertEqual(answer(MODEL, lora=[{"id": 0, "scale": 1}]), adapted)
        self.assertEqual(answer(ADAPTER, lora=[]), plain)
        self.assertEqual(answer(ADAPTER, lora=[{"id": 0, "scale": 0}]), plain)
        with self.assertRaisesRegex(openai.BadRequestError, "lora"):
            answer(MODEL, lora=[{"id": 1, "scale": 1}])

    def test_log_probabilities_of_an_echoed_prompt(self):
        """As programs that compare models ask for them: the prompt's tokens, each as likely as if the model had written it."""
        ask = lambda prompt, **more: client.completions.create(model=MODEL, prompt=prompt, temperature=0, logprobs=2, **more)
        written = ask("The capital of France", max_tokens=6).choices[0]
        whole = "The capital of France" + written.text
        told = ask(whole, max_tokens=0, echo=True).choices[0]
        self.assertEqual((told.text, told.finish_reason), (whole, "length"))
        logprobs = told.logprobs
        self.assertEqual("".join(logprobs.tokens), whole)
        self.assertEqual((logprobs.token_logprobs[0], logprobs.top_logprobs[0]), (None, None))
        self.assertEqual(logprobs.text_offset, [len("".join(logprobs.tokens[:i])) for i in range(len(logprobs.tokens))])
        for got, expected in zip(logprobs.token_logprobs[-6:], written.logprobs.token_logprobs, strict=True):
            self.assertAlmostEqual(got, expected, places=6)
        parts = [part.choices[0] for part in ask(whole, max_tokens=0, echo=True, stream=True)]
        self.assertEqual("".join(part.text for part in parts), whole)
        streamed = [value for part in parts for value in part.logprobs.token_logprobs]
        self.assertEqual(streamed, logprobs.token_logprobs)

    def test_completions_go_on_from_texts_and_tokens(self):
        answer = client.completions.create(model=MODEL, prompt=["Once", "Two"], max_tokens=4, n=2, logprobs=2)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        self.assertEqual(len(answer.choices[0].logprobs.tokens), 4)
        echoed = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, echo=True, temperature=0)
        self.assertTrue(echoed.choices[0].text.startswith("Once"))
        parts = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, stream=True, temperature=0)
        self.assertEqual("Once" + "".join(part.choices[0].text for part in parts), echoed.choices[0].text)
        self.assertTrue(client.completions.create(model=MODEL, prompt=[1, 2, 3], max_tokens=4).choices[0].text)
        with self.assertRaises(openai.BadRequestError):
            client.completions.create(model=MODEL, prompt="a", suffix="b")

    def test_embeddings_are_the_references_in_every_form(self):
        reference = json.loads((DATA / "encoders" / ENCODER / "reference.json").read_text())["texts"][:2]
        texts = [one["text"] for one in reference]
        create = lambda **options: client.embeddings.create(model=ENCODER, **options)
        in_base64 = create(input=texts)  # what the client asks for when nobody says how
        in_numbers = create(input=texts, encoding_format="float")
        from_tokens = create(input=[one["tokens"] for one in reference])
        for answer in (in_base64, in_numbers, from_tokens):
            for one, wanted in zip(answer.data, reference):
                for got, expected in zip(one.embedding, wanted["embedding"], strict=True):
                    self.assertAlmostEqual(got, expected, places=4)
        self.assertEqual(in_base64.usage.prompt_tokens, sum(len(one["tokens"]) for one in reference))
        short = create(input=texts[0], dimensions=4).data[0].embedding
        self.assertAlmostEqual(math.hypot(*short), 1, places=5)
        for wrong in ({"input": "a", "dimensions": 4096}, {"input": []}, {"input": "a " * 99}, {"input": [[-1]]}):
            with self.subTest(wrong), self.assertRaises(openai.BadRequestError):
                create(**wrong)
        with self.assertRaisesRegex(openai.BadRequestError, "makes no embeddings"):
            client.embeddings.create(model=MODEL, input="a")

    def test_responses_whole_streamed_and_with_calls(self):
        answer = client.responses.create(model=MODEL, input="Say hi", max_output_tokens=20)
        self.assertTrue(answer.output_text)
        events = list(client.responses.create(model=MODEL, input=HI, instructions="Be short", max_output_tokens=20, stream=True))
        self.assertEqual(events[0].type, "response.created")
        self.assertIn(events[-1].type, ("response.completed", "response.incomplete"))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(text, events[-1].response.output_text)
        tools = [{"type": "function", "name": "light", "parameters": PARAMETERS, "strict": True}]
        called = client.responses.create(model=MODEL, input=LIGHT, tools=tools, tool_choice="required", max_output_tokens=200)
        call = next(item for item in called.output if item.type == "function_call")
        jsonschema.validate(json.loads(call.arguments), PARAMETERS)
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
        history = LIGHT + [item.model_dump(exclude_none=True) for item in called.output] + [result]
        client.responses.create(model=MODEL, input=history, tools=tools, tool_choice="none", max_output_tokens=5)

    def test_a_batch_of_files_lines_comes_back_by_id(self):
        line = lambda i, model: {"custom_id": f"line-{i}", "method": "POST", "url": "/v1/chat/completions",
                                 "body": {"model": model, "messages": HI, "max_tokens": 4}}
        lines = [line(0, MODEL), line(1, "nope"), line(2, MODEL)]
        content = "\n".join(json.dumps(one) for one in lines).encode()
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        self.assertEqual(client.files.retrieve(file.id).bytes, len(content))
        self.assertEqual(client.files.content(file.id).read(), content)
        made = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = client.batches.create(**made)
        while batch.status not in ("completed", "failed", "cancelled"):
            time.sleep(0.02)
            batch = client.batches.retrieve(batch.id)
        self.assertEqual((batch.request_counts.completed, batch.request_counts.failed), (2, 1))
        out = [json.loads(one) for one in client.files.content(batch.output_file_id).text.splitlines()]
        self.assertEqual(sorted(one["custom_id"] for one in out), ["line-0", "line-2"])
        self.assertTrue(out[0]["response"]["body"]["choices"][0]["message"]["content"])
        wrong = json.loads(client.files.content(batch.error_file_id).text)
        self.assertEqual((wrong["custom_id"], wrong["response"]["status_code"]), ("line-1", 404))
        self.assertIn(batch.id, [one.id for one in client.batches.list()])
        self.assertIn(file.id, [one.id for one in client.files.list()])
        client.batches.cancel(client.batches.create(**made).id)
        self.assertTrue(client.files.delete(file.id).deleted)
