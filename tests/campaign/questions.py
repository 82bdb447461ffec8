"""Requests of every dialect whose answers are determined, and the same answer read from a whole reply and from a stream."""
import json, random

WORDS = ("the a ship sea wind captain sails harbour night light old storm crew whale island map voice morning water deck rope "
         "anchor gull mast story north sound river stone garden winter letter window road market bread silver quiet").split()
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"},
                                           "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2}},
          "required": ["name", "age", "tags"], "additionalProperties": False}
TOOL = {"name": "set_light", "description": "Switches a lamp", "parameters": {
    "type": "object", "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}}, "required": ["room", "on"]}}


def words(pick, count):
    return " ".join(pick.choice(WORDS) for _ in range(count))


class Question:
    """Where to ask what, without model and stream; `read(body, streamed)` gives what has to be the same each time."""

    def __init__(self, dialect, path, body, can_stream=True):
        self.dialect, self.path, self.body, self.can_stream = dialect, path, body, can_stream

    def request(self, model, stream):
        body = dict(self.body, model=model)
        if self.can_stream:
            body["stream"] = stream
        return body

    def read(self, body, streamed):
        return READERS[self.dialect](body, streamed and self.can_stream)


def events(body):
    """The data of server-sent events."""
    assert body.endswith(b"\n\n"), "the stream does not end with an event"
    return [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]


def one_id(objects):
    assert len({each["id"] for each in objects}) == 1, "chunks of several answers in one stream"


def is_json(text):
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


def read_chat(body, streamed):
    if not streamed:
        return [[m["message"].get("content") or "", [[c["function"]["name"], c["function"]["arguments"]] for c in m["message"].get("tool_calls", [])],
                 m["finish_reason"], (m["logprobs"] or {}).get("content", [])] for m in json.loads(body)["choices"]]
    lines = events(body)
    assert lines[-1] == "[DONE]", "no [DONE] at the end"
    chunks = [json.loads(line) for line in lines[:-1]]
    one_id(chunks)
    choices = {}
    for chunk in chunks:
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], ["", [], None, []])
            assert choice[2] is None, "a piece after the end"
            choice[0] += piece["delta"].get("content") or ""
            for call in piece["delta"].get("tool_calls", []):
                if call["index"] == len(choice[1]):
                    choice[1].append(["", ""])
                for i, key in enumerate(("name", "arguments")):
                    choice[1][call["index"]][i] += call["function"].get(key, "")
            choice[2] = piece["finish_reason"]
            choice[3] += (piece.get("logprobs") or {}).get("content", [])
    for choice in choices.values():  # a call that was cut off is told in a stream only
        choice[1] = [call for call in choice[1] if is_json(call[1])]
    return [choices[i] for i in sorted(choices)]


def read_completion(body, streamed):
    def logprobs(choice):
        return list(zip((choice["logprobs"] or {}).get("tokens", []), (choice["logprobs"] or {}).get("token_logprobs", [])))
    if not streamed:
        return [[c["text"], c["finish_reason"], logprobs(c)] for c in json.loads(body)["choices"]]
    lines = events(body)
    assert lines[-1] == "[DONE]", "no [DONE] at the end"
    chunks = [json.loads(line) for line in lines[:-1]]
    one_id(chunks)
    choices = {}
    for piece in (piece for chunk in chunks for piece in chunk["choices"]):
        choice = choices.setdefault(piece["index"], ["", None, []])
        choice[0] += piece["text"]
        choice[1] = piece["finish_reason"]
        choice[2] += logprobs(piece)
    return [choices[i] for i in sorted(choices)]


def read_messages(body, streamed):
    if not streamed:
        whole = json.loads(body)
        return [[[b["type"], b.get("text"), b.get("name"), b.get("input")] for b in whole["content"]], whole["stop_reason"]]
    blocks, stop = [], None
    for event in map(json.loads, events(body)):
        assert stop is None or event["type"] == "message_stop", "an event after the end"
        if event["type"] == "content_block_start":
            block = event["content_block"]
            blocks.append([block["type"], block.get("text"), block.get("name"), "" if block["type"] == "tool_use" else None])
        elif event["type"] == "content_block_delta":
            at, more = (1, "text") if event["delta"]["type"] == "text_delta" else (3, "partial_json")
            blocks[event["index"]][at] += event["delta"][more]
        elif event["type"] == "message_delta":
            stop = event["delta"]["stop_reason"]
    assert event["type"] == "message_stop", "no message_stop at the end"
    blocks = [block for block in blocks if block[0] != "tool_use" or is_json(block[3])]
    return [[[*block[:3], json.loads(block[3]) if block[0] == "tool_use" else None] for block in blocks], stop]


def read_responses(body, streamed):
    if streamed:
        each = [json.loads(line) for line in events(body)]
        assert [e["sequence_number"] for e in each] == list(range(len(each))), "events are missing or double"
        assert each[-1]["type"] in ("response.completed", "response.incomplete"), "no end"
        whole = each[-1]["response"]
        text = "".join(e["delta"] for e in each if e["type"] == "response.output_text.delta")
        assert text == "".join(p["text"] for item in whole["output"] if item["type"] == "message" for p in item["content"]), "deltas are another text"
    else:
        whole = json.loads(body)
    return [[[item["type"], [part["text"] for part in item.get("content", [])]] for item in whole["output"]], whole["status"]]


def read_ollama(body, streamed):
    assert body.endswith(b"\n") or not streamed
    lines = [json.loads(line) for line in body.decode().split("\n") if line]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True], "no end"
    return ["".join(line["message"]["content"] if "message" in line else line["response"] for line in lines), lines[-1]["done_reason"]]


READERS = {"chat": read_chat, "completion": read_completion, "messages": read_messages, "responses": read_responses,
           "ollama": read_ollama, "decide": lambda body, streamed: json.loads(body)["answers"]}


def make_questions(count, seed):
    """As many, in turn of each kind; some begin with one of a few long common beginnings."""
    pick = random.Random(seed)
    beginnings = [words(pick, 40 + 20 * i) for i in range(6)]
    made = []
    for i in range(count):
        prompt = (pick.choice(beginnings) + ". " if pick.random() < 0.6 else "") + words(pick, pick.randint(4, 25)) + "?"
        messages, tokens = [{"role": "user", "content": prompt}], pick.choice((4, 12, 24, 40))
        chat = {"messages": messages, "max_tokens": tokens, "temperature": 0}
        more = {"class": pick.choice(("realtime", "interactive", "interactive", "batch")), "priority": pick.randint(-2, 2)}
        ollama = {"num_predict": tokens, "temperature": 0}
        kinds = (
            ("chat", "/v1/chat/completions", {**chat, **more}),
            ("chat", "/v1/chat/completions", {**chat, "stop": [" the", ".", "a s"]}),
            ("chat", "/v1/chat/completions", {**chat, "n": 2, "temperature": 0.9, "seed": i, **more}),
            ("chat", "/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 2}),
            ("chat", "/v1/chat/completions", {**chat, "max_tokens": 60, "response_format": {
                "type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}}),
            ("chat", "/v1/chat/completions", {**chat, "max_tokens": 60, "tools": [{"type": "function", "function": TOOL}],
                                              "tool_choice": "required"}),
            ("chat", "/v1/chat/completions", {**chat, "choices": ["yes", "no", "perhaps"]}),
            ("completion", "/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}),
            ("completion", "/v1/completions", {"prompt": [prompt, prompt[::-1]], "max_tokens": tokens, "temperature": 0, "echo": True}),
            ("completion", "/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": 2}),
            ("messages", "/v1/messages", {"messages": messages, "max_tokens": tokens, "temperature": 0}),
            ("messages", "/v1/messages", {"messages": messages, "max_tokens": 60, "temperature": 0, "tool_choice": {"type": "any"}, "tools": [
                {"name": TOOL["name"], "input_schema": TOOL["parameters"]}]}),
            ("responses", "/v1/responses", {"input": prompt, "max_output_tokens": tokens, "temperature": 0}),
            ("ollama", "/api/chat", {"messages": messages, "options": ollama}),
            ("ollama", "/api/chat", {"messages": messages, "options": {**ollama, "num_predict": 60}, "format": SCHEMA}),
            ("ollama", "/api/generate", {"prompt": prompt, "options": ollama}),
            ("decide", "/v1/decide", {"state": prompt, "questions": {"topic": {
                "type": "choice", "instructions": "What is it about?", "criteria": ["weather", "ships", "food"]}}}))
        dialect, path, body = kinds[i % len(kinds)]
        made.append(Question(dialect, path, body, can_stream=dialect != "decide"))
    return made
