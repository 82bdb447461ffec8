"""The server that the tests ask: the real program with the tiny model, an adapter of it, an encoder, and a store of Ollama's.

One per run of tests; it ends with it. MODEL, ADAPTER, ENCODER, STORED (of Ollama's store) and SPARE (to be deleted) are names of models.
"""
import atexit
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

MODEL, ADAPTER, ENCODER, STORED, SPARE = "smollm2:135m", "pirate", "bert", "parrot:latest", "spare"
DATA = Path(__file__).resolve().parent.parent / "data"


def _real_model():
    if path := os.environ.get("HEARTH_TEST_MODEL"):
        return Path(path)
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    home = Path(os.environ.get("HEARTH_HOME") or Path(share) / "hearth")
    return home / "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"


def _write_adapter(path, width):
    """A LoRA adapter of rank 1 that changes the first layer so much that answers differ."""
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    metadata = [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")]
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, len(metadata) + 1)
    for key, value in metadata:
        head += text(key) + struct.pack("<I", 8) + text(value)
    head += text("adapter.lora.alpha") + struct.pack("<If", 6, 8.0)
    shapes = {"blk.0.attn_output.weight.lora_a": (width, 1), "blk.0.attn_output.weight.lora_b": (1, width)}
    for i, (name, shape) in enumerate(shapes.items()):
        head += text(name) + struct.pack("<IQQIQ", 2, *shape, 0, i * width * 4)
    values = [((i * 37) % 64 - 32) / 32 for i in range(2 * width)]
    path.write_bytes(head + b"\0" * (-len(head) % 32) + struct.pack(f"<{2 * width}f", *values))


def _write_ollama_store(folder, model):
    layers = []
    for kind, content in (
        ("model", model.read_bytes()),
        ("system", b"You are a parrot."),
        ("params", b'{"stop":["e"],"temperature":0,"num_predict":12}'),
    ):
        digest = hashlib.sha256(content).hexdigest()
        blob = folder / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        media = f"application/vnd.ollama.image.{kind}"
        layers.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)})
    manifest = folder / "manifests/registry.ollama.ai/library/parrot/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}))


def _start():
    folder = Path(tempfile.mkdtemp(prefix="hearth-clients-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = folder / f"{MODEL}.gguf"
    source = _real_model()
    if not source.exists():
        raise SystemExit(f"{source} is missing: ./dev fetch tiny")
    shutil.copyfile(source, model)
    _write_adapter(folder / "adapter.gguf", 576)
    _write_ollama_store(folder / "ollama", model)
    environment = os.environ | {"HEARTH_HOME": str(folder / "home"), "OLLAMA_MODELS": str(folder / "ollama")}
    program = os.environ["HEARTH_PROGRAM"]
    spare = next((DATA / "families/llama").glob("*.gguf"))
    subprocess.run([program, "pull", spare, "--name", SPARE], env=environment, check=True, stderr=subprocess.DEVNULL)
    command = [program, "serve", model, DATA / "encoders" / ENCODER, "--listen", "127.0.0.1:0", "--parallel", "2"]
    command += ["--adapter", f"{ADAPTER}={folder / 'adapter.gguf'}", "--context", "2048"]
    command += ["--session-folder", folder / "sessions", "--door", "127.0.0.1:0"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    atexit.register(lambda: (server.terminate(), server.wait()))
    said = []
    for line in server.stderr:
        said.append(line)
        if found := re.match(r"Listening on (http:\S+)", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()  # so that it never waits for us
            return found[1]
    raise SystemExit("hearth serve ended:\n" + "".join(said))


URL = _start()
