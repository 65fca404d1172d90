"""The training loss, computed no further than it must be.

Stock training runs every layer and sends every position through lm_head. Here the layers below the
first adapted one run without gradients, or not at all when their output is at hand, and only
completion tokens reach lm_head. The loss and its gradients are the same.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import checkpoint

from trainer.fit.last_layer import LastLayer, is_known
from trainer.shared.batches import IGNORED

# float32 numbers of logits, 256 MiB and 64 MiB; more are computed in pieces. Where lm_head is
# trained, pieces are computed twice.
LOGITS_AT_ONCE, FROZEN_LOGITS_AT_ONCE = 1 << 26, 1 << 24
PACKING_SHARE = 0.1  # of a layer's time, for the attention of packed examples


class CompletionLoss(nn.Module):
    """Wraps a causal language model of the Llama family (`model.model.layers`, `lm_head`).

    `first_layer`: the lowest layer that is trained; None when the embedding is trained too.
    """

    def __init__(self, model: nn.Module, first_layer: int | None) -> None:
        super().__init__()
        self.model = model
        self.first_layer = first_layer

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor,
        hidden: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Sum of the cross-entropy over completion tokens.

        inputs, labels: [rows, length] int64. hidden: [rows, length, hidden size], what enters
        `first_layer`, if it is known. positions: [1, length] of packed examples. mask:
        [1, 1, length, length], added to the scores; None: what causality allows.
        """
        more = {"use_cache": False, "position_ids": positions, "attention_mask": mask}
        causal = causal_model(self.model)
        wanted = nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))  # [rows, length]
        upper = part(causal.model, self.first_layer or 0, None, wanted)
        if self.first_layer is None:
            last = upper(input_ids=inputs, **more).last_hidden_state
        else:
            if hidden is None:
                hidden = self.prefix(inputs, positions, mask)
            last = upper(inputs_embeds=hidden, **more).last_hidden_state
        targets = labels.roll(-1, dims=1)[wanted]
        return summed_loss(causal.lm_head, last if last.dim() == 2 else last[wanted], targets)

    @torch.no_grad()
    def prefix(
        self, inputs: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """What enters `first_layer`: [rows, length, hidden size]."""
        decoder = causal_model(self.model).model
        if self.first_layer == 0:
            return decoder.embed_tokens(inputs)
        lower = part(decoder, 0, self.first_layer)
        more = {"use_cache": False, "position_ids": positions}
        return lower(input_ids=inputs, **more).last_hidden_state


def summed_loss(lm_head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden: [tokens, hidden size]. A large vocabulary's logits are never held all at once."""
    is_plain = isinstance(lm_head, nn.Linear) and lm_head.bias is None
    if is_plain and not lm_head.weight.requires_grad and hidden.requires_grad:
        return FrozenHeadLoss.apply(hidden, targets, lm_head)

    def piece_loss(states: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(lm_head(states).float(), wanted, reduction="sum")

    pieces = in_pieces(lm_head, LOGITS_AT_ONCE, hidden, targets)
    if len(pieces) == 1:
        return piece_loss(hidden, targets)
    return torch.stack([checkpoint(piece_loss, *p, use_reentrant=False) for p in pieces]).sum()


def in_pieces(lm_head: nn.Module, at_once: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """In pieces as even as can be: one of a few tokens would read all of lm_head for little."""
    tokens = len(tensors[0])
    count = -(-tokens // max(1, at_once // lm_head.weight.shape[0]))
    size = -(-tokens // max(1, count))
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


class FrozenHeadLoss(torch.autograd.Function):
    """The sum of the cross-entropy behind an lm_head that is not trained.

    d loss / d logits = softmax(logits) - onehot(target) is at hand as soon as the logits are, so
    the gradient of `hidden` is made piece by piece on the way forward: no logits are kept for the
    way back, none are computed twice.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, targets: Tensor, lm_head: nn.Linear) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        pieces = in_pieces(lm_head, FROZEN_LOGITS_AT_ONCE, hidden, targets, gradient)
        for states, wanted, into in pieces:
            logits = lm_head(states).float()  # [tokens, vocabulary], overwritten step by step
            highest = logits.amax(dim=1, keepdim=True)
            at_target = logits.gather(1, wanted[:, None])
            sums = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
            total += (sums.log() + highest - at_target).sum()
            logits.div_(sums)
            logits.scatter_add_(1, wanted[:, None], logits.new_full((len(wanted), 1), -1.0))
            torch.matmul(logits.to(hidden.dtype), lm_head.weight, out=into)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient.float() * upstream).to(gradient.dtype), None, None


def causal_model(model: nn.Module) -> nn.Module:
    """The model under PEFT's wrapper, its adapted layers in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def part(
    decoder: nn.Module, start: int, stop: int | None, wanted: Tensor | None = None
) -> nn.Module:
    """A decoder of the layers [start, stop) that shares everything with `decoder`.

    Its own forward builds masks and rotary embeddings; without the top it ends before the norm.
    wanted: [rows, length] bool, the positions whose output is read; if the last layer is of a known
    kind the output is [wanted positions, hidden size].
    """
    found = copy.copy(decoder)
    found._modules = dict(decoder._modules)
    found.layers = decoder.layers[start:stop]
    if stop is not None:
        found.norm = nn.Identity()
    if wanted is not None and is_known(found.layers[-1]):
        found.layers[-1] = LastLayer(found.layers[-1], wanted)
    return found


def pack_tokens(model: nn.Module) -> int:
    """How many tokens may share one row: a packed row's attention is computed over all of them and
    masked, which must stay small beside the layers' products."""
    causal = causal_model(model)
    products = sum(p.numel() for p in causal.model.layers[-1].parameters() if p.dim() == 2)
    return int(PACKING_SHARE * products / (2 * causal.config.hidden_size))


def can_split(model: nn.Module) -> bool:
    """Whether all layers are of one kind: `part` numbers them from 0 again."""
    config = causal_model(model).config
    return len(set(getattr(config, "layer_types", None) or [""])) == 1


def is_random(model: nn.Module, first_layer: int) -> bool:
    """Whether anything below `first_layer` draws random numbers while training."""
    causal = causal_model(model)
    if getattr(causal.config, "attention_dropout", 0.0) > 0:
        return True
    lower = [causal.model.embed_tokens, *causal.model.layers[:first_layer]]
    return any(m.p > 0 for low in lower for m in low.modules() if isinstance(m, nn.Dropout))
