"""Writes golden.json: every template here rendered by jinja2 with every conversation of conversations.json; in snippets.json
what each small template gives; and with --models DIR (of *.gguf files; needs the gguf package) real_models.json: those models' own templates, which are not kept here.
Maintenance only; needs jinja2."""
import argparse
import json
import pathlib

import reference

HERE = pathlib.Path(__file__).parent


def write(name, content):
    (HERE / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def expected(env, source, context):
    result = reference.render(env, source, context)
    if "error" in result:
        return {"error": True}  # Python's words are not ours
    return result


def model_template(path):
    from gguf import GGUFReader
    field = GGUFReader(path).fields.get("tokenizer.chat_template")
    return bytes(field.parts[field.data[0]]).decode() if field else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=pathlib.Path)
    options = parser.parse_args()
    env = reference.environment()
    conversations = json.loads((HERE / "conversations.json").read_text())
    golden = {path.name: {name: expected(env, path.read_text(), context) for name, context in conversations.items()}
              for path in sorted(HERE.glob("*.jinja"))}
    write("golden.json", golden)
    print(f"{len(golden)} templates, {sum(map(len, golden.values()))} renders")
    snippets = json.loads((HERE / "snippets.json").read_text())
    for case in snippets["cases"]:
        case["expected"] = expected(env, case["template"], snippets["context"])
    write("snippets.json", snippets)
    if options.models:
        models = {}
        for path in sorted(options.models.glob("*.gguf")):
            source = model_template(path)
            if source is not None:
                models[path.stem] = {name: expected(env, source, context) for name, context in conversations.items()}
        write("real_models.json", models)
        print(f"{len(models)} models")


if __name__ == "__main__":
    main()
