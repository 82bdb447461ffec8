"""The routes that no client has a method for; then, whether every route of docs/routes.md was asked."""
import json
import re
import time
import unittest
import urllib.error
import urllib.request

from served import ADAPTER, DATA, ENCODER, MODEL, STORED, URL

DOCUMENT = DATA.parent.parent / "docs" / "routes.md"


def ask(path, body=None, method=None):
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def answer_to(path, body):
    status, text = ask(path, body)
    if status != 200:
        raise AssertionError(f"{path}: {status} {text}")
    return json.loads(text)


def answer_to_get(path):
    return json.loads(ask(path)[1])


class Routes(unittest.TestCase):
    def test_the_rest_of_a_stream_is_got_by_the_requests_name(self):
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "max_tokens": 8, "stream": True}).encode()

        def events(path, data, **headers):
            request = urllib.request.Request(URL + path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.read().decode().split("\n\n")[:-1]

        whole = events("/v1/chat/completions", body, Idempotency_Key="count-1")
        self.assertTrue(all(event.startswith("id: ") for event in whole))
        last = whole[3].split("\n")[0].removeprefix("id: ")
        self.assertEqual(events("/v1/answers/count-1", None, Last_Event_ID=last), whole[4:])
        self.assertEqual(events("/v1/answers/count-1", None, Last_Event_ID="4"), whole[4:])
        self.assertEqual(events("/v1/chat/completions", body, Idempotency_Key="count-1"), whole)
        with self.assertRaises(urllib.error.HTTPError):
            events("/v1/chat/completions", body.replace(b"Count", b"Mount"), Idempotency_Key="count-1")
        self.assertEqual(ask("/v1/answers/count-2")[0], 404)
        self.assertEqual(answer_to_get("/v1/doors")["others"], [])
        # Without a site the page has nothing to show, and hides its button by these.
        self.assertEqual(answer_to_get("/v1/site"), {"broker": None, "members": [], "doors": [], "chains": []})

    def test_tokens_there_and_back(self):
        for model, text in ((MODEL, "Hello world"), (ENCODER, "the sea is calm")):
            tokens = answer_to("/tokenize", {"model": model, "content": text})["tokens"]
            self.assertEqual(answer_to("/detokenize", {"model": model, "tokens": tokens})["content"], text)

    def test_decisions_are_probabilities(self):
        questions = {
            "a": {"type": "choice", "instructions": "Take an umbrella?", "criteria": ["yes", "no"]},
            "s": {"type": "score", "criteria": ["low", "mid", "high"]},
            "n": {"type": "noul", "instructions": "Is it wet outside?"},
        }
        for path in ("/v1/decide", "/v1/systemone"):
            answer = answer_to(path, {"model": MODEL, "state": "It rains", "questions": questions, "abstain_below": 0.99})
            self.assertAlmostEqual(sum(answer["answers"]["a"]["probabilities"].values()), 1, places=6)
            self.assertEqual(answer["usage"]["output_tokens"], 0)

    def test_documents_are_ranked_by_vectors_and_by_asking(self):
        documents = ["the ship is sailing", "the sea is calm", {"text": "20"}] + ["a ship"] * 100
        for model in (ENCODER, MODEL):
            body = {"model": model, "query": "the sea is calm", "documents": documents, "top_n": 3, "return_documents": True}
            results = answer_to("/v1/rerank", body)["results"]
            scores = [result["relevance_score"] for result in results]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertEqual(len(results), 3)
            if model == ENCODER:
                self.assertEqual((results[0]["index"], results[0]["document"]), (1, {"text": "the sea is calm"}))

    def test_a_model_of_ollamas_store_has_the_defaults_it_was_made_with(self):
        # {"stop": ["e"], "temperature": 0, "num_predict": 12} and a system prompt.
        messages = [{"role": "user", "content": "Tell me about the sea."}]
        without = answer_to("/v1/chat/completions", {"model": MODEL, "messages": messages, "max_tokens": 1})
        answers = [
            answer_to("/v1/chat/completions", {"model": STORED, "messages": messages}),
            answer_to("/v1/chat/completions", {"model": STORED, "messages": messages}),
            answer_to("/v1/messages", {"model": STORED, "messages": messages, "max_tokens": 50}),
            answer_to("/v1/responses", {"model": STORED, "input": messages}),
            answer_to("/api/chat", {"model": STORED, "messages": messages, "stream": False}),
            answer_to("/api/generate", {"model": STORED, "prompt": messages[0]["content"], "stream": False}),
        ]
        texts = [
            answers[0]["choices"][0]["message"]["content"], answers[1]["choices"][0]["message"]["content"],
            answers[2]["content"][0]["text"], answers[3]["output"][0]["content"][0]["text"],
            answers[4]["message"]["content"], answers[5]["response"],
        ]  # fmt: skip
        self.assertEqual(len(set(texts)), 1)
        self.assertNotIn("e", texts[0])
        self.assertNotEqual(answers[0]["usage"]["prompt_tokens"], without["usage"]["prompt_tokens"])
        with_own = {"model": STORED, "messages": messages, "stop": [], "max_tokens": 30, "temperature": 0}
        self.assertIn("e", answer_to("/v1/chat/completions", with_own)["choices"][0]["message"]["content"])

    def test_conversations_are_saved_under_names_and_gone_on_with(self):
        messages = [{"role": "user", "content": "Tell me of the sea. " * 12}, {"role": "assistant", "content": "It is wide."}]
        said = {"model": MODEL, "messages": messages}
        saved = answer_to("/v1/sessions/sea/save", said)
        self.assertGreater(saved["tokens"], 60)
        self.assertEqual([each["name"] for each in answer_to_get("/v1/sessions")["sessions"]], ["sea"])
        loaded = answer_to("/v1/sessions/sea/load", {"model": MODEL})
        self.assertEqual(loaded["messages"], messages)
        asked = {"model": MODEL, "messages": [*messages, {"role": "user", "content": "How wide?"}], "max_tokens": 8, "temperature": 0}
        usage = answer_to("/v1/chat/completions", asked)["usage"]
        self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], saved["tokens"] - 4)
        for path, body in (("no/load", {}), ("..%2Fsea/save", said), ("a%20b/save", said), ("x/save", {"prompt": "a", **said}), ("x/save", {})):
            self.assertIn(ask("/v1/sessions/" + path, {"model": MODEL, **body})[0], (400, 404), path)
        self.assertEqual(ask("/v1/sessions/sea/load", {"model": ADAPTER})[0], 400)
        self.assertEqual(ask("/v1/sessions/sea", method="DELETE")[0], 200)
        self.assertEqual(ask("/v1/sessions/sea", method="DELETE")[0], 404)

    def test_what_an_answer_took_until_its_client_went_is_counted(self):
        aborted = lambda: ask("/metrics")[1].partition(f'hearth_generations_total{{model="{MODEL}",finish="abort"}} ')[2].split("\n")[0]
        before = aborted()
        body = json.dumps({"model": MODEL, "prompt": "Once upon a time", "max_tokens": 1900, "stream": True}).encode()
        with urllib.request.urlopen(URL + "/v1/completions", body, timeout=300) as answer:
            answer.readline()
        while aborted() == before:
            time.sleep(0.02)

    def test_bodies_that_are_wrong_are_the_clients_fault_everywhere(self):
        bodies = [b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', b"{", b"[]", b'"', b"[" * 3000, b'{"model":7}']
        for path in [path for method, path in documented() if method == "POST" and "{" not in path]:
            for body in bodies:
                with self.subTest(path, body=body[:20]):
                    status, text = ask(path, body)
                    self.assertIn(status, range(400, 500))
                    self.assertIn("error", json.loads(text))


def documented():
    return [(method, path) for methods, path in re.findall(r"^\| `([A-Z, ]+)` \| `([^`]+)`", DOCUMENT.read_text(), re.M)
            for method in methods.split(", ")]  # fmt: skip


class TheEnd(unittest.TestCase):
    """Named so that it runs last."""

    def test_every_route_was_asked_and_answered(self):
        for path in ("/", "/health", "/ready", "/api/version", "/api/hearth/status", "/v1/power", "/v1/memory", "/web/page.css", "/metrics"):
            self.assertEqual(ask(path)[0], 200, path)
        self.assertEqual(ask("/v1/memory", {"limit": "8GiB"})[0], 200)
        self.assertEqual(ask("/v1/memory", {"limit": "much"})[0], 400)
        answered = set()
        for line in ask("/metrics")[1].splitlines():
            if line.startswith("hearth_http_requests_total{") and 'status="200"' in line:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                answered.add((labels["method"], labels["route"]))
        self.assertEqual(sorted(set(documented()) - answered), [])
        self.assertGreater(len(documented()), 30)
