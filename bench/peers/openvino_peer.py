"""Peer openvino: a stateful model on OpenVINO's CPU plugin, in the protocol of bench/peers/protocol.ts.

Nothing is sampled: token ids are made up, as in the other bare loops.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
from openvino_graph import Checkpoint, Decoder
from peer_loop import serve

HIDDEN = np.float32(-65504)


def ensure_model(spec: dict) -> Path:
    """Path of the model's file, converted from the checkpoint when it is not there."""
    folder = Path(spec["modelDir"])
    path = folder / "model.xml"
    if not path.exists():
        # It owns memory that the model's constants share.
        decoder = Decoder(Checkpoint(Path(spec["checkpointDir"])), spec["bits"], spec["group"])
        partial = folder.with_name(f"{folder.name}.partial")
        ov.save_model(decoder.build(), partial / path.name, compress_to_fp16=False)
        partial.rename(folder)
    return path


class Engine:
    def __init__(self, spec: dict) -> None:
        self.past: int = spec["past"]
        self.vocab_end: int = spec["vocab"]
        self.random = np.random.default_rng()
        settings = {"INFERENCE_NUM_THREADS": spec["threads"], "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = ov.Core().compile_model(ensure_model(spec), "CPU", settings)
        self.request = self.compiled.create_infer_request()
        self.prompt = self.tokens(self.past)

    def tokens(self, count: int) -> np.ndarray:
        return self.random.integers(0, self.vocab_end, (1, count))

    def step(self, ids: np.ndarray, past: int, rows: np.ndarray) -> np.ndarray:
        """One run of the model over `ids` [batch, tokens]; `rows` names the cache row of each."""
        batch, count = ids.shape
        mask = np.zeros((count, past + count), np.float32)
        if count > 1:
            mask[:, past:] = np.triu(np.full((count, count), HIDDEN), 1)
        inputs = {
            "ids": ids,
            "positions": np.tile(np.arange(past, past + count), (batch, 1)),
            "mask": np.broadcast_to(mask, (batch, 1, *mask.shape)).copy(),
            "beam_idx": rows,
        }
        return self.request.infer(inputs)[0]

    def logits(self, ids: list[int], streams: int) -> dict:
        """Those after `ids`, by token: the first half at once, the rest on each of so many rows."""
        self.request.reset_state()
        half = len(ids) // 2
        self.step(np.array([ids[:half]]), 0, np.zeros(1, np.int32))
        rows = np.zeros(streams, np.int32)
        for past in range(half, len(ids)):
            found = self.step(np.full((streams, 1), ids[past]), past, rows)
            rows = np.arange(streams, dtype=np.int32)
        return {str(token): float(value) for token, value in enumerate(found[-1].reshape(-1))}

    def prefill(self, tokens: int, **_: object) -> dict:
        ids = self.tokens(tokens)
        self.request.reset_state()
        start = time.perf_counter()
        self.step(ids, 0, np.zeros(1, np.int32))
        return {"ms": 1000 * (time.perf_counter() - start), "tokens": tokens}

    def decode(self, streams: int, tokens: int, **_: object) -> dict:
        """Every stream has the same prompt: its cache is computed once and then copied to all rows."""
        self.request.reset_state()
        self.step(self.prompt, 0, np.zeros(1, np.int32))
        rows = np.zeros(streams, np.int32)
        self.step(np.full((streams, 1), 1), self.past, rows)
        rows = np.arange(streams, dtype=np.int32)
        start = time.perf_counter()
        for step in range(tokens):
            ids = np.arange(streams).reshape(-1, 1) + step
            self.step(ids, self.past + 1 + step, rows)
        return {"ms": 1000 * (time.perf_counter() - start), "tokens": streams * tokens}


def main() -> None:
    spec = json.loads(sys.argv[1])
    engine = Engine(spec)
    names = ["INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]
    found = {name.lower(): str(engine.compiled.get_property(name)) for name in names}
    info = {"openvino": ov.__version__, "threads": spec["threads"], **found}
    serve(engine, info)


if __name__ == "__main__":
    main()
