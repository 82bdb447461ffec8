#!/usr/bin/env python3
"""Writes tests/data/encoders/bert: a tiny random BERT and the embeddings that this script, written from the paper, computes for it.

Maintenance only; no test runs it. Needs Python 3.11 with numpy. With --model FOLDER TEXTS it prints, for a real model in a folder,
one embedding per line of the file TEXTS as JSON (also needs the package tokenizers), to compare with `hearth embed`.

reference.json: {"texts": [{"text": ..., "tokens": [...], "embedding": [...]}, ...]}
"""
import json
import struct
import sys
import zlib
from math import erf
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "data" / "encoders" / "bert"
CONFIG = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 32, "intermediate_size": 64,
          "layer_norm_eps": 1e-12, "max_position_embeddings": 24, "num_attention_heads": 4, "num_hidden_layers": 2,
          "type_vocab_size": 2, "vocab_size": 48, "position_embedding_type": "absolute"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sea", "is", "calm", "ship", "##s", "##ing", "sail", "2", "0", ",", "."]
TEXTS = ["The sea is calm.", "ships sailing, sailing", "a", "the ship is unknown: 20", "", "sea " * 40]


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    kinds = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
    return {name: np.frombuffer(data[8 + size:][entry["data_offsets"][0]:entry["data_offsets"][1]], kinds[entry["dtype"]])
            .reshape(entry["shape"]).astype(np.float64)
            for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name, (kind, values) in tensors.items():
        blob = values.tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def normalised(x, w, name, eps):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]


def embedding(config, w, tokens):
    d, heads, eps = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    dense = lambda x, name: x @ w[name + ".weight"].T + w[name + ".bias"]
    x = (w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][:len(tokens)]
         + w["embeddings.token_type_embeddings.weight"][0])
    x = normalised(x, w, "embeddings.LayerNorm", eps)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        q, k, v = (dense(x, layer + "attention.self." + part).reshape(len(tokens), heads, d // heads).transpose(1, 0, 2)
                   for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(d // heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ v).transpose(1, 0, 2).reshape(len(tokens), d)
        x = normalised(x + dense(mixed, layer + "attention.output.dense"), w, layer + "attention.output.LayerNorm", eps)
        h = dense(x, layer + "intermediate.dense")
        h = 0.5 * h * (1 + np.vectorize(erf)(h / np.sqrt(2)))
        x = normalised(x + dense(h, layer + "output.dense"), w, layer + "output.LayerNorm", eps)
    mean = x.mean(0)
    return mean / np.sqrt((mean * mean).sum())


def random_weights():
    d, ffn, n, shapes = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"], {}
    for name, rows in (("word", CONFIG["vocab_size"]), ("position", CONFIG["max_position_embeddings"]), ("token_type", 2)):
        shapes[f"embeddings.{name}_embeddings.weight"] = (rows, d)
    dense = lambda name, rows, cols: shapes.update({name + ".weight": (rows, cols), name + ".bias": (rows,)})
    norm = lambda name: shapes.update({name + ".weight": (d,), name + ".bias": (d,)})
    norm("embeddings.LayerNorm")
    for i in range(n):
        layer = f"encoder.layer.{i}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{layer}attention.{part}", d, d)
        norm(layer + "attention.output.LayerNorm")
        dense(layer + "intermediate.dense", ffn, d)
        dense(layer + "output.dense", d, ffn)
        norm(layer + "output.LayerNorm")
    tensors = {"embeddings.position_ids": ("I64", np.arange(CONFIG["max_position_embeddings"]).reshape(1, -1))}
    for name, shape in shapes.items():
        random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        grid = np.clip(np.round(random.standard_normal(shape) * 4) / 4, -2.25, 2.25)
        if len(shape) == 1:
            grid = 1 + grid / 4 if name.endswith("Norm.weight") else grid / 4
        elif "embeddings" not in name:
            grid *= 2.0 ** np.round(np.log2((2 if "self" in name else 1) / np.sqrt(shape[-1])))
        tensors[name] = ("F16", grid.astype(np.float16))
    return tensors


def words():
    return WORDS + [c for c in "abcdefghi"] + ["##" + c for c in "abcdefghi"]


def tokenizer_json():
    special = [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, word in enumerate(WORDS[:5])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {word: i for i, word in enumerate(words())}}}


def pieces(text):
    """WordPiece over this script's own small texts: words of small letters, digits one by one, marks alone."""
    for mark in ",.:":
        text = text.replace(mark, f" {mark} ")
    tokens = []
    for word in text.lower().split():
        found, at = [], 0
        while at < len(word):
            fits = [n for n in range(len(word), at, -1) if ("##" if at else "") + word[at:n] in words()]
            if not fits:
                found = [words().index("[UNK]")]
                break
            found.append(words().index(("##" if at else "") + word[at:fits[0]]))
            at = fits[0]
        tokens += found
    return [2] + tokens[:CONFIG["max_position_embeddings"] - 2] + [3]


def print_real(folder, texts):
    from tokenizers import Tokenizer
    config = json.loads((folder / "config.json").read_text())
    weights = read_safetensors(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    for text in texts.read_text().splitlines():
        print(json.dumps([round(float(v), 8) for v in embedding(config, weights, tokenizer.encode(text).ids)]))


def main():
    if sys.argv[1:2] == ["--model"]:
        return print_real(Path(sys.argv[2]), Path(sys.argv[3]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_safetensors(FOLDER / "model.safetensors", random_weights())
    (FOLDER / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (FOLDER / "tokenizer.json").write_text(json.dumps(tokenizer_json()) + "\n")
    weights = read_safetensors(FOLDER / "model.safetensors")
    made = [{"text": text, "tokens": pieces(text), "embedding": [round(float(v), 7) for v in embedding(CONFIG, weights, pieces(text))]}
            for text in TEXTS]
    (FOLDER / "reference.json").write_text(json.dumps({"texts": made}) + "\n")


if __name__ == "__main__":
    main()
