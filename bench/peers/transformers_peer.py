"""Peer transformers: PyTorch with PEFT and a KV cache, in the protocol of bench/peers/protocol.ts.

Nothing is sampled: token ids are made up, as in the other bare loops.
"""

import json
import sys
import time

import peft
import torch
import transformers
from peer_loop import serve
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache


class Model:
    def __init__(self, spec: dict) -> None:
        self.past: int = spec["past"]
        self.rows: int = spec["rows"]
        self.model = AutoModelForCausalLM.from_pretrained(
            spec["checkpointDir"],
            dtype=getattr(torch, spec["dtype"]),
            attn_implementation="sdpa",
        ).eval()
        self.has_adapter = spec["adapter"] is not None
        if self.has_adapter:
            self.model = PeftModel.from_pretrained(self.model, spec["adapter"]).eval()
        self.prompt = torch.randint(1000, 49_000, (1, self.past))

    def forward(self, ids: torch.Tensor, cache: DynamicCache) -> None:
        self.model(
            input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
        )

    def prefill(self, tokens: int, **_: object) -> dict:
        ids = torch.randint(1000, 49_000, (1, tokens))
        start = time.perf_counter()
        self.forward(ids, DynamicCache())
        return {"ms": 1000 * (time.perf_counter() - start), "tokens": tokens}

    def decode(self, streams: int, tokens: int, **_: object) -> dict:
        cache = DynamicCache()
        self.forward(self.prompt, cache)
        cache.batch_repeat_interleave(streams)
        start = time.perf_counter()
        for step in range(tokens):
            self.forward(torch.full((streams, 1), 1000 + step), cache)
        return {"ms": 1000 * (time.perf_counter() - start), "tokens": streams * tokens}


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    torch.set_grad_enabled(False)
    model = Model(spec)
    info = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "threads": torch.get_num_threads(),
        "dtype": spec["dtype"],
    }
    serve(model, info)


if __name__ == "__main__":
    main()
