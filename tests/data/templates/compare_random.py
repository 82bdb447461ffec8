"""Renders random templates with jinja2 and with Hearth and prints every difference. Maintenance only.

usage: compare_random.py RENDER_LINES [--seconds N] [--seed N]
RENDER_LINES is render_lines.cc built against the text and base rooms, for example
  g++ -std=c++23 -Isrc tests/data/templates/render_lines.cc build/release/src/text/libhearth_text.a \
      build/release/src/base/libhearth_base.a -lboost_json -lfmt -lspdlog -lutf8proc -lcrypto -pthread -o render_lines
Both must give the same text, or both an error. Left out: values whose text is an address in Python, integers over 64 bits.
"""
import argparse
import json
import random
import re
import subprocess
import time

import reference

CONTEXT = {
    "messages": [
        {"role": "system", "content": "Be kind.\n"},
        {"role": "user", "content": "  H\u00ef th\u00e9re \u4f60\u597d  ", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [1.5, None, True]}}}]},
        {"role": "tool", "content": "<42> & 'so'", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes, 42.", "reasoning": "hm"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d\"q\"", "parameters": {
        "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "array"}}, "required": ["x"]}}}],
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e20, "t": True, "no": False, "nil": None, "s": "Hello wOrld", "e": "",
    "u": " \u00fcn\u00ef \n ", "l": [3, 1, 2], "w": ["b", "A", "c"], "d": {"k": "v", "a": [1], "2": 3}, "bos_token": "<s>",
    "eos_token": "</s>"}


class Generator:
    def __init__(self, rng):
        self.rng = rng

    def pick(self, *options):
        return self.rng.choice(options)

    def expression(self, depth, kind=None):
        if depth <= 0:
            return self.leaf(kind)
        kind = kind or self.pick("text", "number", "list", "dict", "any", "flag")
        if self.rng.random() < 0.08:
            return f"({self.expression(depth - 1, kind)} if {self.expression(depth - 1, 'flag')}" + (
                ")" if self.rng.random() < 0.15 else f" else {self.expression(depth - 1, kind)})")
        if self.rng.random() < 0.04:
            kind = "any"
        return getattr(self, kind)(depth - 1)

    def leaf(self, kind):
        leaves = {
            "text": ["s", "e", "u", "'abc'", '"it\'s"', "'a,b,,c'", "messages[0].content", "messages[1]['content']",
                     "messages[-2].content", "'\\n x \\t'", "bos_token", "messages[1].name", "'\u4f60x'", "'12'", "'-3.5'"],
            "number": ["n", "z", "neg", "f", "0", "1", "2", "10", "0.5", "1e3", "messages|length", "-1", "loop.index", "t"],
            "list": ["l", "w", "messages", "[]", "[1, 2.0, 'x', none]", "tools", "messages[2].tool_calls", "range(4)",
                     "messages[-1].content", "(1, 'b')", "[true, false]", "d.items()|list", "['b', 'a', 'B']", "[[1, 2], [3]]"],
            "dict": ["d", "{}", "messages[0]", "{'a': 1, 'b': [2, {'c': none}]}", "messages[3]", "tools[0].function",
                     "{1: 'one', 'two': 2}"],
            "flag": ["t", "no", "nil", "missing", "n > 3", "true", "loop.first", "messages[0].role == 'system'"],
            "any": ["nil", "missing", "big", "messages[2].content", "d.nope", "messages[9]", "loop", "x", "ns.a", "true"],
        }
        kind = kind or self.pick(*leaves)
        if self.rng.random() < 0.05:
            kind = "any"
        return self.pick(*leaves[kind])

    def text(self, depth):
        t = lambda: self.expression(depth, "text")
        n = lambda: self.expression(depth, "number")
        any_ = lambda: self.expression(depth)
        return self.pick(
            lambda: f"{t()} + {t()}", lambda: f"({t()} ~ {any_()})", lambda: f"({any_()} ~ {n()} ~ {t()})",
            lambda: f"{t()}[{self.index(depth)}]", lambda: f"({t()})[{self.slice(depth)}]", lambda: f"{t()}|upper",
            lambda: f"({t()}).{self.pick('upper', 'lower', 'title', 'strip', 'lstrip', 'rstrip', 'capitalize', 'swapcase')}()",
            lambda: f"({t()}).strip({t()})", lambda: f"({t()}).replace({t()}, {t()})",
            lambda: f"({t()}).replace({t()}, {t()}, {n()})", lambda: f"({any_()})|string", lambda: f"({any_()})|tojson",
            lambda: f"({any_()})|tojson(indent={self.pick('0', '1', '2', '4', 'none')})",
            lambda: f"({self.expression(depth, 'list')})|join({t()})", lambda: f"({t()}).join({self.expression(depth, 'list')})",
            lambda: f"({any_()})|{self.pick('trim', 'title', 'capitalize', 'lower', 'upper', 'e', 'string', 'trim')}",
            lambda: f"({any_()})|replace({t()}, {t()})", lambda: f"({t()})|indent({self.pick('2', '4', 'first=true', '1, true, true')})",
            lambda: f"({any_()})|default({t()})", lambda: f"({any_()})|d({t()}, true)", lambda: f"({t()})|reverse",
            lambda: f"'%s:%s' % ({any_()}, {n()})", lambda: f"'{{}}-{{}}'.format({t()}, {n()})", lambda: f"({t()})|center({n()})",
            lambda: f"({t()} * {self.pick('0', '2', '3')})", lambda: f"({t()})|truncate({self.pick('5', '8, true')})",
            lambda: f"({t()}).{self.pick('removeprefix', 'removesuffix', 'lstrip', 'rstrip')}({t()})")()

    def number(self, depth):
        n = lambda: self.expression(depth, "number")
        return self.pick(
            lambda: f"({n()} {self.pick('+', '-', '*', '/', '//', '%')} {n()})", lambda: f"({n()})|abs", lambda: f"-{n()}",
            lambda: f"({self.expression(depth, self.pick('text', 'list', 'dict'))})|length", lambda: f"({n()})|round({self.pick('', '1', '2')})",
            lambda: f"({self.expression(depth)})|int", lambda: f"({self.expression(depth)})|float",
            lambda: f"({self.expression(depth, 'text')}).{self.pick('find', 'count', 'rfind', 'index')}({self.expression(depth, 'text')})",
            lambda: f"({self.expression(depth, 'list')})|{self.pick('sum', 'min', 'max', 'first', 'last', 'length', 'count')}",
            lambda: f"{n()} {self.pick('+', '-', '*', '~')} {n()} {self.pick('+', '*', '%')} {n()}", lambda: f"({n()} ** {self.pick('0', '1', '2', '-1')})",
            lambda: f"({self.expression(depth, 'text')})|wordcount", lambda: f"({n()})|int + {n()}")()

    def list(self, depth):
        l = lambda: self.expression(depth, "list")
        any_ = lambda: self.expression(depth)
        t = lambda: self.expression(depth, "text")
        role = lambda: self.pick("'role'", "'content'", "'name'", "'type'", "'function.name'", "'x'", "0")
        test = lambda: self.pick("'string'", "'defined'", "'none'", "'equalto', 'user'", "'in', ['user', 'tool']", "'odd'", "'mapping'", "'gt', 1",
                                 "'ne', 2", "'sequence'", "'true'")
        return self.pick(
            lambda: f"[{any_()}, {any_()}]", lambda: f"({any_()}, {any_()})", lambda: f"({l()} + {l()})", lambda: f"({l()})[{self.slice(depth)}]",
            lambda: f"({l()})|list", lambda: f"({l()})|reverse|list", lambda: f"({l()})|sort", lambda: f"({l()})|sort(reverse=true)",
            lambda: f"({l()})|unique|list", lambda: f"({l()})|map(attribute={role()})|list",
            lambda: f"({l()})|map('{self.pick('upper', 'string', 'length', 'tojson', 'trim', 'list', 'first', 'int')}')|list",
            lambda: f"({l()})|{self.pick('selectattr', 'rejectattr')}({role()}, {test()})|list", lambda: f"({l()})|{self.pick('select', 'reject')}({test()})|list",
            lambda: f"({l()})|selectattr({role()})|list", lambda: f"({t()}).split({self.pick('', t(), t() + ', 1', 'none, 1')})",
            lambda: f"({t()}).rsplit({t()}, 1)", lambda: f"({self.expression(depth, 'dict')}).{self.pick('items', 'keys', 'values')}()|list",
            lambda: f"({self.expression(depth, 'dict')})|{self.pick('items|list', 'dictsort', 'list', 'dictsort(reverse=true)')}",
            lambda: f"({l()})|batch({self.pick('1', '2', '3, 0')})|list", lambda: f"({l()})|slice({self.pick('1', '2', '3, 0')})|list",
            lambda: f"range({self.expression(depth, 'number')})|list", lambda: f"({t()})|list", lambda: f"({t()}).splitlines()",
            lambda: f"({t()}).partition({t()})", lambda: f"({l()})|groupby({role()})|list", lambda: f"({l()})|map('default', 'z')|list")()

    def dict(self, depth):
        any_ = lambda: self.expression(depth)
        return self.pick(
            lambda: f"{{'a': {any_()}, 'b': {any_()}}}", lambda: f"dict(k={any_()})", lambda: f"{{{self.expression(depth, 'text')}: {any_()}}}",
            lambda: f"({self.expression(depth, 'list')})|first", lambda: f"dict({self.expression(depth, 'dict')}, q={any_()})",
            lambda: f"messages[{self.index(depth)}]", lambda: "messages[2].tool_calls[0].function.arguments")()

    def flag(self, depth):
        any_ = lambda: self.expression(depth)
        test = self.pick("defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "true", "false", "integer",
                         "float", "odd", "even", "divisibleby 2", "in [1, 'a', none]", "equalto 2", "eq 'x'", "gt 1", "lower", "upper", "callable")
        return self.pick(
            lambda: f"({any_()} {self.pick('==', '!=')} {any_()})", lambda: f"({self.expression(depth, 'number')} {self.pick('<', '<=', '>', '>=')} {self.expression(depth, 'number')})",
            lambda: f"({any_()} {self.pick('in', 'not in')} {self.expression(depth, self.pick('list', 'text', 'dict'))})",
            lambda: f"({any_()} is {self.pick('', 'not ')}{test})", lambda: f"(not {any_()})",
            lambda: f"({any_()} {self.pick('and', 'or')} {any_()})", lambda: f"not {any_()} {self.pick('and', 'or')} {any_()}",
            lambda: f"({self.expression(depth, 'text')}).{self.pick('startswith', 'endswith')}({self.expression(depth, 'text')})",
            lambda: f"({self.expression(depth, 'number')} < {self.expression(depth, 'number')} <= {self.expression(depth, 'number')})",
            lambda: f"({self.expression(depth, 'text')}).{self.pick('isdigit', 'isalpha', 'isspace', 'isupper', 'islower', 'isalnum')}()",
            lambda: f"({self.expression(depth, 'list')} {self.pick('<', '==', '>')} {self.expression(depth, 'list')})")()

    def any(self, depth):
        return self.pick(
            lambda: f"({self.expression(depth, 'list')})[{self.index(depth)}]", lambda: f"({self.expression(depth, 'dict')}).{self.pick('k', 'role', 'a', 'items')}",
            lambda: f"({self.expression(depth, 'dict')}).get({self.expression(depth, 'text')}{self.pick('', ', 0')})",
            lambda: f"({self.expression(depth, 'dict')})[{self.expression(depth, 'text')}]", lambda: f"m({self.expression(depth)})",
            lambda: f"m({self.expression(depth)}, b={self.expression(depth)})", lambda: f"({self.expression(depth)})|default({self.expression(depth)}, true)",
            lambda: f"({self.expression(depth, 'list')})|{self.pick('first', 'last', 'min', 'max', 'random' if False else 'first')}")()

    def index(self, depth):
        return self.pick("0", "1", "-1", "2", "5", "'a'", self.expression(depth - 1, "number"))

    def slice(self, depth):
        part = lambda: self.pick("", "", "1", "-1", "2", "-2", "10", "0")
        return f"{part()}:{part()}" + self.pick("", "", f":{self.pick('', '1', '-1', '2', '-2')}")

    def blank(self):
        return self.pick("", "", " ", "\n", "  \n", "\n  ", "x", " y\n", "\t", "\n\n", "a\r\n")

    def tag(self, body):
        return "{%" + self.pick("", "", "-", "+") + " " + body + " " + self.pick("", "", "-", "+") + "%}"

    def body(self, depth):
        return "".join(self.blank() + self.statement(depth) for _ in range(self.rng.randint(1, 3))) + self.blank()

    def statement(self, depth):
        x = lambda kind=None: self.expression(self.rng.randint(0, 3), kind)
        show = lambda: "{{" + self.pick("", "", "-") + " " + x() + " " + self.pick("", "", "-") + "}}"
        if depth <= 0:
            return show()
        body = lambda: self.body(depth - 1)
        tag = self.tag
        return self.pick(
            show, show, lambda: "{#" + self.pick("", "-", "+") + " note " + self.pick("", "-", "+") + "#}",
            lambda: tag(f"if {x('flag')}") + body() + self.pick("", tag(f"elif {x('flag')}") + body()) + self.pick("", tag("else") + body()) + tag("endif"),
            lambda: tag(f"for x in {x('list')}" + self.pick("", "", f" if {x('flag')}")) + body() + self.pick("", tag("else") + body()) + tag("endfor"),
            lambda: tag(f"for k, v in {x('dict')}.items()") + "{{ k }}={{ v }}" + body() + tag("endfor"),
            lambda: tag("for x in l") + body() + tag(f"if {x('flag')}") + tag(self.pick("break", "continue")) + tag("endif") + body() + tag("endfor"),
            lambda: tag(f"set x = {x()}"), lambda: tag(f"set {self.pick('s', 'n', 'l', 'q')} = {x()}"), lambda: tag(f"set ns.a = {x()}"),
            lambda: tag("set x") + body() + tag("endset"), lambda: tag(f"filter {self.pick('upper', 'trim', 'indent', 'lower|title')}") + body() + tag("endfilter"),
            lambda: tag(f"with x = {x()}") + body() + tag("endwith"), lambda: tag("raw") + "{{ x }} {% if %}" + self.blank() + tag("endraw"),
            lambda: tag("generation") + body() + tag("endgeneration"), lambda: tag("call m(1)") + body() + tag("endcall"),
            lambda: tag(f"macro g(a, b={x()})") + body() + "{{ a }}{{ b }}" + tag("endmacro") + "{{ g(" + x() + ") }}",
            lambda: "{{ loop.index }}{{ loop.last }}", lambda: tag("for x in [[1, [2, 3]], [4]] recursive") + "{{ loop.depth }}" + tag("if x is iterable")
            + "{{ loop(x) }}" + tag("else") + "{{ x }}" + tag("endif") + tag("endfor"))()

    def template(self):
        head = "{% set ns = namespace(a=1) %}{% macro m(a, b='B') %}[{{ a }}{{ b }}{{ caller() if caller else '' }}]{% endmacro %}"
        return head + self.body(2)


ADDRESS = re.compile(r"0x[0-9a-f]{6,}|<(function|generator|bound|built-in|Macro|Namespace|Undefined|itertools|list_rev|async|LoopContext|Template)|range\(|dict_(keys|values|items)|&lt;|\d{19,}|e\+?\d\d")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("render_lines")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    env = reference.environment()
    start = lambda: subprocess.Popen([options.render_lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours = start()
    end = time.time() + options.seconds
    seed, differences, texts = options.seed, 0, 0
    while time.time() < end and differences < 20:
        source = Generator(random.Random(seed)).template()
        seed += 1
        expected = reference.render(env, source, CONTEXT)
        ours.stdin.write(json.dumps({"template": source, "context": {**CONTEXT, "date_string": reference.DATE}}) + "\n")
        ours.stdin.flush()
        line = ours.stdout.readline()
        answer = json.loads(line) if line else {"crash": True}
        if not line:
            ours = start()
        texts += "text" in expected
        if "text" in expected and ADDRESS.search(expected["text"]) and "crash" not in answer:
            continue
        if expected.get("text") == answer.get("text") and "crash" not in answer:
            continue
        if "text" not in expected and "64 bits" not in answer.get("error", "") and "crash" not in answer and "text" not in answer:
            continue
        differences += 1
        print(f"--- seed {seed - 1}\n{source!r}\n  jinja2 {expected}\n  hearth {answer}")
    print(f"{seed - options.seed} templates, {texts} with a text, {differences} differences")


if __name__ == "__main__":
    main()
