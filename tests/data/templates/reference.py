"""The chat-template environment that model authors write for: jinja2's immutable sandbox with the options, extensions, filters
and globals of the transformers library. Needs jinja2 (pip). Maintenance only: the tests read what make_golden.py wrote."""
import json

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATE = "26 Jul 2024"  # what strftime_now gives, whatever its format


class Raised(Exception):
    """raise_exception() was called."""


class Generation(Extension):
    """{% generation %}: marks what the assistant says; here it only makes a scope."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_plain"), [], [], body).set_lineno(line)

    def _plain(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise Raised(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda pattern: DATE
    return env


def render(env, source, context):
    """{"text": ...}, {"raised": ...} if the template itself raised, or {"error": ...}."""
    variables = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "",
                 "eos_token": ""}
    variables.update(context)
    try:
        return {"text": env.from_string(source).render(**variables)}
    except Raised as error:
        return {"raised": str(error)}
    except Exception as error:  # whatever Python refuses, we have to refuse
        return {"error": f"{type(error).__name__}: {error}"}
