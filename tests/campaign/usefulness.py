#!/usr/bin/env python3
"""How often the gateway does the right thing, by rules and words alone and with models: `hearth gateway` beside `hearth serve`, told
utterances by POST /v1/gateway/say and plant events by its HTTP adapter, over tests/data/usefulness (docs/gateway.md says how those
were judged). Prints a table; the models are asked one after the other."""
import argparse, http.client, http.server, json, math, os, re, socket, subprocess, sys, threading, time

from server import Failed, Home, Server, finish, model_file, model_name, quantile

DATA = os.path.join(os.path.dirname(__file__), "../data/usefulness")
COLD_STARTS = 4
# Below this a model's choice among a rule's actions does not count: found on the tuned sets. SmolLM2 135M is never so sure there, and is
# not to do harm.
SURE = {"SmolLM2-135M-Instruct.Q4_1": 0.4, "smollm2-135m-q4_1": 0.4}
SURE_OF_OTHERS = 0.3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Devices(http.server.BaseHTTPRequestHandler):
    """Takes whatever the gateway writes to a device."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Gateway:
    """`hearth gateway` with one of the profiles, until the `with` ends."""

    def __init__(self, home, site, devices_port, server=None, sure=SURE_OF_OTHERS):
        self.signals_port = free_port()
        folder = os.path.join(home.folder.name, f"gateway-{self.signals_port}")
        os.mkdir(folder)
        with open(os.path.join(DATA, site + ".toml")) as file:
            profile = file.read().replace("18895", str(self.signals_port)).replace("18896", str(devices_port))
            profile = profile.replace("abstain_below = 0.3", f"abstain_below = {sure}")
        with open(os.path.join(folder, "site.toml"), "w") as file:
            file.write(profile)
        command = [home.hearth, "gateway", "--config", f"{folder}/site.toml", "--folder", folder, "--listen", "127.0.0.1:0"]
        if server:
            command += ["--serve", f"http://127.0.0.1:{server.port}"]
        self.log_path = f"{folder}/log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(home.environment, HEARTH_API_KEY=home.boss))
        while not (port := re.search(r"\(port (\d+)\)", self.log())):
            if self.process.poll() is not None:
                raise Failed("the gateway did not start: " + self.log())
            time.sleep(0.02)
        self.port, self.newest = int(port[1]), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def call(self, port, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()
        if reply.status != 200:
            raise Failed(f"{path} answered {reply.status}: {answer}")
        return answer

    def post_signals(self, values):
        answer = self.call(self.signals_port, "POST", "/signals", [{"signal": s, "value": v} for s, v in values.items()])
        if answer["refused"]:
            raise Failed(f"{answer['refused']} values of {values} were refused")

    def decided(self, patience):
        """The decision that came of what was told last; None if none was opened within `patience`."""
        give_up = time.monotonic() + patience
        while True:
            for decision in self.call(self.port, "GET", "/v1/gateway/decisions?limit=1")["data"]:
                if decision["id"] > self.newest:
                    if decision["outcome"] != "waiting":
                        self.newest = decision["id"]
                        return decision
                    give_up = math.inf
            if time.monotonic() > give_up:
                return None
            time.sleep(0.01)

    def hear(self, item):
        self.call(self.port, "POST", "/v1/gateway/say", {"text": item["text"]})
        return self.decided(0)

    def happen(self, item):
        self.post_signals(item["signals"])
        decision = self.decided(10)
        if decision is None or decision["rule"] != item["rule"]:
            raise Failed(f"{item} led to {decision}")
        self.post_signals(item["after"])
        return decision


def is_right(right, decision):
    """Whether the act (or none) is one of those that are right: a name, SIGNAL=VALUE, or SIGNAL> and SIGNAL< for more and less than 20."""
    if decision is None or decision["chosen"] == "none":
        return "none" in right
    signal, value = decision.get("signal"), decision.get("value")
    for each in right:
        name, how, wanted = re.fullmatch(r"([^=<>]+)([=<>]?)(.*)", each).groups()
        if not how and name == decision["chosen"]:
            return True
        if name == signal and (how == ">" and value > 20 or how == "<" and value < 20 or how == "=" and value == json.loads(wanted)):
            return True
    return False


def wilson(count, total):
    """Per cent, and the 95 % interval of it."""
    z, share = 1.96, count / total
    middle, half = share + z * z / 2 / total, z * math.sqrt(share * (1 - share) / total + z * z / 4 / total / total)
    low, high = (max(0, 100 * (middle + sign * half) / (1 + z * z / total)) for sign in (-1, 1))
    return f"{100 * share:.1f} ({low:.0f} to {high:.0f})"


def start_state(gateway, kind):
    if kind == "utterances":
        gateway.post_signals({f"{room}/{what}": 20 for room in ("living", "bedroom", "bathroom") for what in ("heating", "temperature")})


class Campaign:
    def __init__(self, args):
        self.args, self.home, self.rows = args, Home(args.hearth, []), []
        devices = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Devices)
        threading.Thread(target=devices.serve_forever, daemon=True).start()
        self.devices_port = devices.server_address[1]
        self.items = {}
        for kind in args.kinds:
            with open(os.path.join(DATA, kind + ("_tuned" if args.tuned else "") + ".jsonl")) as file:
                self.items[kind] = [json.loads(line) for line in file][: args.limit]

    def gateway(self, kind, server, name):
        site = "smart-home" if kind == "utterances" else "industrial"
        return Gateway(self.home, site, self.devices_port, server, SURE.get(name, SURE_OF_OTHERS))

    def run(self, kind, server, name):
        counts, times, by = {"right": 0, "wrong": 0, "abstained": 0}, [], {}
        with self.gateway(kind, server, name) as gateway:
            start_state(gateway, kind)
            if server:  # whatever is asked for the first time is asked here, uncounted
                firsts = {item.get("rule", item.get("kind")): item for item in self.items[kind]}.values()
                for item in firsts:
                    gateway.hear(item) if kind == "utterances" else gateway.happen(item)
            for item in self.items[kind]:
                decision = gateway.hear(item) if kind == "utterances" else gateway.happen(item)
                verdict = "right" if is_right(item["right"], decision) else "abstained" if decision is None or decision["chosen"] == "none" else "wrong"
                counts[verdict] += 1
                who = decision["by"] if decision else "nothing found"
                by[who] = by.get(who, 0) + 1
                if server and who == "no model":
                    raise Failed(f"the model was not asked: {decision}; {server.log()[-1000:]}")
                if decision and who in ("model", "abstained", "late"):
                    times.append(decision["took_ms"] / 1000)
                if self.args.details:
                    with open(self.args.details, "a") as file:
                        print(json.dumps({"by": name, "verdict": verdict, "item": item, "decision": decision}, ensure_ascii=False), file=file)
        total = len(self.items[kind])
        warm = f"{quantile(times, 0.5):.2f} / {quantile(times, 0.95):.2f}" if times else "-"
        print(f"{kind}, {name}: {counts} by {by}, seconds {warm}, load {os.getloadavg()[0]:.1f}", flush=True)
        self.rows.append([kind, name, *(wilson(counts[v], total) for v in counts), warm, "-"])
        return counts["right"] / total

    def cold(self, model, kind):
        """Of the first question after server and gateway have started."""
        times = []
        item = next(i for i in self.items[kind] if kind == "events" or i["kind"] == "wish")
        for _ in range(COLD_STARTS):
            with Server(self.home, [model], "--threads", "2") as server, self.gateway(kind, server, model_name(model)) as gateway:
                start_state(gateway, kind)
                decision = gateway.hear(item) if kind == "utterances" else gateway.happen(item)
                times.append((decision or {"took_ms": 0})["took_ms"] / 1000)
        print(f"{kind}, {model_name(model)}: cold {times}", flush=True)
        self.rows[-1][-1] = f"{quantile(times, 0.5):.2f} / {max(times):.2f}"

    def table(self):
        head = ["what", "chosen by", "right %", "wrong action %", "abstained %", "warm s p50 / p95", "cold s p50 / most"]
        for row in [head, ["---"] * len(head), *self.rows]:
            print("| " + " | ".join(row) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="beside --model")
    parser.add_argument("--model", default=model_file())
    parser.add_argument("--hearth", default="build/release/hearth")
    parser.add_argument("--kinds", nargs="+", default=["utterances", "events"])
    parser.add_argument("--tuned", action="store_true", help="the small sets that prompts and thresholds were tuned on")
    parser.add_argument("--limit", type=int, help="only the first so many of each")
    parser.add_argument("--details", help="a file that each item's outcome is appended to")
    parser.add_argument("--no-cold", action="store_true")
    args = parser.parse_args()
    campaign, shares = Campaign(args), []
    for kind in args.kinds:
        shares.append(f"{kind}: alone {100 * campaign.run(kind, None, 'words alone' if kind == 'utterances' else 'rules alone'):.1f} %")
    for model in dict.fromkeys([args.model, *args.models]):
        for i, kind in enumerate(args.kinds):
            with Server(campaign.home, [model], "--threads", "2") as server:
                shares[i] += f", {model_name(model)} {100 * campaign.run(kind, server, model_name(model)):.1f} %"
            if not args.no_cold:
                campaign.cold(model, kind)
    campaign.table()
    what = "tuned sets" if args.tuned else "held-out sets"
    return finish(f"{what}, {', '.join(str(len(i)) for i in campaign.items.values())} items", "right: " + "; ".join(shares), [])


if __name__ == "__main__":
    sys.exit(main())
