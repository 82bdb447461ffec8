#!/usr/bin/env python3
"""What guessing tokens ahead (--speculate) gains: pairs of runs of one prompt, with `off` and with `auto`, in turn.

Texts that are copied from the prompt (an edit, an extract, JSON, code) and free prose, at temperature 0 and 0.8. Every pair has to give
the same answer. The figure of a prompt is the median of off/auto of the time an answer took after its first token; that of a group the
geometric mean over its prompts. docs/speculation.md has results. Needs only the standard library."""
import argparse, json, math, os, pathlib, statistics, subprocess, sys

COUNCIL = """The city council met on 3 May 2023 to discuss the new bridge over the river Arn. Mayor Helen Brandt said that the
bridge, which was planned in 2019, will cost 14 million euros and will be finished by the end of 2025. The old bridge, built in 1931,
is too narrow for buses and lorries. Residents of the northern quarter have asked for a safe path for bicycles and for better
lighting. The council agreed to both, and to a second public meeting in September. Until then the plans hang in the town hall."""
MINUTES = """Present: Anna Weber, Tom Riley, Jun Sato, Maria Lopez. The minutes of the last meeting were read and approved. Tom Riley
reported that the pump in hall two had failed twice in March and that a spare was ordered on 4 April. Jun Sato asked for a new
schedule for the night shift, since two people are on leave until June. Maria Lopez will write it by Friday. The budget for tools was
raised from 1,200 to 1,500 euros. The next meeting is on 12 May at nine o'clock in room 14."""
RECORDS = [{"id": 4711 + i, "name": name, "room": f"B{i + 2}{i}", "phone": f"+49 30 5550{i}{i + 1}", "active": i % 3 != 1}
           for i, name in enumerate(["Anna Weber", "Tom Riley", "Jun Sato", "Maria Lopez", "Olaf Berg"])]
CODE = '''def read_table(path, separator=","):
    """Rows of a text file as dictionaries, by the names in its first line."""
    with open(path, encoding="utf-8") as file:
        names = file.readline().rstrip("\\n").split(separator)
        rows = []
        for number, line in enumerate(file, start=2):
            values = line.rstrip("\\n").split(separator)
            if len(values) != len(names):
                raise ValueError(f"{path}:{number}: {len(values)} values, {len(names)} names")
            rows.append(dict(zip(names, values)))
    return rows
'''


def copied():
    """Prompts after which much of the prompt comes again: as a base model goes on with them."""
    def again(title, text, then, begin):
        return f"{title}:\n\n{text}\n\n{then}:\n\n{begin}"

    def first(text, words):
        return " ".join(text.split(" ")[:words])

    as_json, second = json.dumps(RECORDS, indent=2), json.dumps(RECORDS[:2], indent=2)[:-2]
    return {
        "edit: dates": again("First version of the article", COUNCIL, "The same article again, with 2023 changed to 2024",
                             first(COUNCIL.replace("2023", "2024"), 12)),
        "edit: minutes": again("Draft", MINUTES, "Corrected draft, with one name changed: Tom Riley is now Tom Reilly",
                               first(MINUTES.replace("Riley", "Reilly"), 12)),
        "extract": again("Report", COUNCIL + "\n\n" + MINUTES, "Quote from the report, word for word",
                         '"' + first(MINUTES[MINUTES.index("Tom Riley\nreported"):], 6)),
        "JSON": again("Data", as_json, "The same data with every \"active\" set to true", second.replace("false", "true")),
        "JSON from a table": again("Table", "\n".join(",".join(map(str, each.values())) for each in RECORDS),
                                   "As JSON", second),
        "code": again("File table.py", CODE, "File table.py, with the default separator changed to a semicolon",
                      'def read_table(path, separator=";"):\n    """Rows'),
    }


PROSE = {
    "story": "The lighthouse keeper had not spoken to anyone for eleven days when the boat appeared.",
    "letter": "Dear grandmother, you asked me what the first weeks in the new city were like. Well,",
    "explanation": "Bread rises because",
    "travel": "From the pass the road goes down in long bends to the valley, where",
    "essay": "What makes a good neighbour? Some people say",
    "dialogue": '"You cannot be serious," said Ellen, and put the map back on the table.',
}


def answer(options, model, prompt, speculate, temperature, seed):
    command = [options.hearth, "run", model, "--raw", "--json", "--temperature", temperature, "--seed", seed, "--max-tokens", options.tokens,
               "--threads", options.threads, "--speculate", speculate]
    done = subprocess.run(list(map(str, command)), input=prompt, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"speculation: {done.stderr.strip()}")
    return json.loads(done.stdout)


def pairs(options, model, prompt, temperature):
    """Ratios of time, the share of guesses that came true, tokens; and whether any answer differed."""
    ratios, differing, last = [], 0, None
    for seed in range(1, options.pairs + 1):
        order = ["off", "auto"] if seed % 2 else ["auto", "off"]
        got = {each: answer(options, model, prompt, each, temperature, seed) for each in order}
        differing += got["off"]["text"] != got["auto"]["text"] or got["off"]["usage"]["completion_tokens"] != got["auto"]["usage"]["completion_tokens"]
        ratios.append(got["off"]["timing"]["decode_seconds"] / got["auto"]["timing"]["decode_seconds"])
        last = got["auto"]["usage"]
    return ratios, differing, last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names in the store, or .gguf files")
    parser.add_argument("--hearth", default=os.environ.get("HEARTH", "build/release/hearth"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table, differing = [], 0
    for model in options.models:
        for group, prompts in (("copied", copied()), ("prose", PROSE)):
            for temperature in (0, 0.8):
                medians = []
                for name, prompt in prompts.items():
                    ratios, wrong, usage = pairs(options, model, prompt, temperature)
                    differing += wrong
                    medians.append(statistics.median(ratios))
                    table.append({"model": pathlib.Path(model).stem, "group": group, "temperature": temperature, "prompt": name,
                                  "ratio": round(medians[-1], 3), "least": round(min(ratios), 3), **usage})
                    if not options.json:
                        print("{model:24} {group:7} T={temperature:<4} {prompt:20} {ratio:6.2f} (least {least:.2f}); {accepted_tokens} of "
                              "{drafted_tokens} guesses came true, {completion_tokens} tokens".format(**table[-1]), flush=True)
                mean = math.exp(statistics.fmean(map(math.log, medians)))
                table.append({"model": pathlib.Path(model).stem, "group": group, "temperature": temperature, "prompt": "all",
                              "ratio": round(mean, 3), "least": round(min(medians), 3)})
                if not options.json:
                    print("{model:24} {group:7} T={temperature:<4} {prompt:20} {ratio:6.2f} (least {least:.2f})".format(**table[-1]), flush=True)
    if options.json:
        print(json.dumps({"differing": differing, "results": table}))
    else:
        print(f"answers that differ: {differing}")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
