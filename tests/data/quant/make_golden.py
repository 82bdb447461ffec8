#!/usr/bin/env python3
"""Makes the golden blocks of the quantised types with the `gguf` Python package (pip install gguf numpy).

For each type, one file NAME.bin: u32 magic "QGLD", u32 n_blocks, u32 block_bytes, u32 block; the blocks; n floats as
gguf.quants.dequantize gives them; u32 n_encoded (floats); that many floats and, if it is not 0, the blocks that
gguf.quants.quantize makes of them.
Usage: make_golden.py OUTPUT_FOLDER
"""
import struct
import sys
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

TYPES = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
# Where the f16 scales lie in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
# zero, smallest and largest subnormal, smallest normal, one, largest, their negatives
EXTREME_HALVES = [0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x8001, 0xBC00, 0xFBFF]


def blocks_of(name: str, block_bytes: int, rng: np.random.Generator) -> np.ndarray:
    n = 24 if block_bytes < 64 else 14
    if name in ("F16", "BF16"):
        n = 256
    blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    blocks[0] = 0
    blocks[1] = 255
    for at in HALVES.get(name, []):
        scales = rng.normal(0, 0.02, n).astype(np.float16)
        scales.view(np.uint16)[: len(EXTREME_HALVES)] = EXTREME_HALVES
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(n, 2)
    if name == "MXFP4":
        blocks[:6, 0] = [0, 1, 2, 127, 128, 250]
    if name in ("F16", "BF16"):  # not-a-number has many forms: only finite values here
        values = blocks.view(np.uint16)
        exponent = 0x7C00 if name == "F16" else 0x7F80
        values[(values & exponent) == exponent] = 0x1234
    return blocks


def floats_of(block: int, rng: np.random.Generator) -> np.ndarray:
    n = 16 * max(block, 32)
    x = rng.normal(0, 1, n).astype(np.float32) * np.exp(rng.uniform(-9, 4, n // 32)).astype(np.float32).repeat(32)
    x[:32] = 0
    x[32:64] = 0.5
    return x


def main() -> None:
    out = Path(sys.argv[1])
    rng = np.random.default_rng(20)
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        block, block_bytes = GGML_QUANT_SIZES[kind]
        blocks = blocks_of(name, block_bytes, rng)
        with np.errstate(all="ignore"):
            floats = dequantize(blocks, kind).astype(np.float32)
        x = floats_of(block, rng)
        try:
            encoded = quantize(x, kind).tobytes()
        except NotImplementedError:
            x, encoded = x[:0], b""
        with open(out / f"{name}.bin", "wb") as file:
            file.write(struct.pack("<4sIII", b"QGLD", blocks.shape[0], block_bytes, block))
            file.write(blocks.tobytes() + floats.tobytes() + struct.pack("<I", x.size) + x.tobytes() + encoded)


if __name__ == "__main__":
    main()
