#!/usr/bin/env python3
"""Writes tests/data/families: a tiny random model of every family, with the logits an independent engine gives.

Maintenance only; no test runs it. Needs Python 3.11 with torch, transformers 5, safetensors, numpy and gguf, and, for
the GGUF files, a llama.cpp source tree whose converter is used:

    make_families.py [--llama-cpp DIR] [--scratch DIR] [NAME ...]

Each folder holds config.json, tokenizer.json, model.safetensors, reference.json and, for the families that llama.cpp
converts, model.gguf with the same values. reference.json:

    {"engine": "...", "runs": [{"tokens": [...], "logits": [{"position": p, "values": [n_vocab floats]}, ...],
                                "logits_kv_f16": [likewise, for the last positions]}, ...]}

The logits come from transformers in float32 with plain ("eager") attention, over the whole sequence at once; for
logits_kv_f16 keys and values were rounded to f16 first, as a KV cache of that type does. Weights are random, the same on every run (the seed is the CRC of the folder's and the tensor's name), few-valued so that they compress,
and scaled so that every tensor matters: perturbing any one of them moves some kept logit by more than 0.01, which is
checked here. check_families.py compares llama.cpp with the same references.
"""
import argparse
import contextlib
import json
import logging
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from family_configs import FAMILIES, VOCAB

FOLDER = Path(__file__).resolve().parent.parent / "data" / "families"
SENSITIVITY_MIN = 1e-2


def generator(*words):
    return np.random.Generator(np.random.PCG64(zlib.crc32("/".join(words).encode())))


def tokens_of_vocabulary():
    """0 ends a text, the last is the only merge, the others are the characters from the space (as BPE writes it) on."""
    return ["<|end|>", "\u0120"] + [chr(c) for c in range(33, 32 + VOCAB - 2)] + ["TH"]


def tokenizer_json():
    vocab = {token: i for i, token in enumerate(tokens_of_vocabulary())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"id": 0, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocab, "merges": [["T", "H"]]}}


def random_tensor(seed, tensor_name, shape, gemma_norm):
    """Multiples of a quarter within +-2.25 times a power of two near the wanted deviation."""
    grid = np.clip(np.round(generator(seed, tensor_name).standard_normal(shape) * 4) / 4, -2.25, 2.25)
    if len(shape) == 1:
        if "norm" in tensor_name:
            return grid * 0.25 if gemma_norm else 1 + grid * 0.25
        return grid * 0.5  # a bias
    if "embed_tokens" in tensor_name or "lm_head" in tensor_name:
        return grid * 0.5
    if "conv.conv" in tensor_name:
        return grid * 0.5
    gain = 1.4 if any(part in tensor_name for part in ("q_proj", "k_proj", "qkv_proj", "gate")) else 1.0
    return grid * 2.0 ** np.round(np.log2(gain / np.sqrt(shape[-1])))


def shapes_of_checkpoint(folder):
    """Names and shapes as a published checkpoint has them (transformers may fuse or rename in memory)."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, max_shard_size="1GB")
        from safetensors import safe_open
        with safe_open(Path(scratch) / "model.safetensors", "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in sorted(file.keys())}


def write_weights(entry, folder):
    dtype = getattr(torch, entry["dtype"])
    gemma = entry["config"]["model_type"].startswith("gemma")
    tensors = {}
    for tensor_name, shape in shapes_of_checkpoint(folder).items():
        values = torch.from_numpy(random_tensor(entry["seed"], tensor_name, shape, gemma).astype(np.float32))
        assert torch.equal(values, values.to(dtype).float()), tensor_name
        tensors[tensor_name] = values.to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                       output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[problem], (problem, info[problem])
    return model.eval()


def logits_of(model, tokens):
    with torch.inference_mode():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


@contextlib.contextmanager
def rounded_kv(model):
    """Within it, attention sees keys (after rope) and values as f16 holds them."""
    module = sys.modules[type(model).__module__]
    exact = module.eager_attention_forward

    def rounded(layer, query, key, value, *rest, **options):
        return exact(layer, query, key.half().float(), value.half().float(), *rest, **options)

    module.eager_attention_forward = rounded
    try:
        yield
    finally:
        module.eager_attention_forward = exact


def rows_of(logits, positions):
    return [{"position": p, "values": [float(f"{v:.7g}") for v in logits[p].tolist()]} for p in positions]


def check_sensitivity(name, folder, kept):
    """Fails unless noise in any one parameter (any one expert's, where they are stacked) shows in the logits."""
    model = load_model(folder)
    weakest = (float("inf"), "")
    for parameter_name, parameter in model.named_parameters():
        for index in range(parameter.shape[0]) if parameter.ndim == 3 and "expert" in parameter_name else [None]:
            part = parameter.data if index is None else parameter.data[index]
            saved = part.clone()
            noise = generator(name, parameter_name, "noise").standard_normal(part.shape).astype(np.float32)
            part += 0.2 * saved.std() * torch.from_numpy(noise)
            change = max((logits_of(model, tokens)[positions] - logits).abs().max().item()
                         for tokens, positions, logits in kept)
            part.copy_(saved)
            weakest = min(weakest, (change, f"{parameter_name} {'' if index is None else index}"))
    assert weakest[0] > SENSITIVITY_MIN, f"{name}: {weakest}"
    return weakest


def write_reference(name, entry, folder):
    model = load_model(folder)
    kept, lines = [], []
    for length, positions in entry["runs"].items():
        tokens = generator(entry["seed"], "tokens").integers(1, VOCAB, length).tolist()
        logits = logits_of(model, tokens)
        with rounded_kv(model):
            kv_f16 = logits_of(model, tokens)
        change = (kv_f16 - logits).abs().max().item()
        assert torch.isfinite(logits).all() and logits.std() > 0.5 and 0 < change < 0.05, (name, change)
        kept.append((tokens, list(positions), logits[list(positions)]))
        run = {"logits": rows_of(logits, positions), "logits_kv_f16": rows_of(kv_f16, positions[-3:])}
        lines.append('{"tokens": %s,\n%s}' % (json.dumps(tokens), ",\n".join(
            '"%s": [\n%s]' % (key, ",\n".join(map(json.dumps, rows))) for key, rows in run.items())))
    engine = f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager attention"
    (folder / "reference.json").write_text('{"engine": "%s", "runs": [\n%s]}\n' % (engine, ",\n".join(lines)))
    return kept


def write_gguf(entry, folder, llama_cpp, out, ftype_name):
    """Converts with llama.cpp's own classes; only the tokenizer is written here, theirs knows published ones only."""
    for path in (llama_cpp, llama_cpp / "gguf-py"):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    import gguf
    from conversion import get_model_class

    converter = get_model_class(entry["config"]["architectures"][0])(
        folder, getattr(gguf.LlamaFileType, ftype_name), out, eager=True, model_name="tiny random model")

    def set_vocab():
        writer = converter.gguf_writer
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens_of_vocabulary())
        writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (VOCAB - 1))
        writer.add_token_merges(["T H"])
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(False)
        for key, value in entry["gguf_keys"].items():
            writer.add_uint32(key, value)

    converter.set_vocab = set_vocab
    with torch.inference_mode():
        converter.write()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, help="llama.cpp source tree; without it no GGUF is written")
    parser.add_argument("--scratch", type=Path, help="also write F32 GGUFs here, for check_families.py")
    parser.add_argument("names", nargs="*", metavar="NAME", help="families to write (default: all)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in arguments.names or FAMILIES:
        entry, folder = FAMILIES[name], FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(entry["config"], indent=1) + "\n")
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(), ensure_ascii=False) + "\n")
        write_weights(entry, folder)
        kept = write_reference(name, entry, folder)
        change, tensor = check_sensitivity(name, folder, kept)
        if entry["gguf"] and arguments.llama_cpp:
            stored = {"bfloat16": "MOSTLY_BF16", "float16": "MOSTLY_F16"}[entry["dtype"]]
            write_gguf(entry, folder, arguments.llama_cpp, folder / "model.gguf", stored)
            if arguments.scratch:
                write_gguf(entry, folder, arguments.llama_cpp, arguments.scratch / f"{name}.gguf", "ALL_F32")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size} bytes, least sensitive {tensor} {change:.3g}", flush=True)


if __name__ == "__main__":
    main()
