#!/usr/bin/env python3
"""Checks random answers that were held to schemas with Python's jsonschema.

    check_schemas.py SCHEMA_SAMPLES MODEL [SAMPLES]

SCHEMA_SAMPLES is the program (ninja schema_samples), MODEL a GGUF file whose vocabulary is used. Every schema of
tests/data/schemas/schemas.jsonl is accepted or refused as its line says; every finished answer validates, formats included.
Needs jsonschema[format-nongpl].
"""
import collections
import json
import pathlib
import subprocess
import sys

import jsonschema

SCHEMAS = pathlib.Path(__file__).parent.parent / "data/schemas/schemas.jsonl"


def with_null(schema):
    """OpenAPI's `nullable`, which JSON schema does not know, as it means it."""
    if isinstance(schema, list):
        return [with_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: with_null(value) for key, value in schema.items()}
    return {"anyOf": [schema, {"type": "null"}]} if schema.pop("nullable", False) else schema


def main():
    program, model, samples = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "5"
    lines = SCHEMAS.read_text(encoding="utf-8").strip().split("\n")
    entries = [json.loads(line) for line in lines]
    run = subprocess.run([program, model, samples], input="\n".join(lines), capture_output=True, text=True, check=True)
    default = jsonschema.Draft202012Validator
    validators = [
        None if "refused" in entry else jsonschema.validators.validator_for(entry["schema"], default=default)(
            with_null(entry["schema"]), format_checker=default.FORMAT_CHECKER)
        for entry in entries
    ]
    counts = collections.Counter()
    refused = set()
    finished = collections.Counter()
    for line in run.stdout.strip().split("\n"):  # not splitlines(), which splits at U+2028, too
        answer = json.loads(line)
        if "line" not in answer:
            print(line)
            continue
        number = answer["line"]
        wanted = entries[number - 1].get("refused")
        if "error" in answer:
            refused.add(number)
            if wanted is None or wanted not in answer["error"]:
                counts["refused wrongly"] += 1
                print(f"line {number}: {answer['error']}: {lines[number - 1][:200]}")
            continue
        if not answer["complete"]:
            counts["cut"] += 1
            continue
        finished[number] += 1
        counts["finished"] += 1
        try:
            validators[number - 1].validate(json.loads(answer["text"]))
        except Exception as error:  # of any kind: a pattern that Python cannot read counts, too
            counts["invalid"] += 1
            print(f"line {number}: {answer['text'][:200]!r}: {str(error)[:200]}: {lines[number - 1][:300]}")
    for number, entry in enumerate(entries, 1):
        if "refused" in entry and number not in refused:
            counts["accepted wrongly"] += 1
            print(f"line {number}: accepted: {lines[number - 1][:200]}")
        if "refused" not in entry and finished[number] == 0:
            counts["never finished"] += 1
            print(f"line {number}: no answer ended: {lines[number - 1][:200]}")
    print(f"{len(entries)} schemas, {len(refused)} refused;", dict(counts))
    return 1 if counts["invalid"] or counts["refused wrongly"] or counts["accepted wrongly"] else 0


sys.exit(main())
