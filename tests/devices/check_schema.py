"""Profiles against the JSON schema of the docs: check_schema.py SCHEMA [valid|invalid PROFILE]... Exit 1 and a line for each that is not so."""
import json
import sys
import tomllib

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
wrong = 0
for expected, path in zip(sys.argv[2::2], sys.argv[3::2]):
    with open(path, "rb") as file:
        errors = [error.message for error in validator.iter_errors(tomllib.load(file))]
    if bool(errors) == (expected == "valid"):
        wrong += 1
        print(path, "has to be", expected, errors[:3])
sys.exit(1 if wrong else 0)
