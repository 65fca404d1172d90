"""Writes GGUF files of every tensor type that the server reads, whole and split, and what the
package gguf makes of them.

    python gguf_reference.py OUTPUT_FOLDER
    python gguf_reference.py --digests FILE     # of a real file's values, on the standard output
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize

# Where the half floats of a block stand.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0],
}
SHAPES = {"plain": (3, 5, 512), "large": (1500, 1024)}


def finite_halves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Any bits but those of infinities and NaN: zeros of both signs and subnormals too."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits = np.where(bits & 0x7C00 == 0x7C00, bits & 0xBFFF, bits)
    bits[:2] = [0x0000, 0x8000]
    return bits


def random_blocks(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (int(np.prod(shape)) // values, size), dtype=np.uint8)
    for at in HALVES[name]:
        blocks[:, at : at + 2] = finite_halves(rng, len(blocks)).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(*shape[:-1], shape[-1] // values * size)


def random_tensors(rng: np.random.Generator):
    """Name, type, data as stored, values."""
    for kind in HALVES:
        for label, shape in SHAPES.items():
            if label == "large" and kind != "Q4_K":
                continue
            data = random_blocks(rng, kind, shape)
            quantisation = GGMLQuantizationType[kind]
            yield f"{kind}.{label}", quantisation, data, dequantize(data, quantisation)
    singles = rng.normal(size=(4, 64)).astype(np.float32)
    singles[0, :4] = [0, -0.0, 1e-42, 3.4e38]
    yield "F32.plain", GGMLQuantizationType.F32, singles, singles
    halves = finite_halves(rng, 256).view(np.float16).reshape(4, 64)
    yield "F16.plain", GGMLQuantizationType.F16, halves, halves.astype(np.float32)
    brain = (singles.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    values = dequantize(brain, GGMLQuantizationType.BF16)
    yield "BF16.plain", GGMLQuantizationType.BF16, brain, values
    doubles = rng.normal(size=(4, 64)) * 10.0 ** rng.integers(-40, 30, (4, 64))
    yield "F64.plain", GGMLQuantizationType.F64, doubles, doubles.astype(np.float32)
    vector = rng.normal(size=33).astype(np.float32)
    yield "F32.vector", GGMLQuantizationType.F32, vector, vector


def write(path: Path, tensors, metadata, **options) -> None:
    writer = GGUFWriter(path, "test", **options)
    for kind, value in metadata.items():
        getattr(writer, f"add_{kind}")(f"test.{kind}", value)
    for name, quantisation, data, _ in tensors:
        writer.add_tensor(name, data, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def digests(path: str) -> dict[str, list]:
    """Type, shape and SHA-256 of the float32 values of each tensor."""
    return {
        tensor.name: [
            tensor.tensor_type.name,
            tensor.shape[::-1].tolist(),
            hashlib.sha256(dequantize(tensor.data, tensor.tensor_type).tobytes()).hexdigest(),
        ]
        for tensor in GGUFReader(path).tensors
    }


def main() -> None:
    if sys.argv[1] == "--digests":
        print(json.dumps(digests(sys.argv[2])))
        return
    output = Path(sys.argv[1])
    metadata = {
        "uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000,
        "uint32": 4_000_000_000, "int32": -2_000_000_000, "float32": 0.5, "float64": 0.1,
        "uint64": 2**53 - 1, "int64": -(2**40), "bool": True, "string": "é😀\ufffd",
        "array": ["a", "", "ß"],
    }
    tensors = list(random_tensors(np.random.default_rng(20261129)))
    write(output / "whole.gguf", tensors, metadata)
    write(output / "split.gguf", tensors, metadata, split_max_tensors=7)
    for name, _, _, values in tensors:
        (output / f"{name}.f32").write_bytes(np.ascontiguousarray(values).tobytes())
    expected = {
        "metadata": metadata,
        "tensors": {
            name: {"type": quantisation.name, "shape": values.shape}
            for name, quantisation, _, values in tensors
        },
        "formats": {
            kind.name: {"id": int(kind), "values": values, "bytes": size}
            for kind, (values, size) in GGML_QUANT_SIZES.items()
        },
    }
    (output / "expected.json").write_text(json.dumps(expected), encoding="utf8")


main()
