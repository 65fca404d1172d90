"""Who sits a local exam: the lean decoder on merged weights where it knows the shape, else PEFT."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from trainer.answer.backend import Backend, LocalModel
from trainer.answer.decoder import DecodedModel, is_readable
from trainer.fit.completion_loss import causal_model
from trainer.weights.update import merged, taken_from


def exam_backend(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Backend:
    """A snapshot: later changes to `model`, its strength too, are not seen."""
    causal = causal_model(model)
    if not is_readable(causal.config) or next(causal.parameters()).dtype != torch.float32:
        return LocalModel(model, tokenizer)
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in causal.state_dict().items()
        if ".lora_" not in name
    }
    if causal is not model:
        state = merged(state, taken_from(model))
    return DecodedModel(causal.config, state, tokenizer)
