"""The adapter's own directions in the residual stream, and generation without them.

Two of them, because "the" direction may mean either end of the update:

- read: what A looks for. A module of layer l reads `g * x / rms(x)`, where x is the residual stream
  and g the weight of the norm before the module, so `A (g * x)` is zero exactly when x has no part
  along the rows of `A * g`. Those rows are projected out of x where that norm reads it, and only
  there. The update is then silent by construction: this row shows what the base loses with the
  directions (a row of the adapter that differs from the base's would be a fault of the hooks).
- written: what the adapter does. The mean difference, adapter on minus off, of the residual stream
  after layer l at the last position of harmful prompts (validation split), where the first token of
  the thought is decided. It is projected out after every layer, at every position, for all that
  follows.

Controls remove as many random directions in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trainer.measure.strength import at_strength
from trainer.shared.batches import render_prompt
from trainer.shared.failure import Failure
from trainer.world.grammar import Task

# Which norm stands between the residual stream and a module; o_proj and down_proj have none.
NORM_OF = {
    "q_proj": "input_layernorm",
    "k_proj": "input_layernorm",
    "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm",
    "up_proj": "post_attention_layernorm",
}
# A norm (taken from what it reads) or a layer (from what it hands on) -> orthonormal, [hidden, k].
Bases = Mapping[torch.nn.Module, Tensor]
SMALLEST = 1e-6  # of a mean difference; below it the adapter had not acted yet


def decoder_layers(model: torch.nn.Module) -> Sequence[torch.nn.Module]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = getattr(getattr(base, "model", None), "layers", None)
    if layers is None:
        raise Failure(
            f"directions can be removed from Qwen2 and Llama; got {type(base).__name__}; "
            "leave them out with --groups"
        )
    return layers


def read_directions(model: torch.nn.Module) -> dict[torch.nn.Module, Tensor]:
    """Norm -> the rows of A that read through it, in the coordinates of the residual stream. Empty
    where the adapter changes o_proj and down_proj alone: these do not read the stream."""
    found: dict[torch.nn.Module, Tensor] = {}
    for layer in decoder_layers(model):
        rows: dict[str, list[Tensor]] = {}
        for path, module in layer.named_modules():
            name = path.rpartition(".")[2]
            if isinstance(module, LoraLayer) and name in NORM_OF:
                a = torch.cat([module.lora_A[key].weight for key in module.active_adapters])
                rows.setdefault(NORM_OF[name], []).append(a)  # [r, hidden]
        for norm_name, matrices in rows.items():
            norm = getattr(layer, norm_name)
            found[norm] = basis((torch.cat(matrices) * norm.weight).T)
    return found


def written_directions(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    strength: float,
) -> dict[torch.nn.Module, Tensor]:
    """Layer -> the direction in which the adapter moves its output, [hidden, 1]."""
    layers = decoder_layers(model)
    with at_strength(model, strength):
        on = last_outputs(model, tokenizer, tasks)
    with at_strength(model, 0.0):
        off = last_outputs(model, tokenizer, tasks)
    means = (on - off).mean(dim=1)  # [layers, hidden]
    return {
        layer: basis(mean[:, None])
        for layer, mean in zip(layers, means, strict=True)
        if mean.norm() > SMALLEST
    }


@torch.inference_mode()
def last_outputs(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]
) -> Tensor:
    """The residual stream after each layer where a reply would begin: [layers, tasks, hidden]."""
    prompts = [
        render_prompt(tokenizer, [(m["role"], m["content"]) for m in task.messages])
        for task in tasks
    ]
    encoded = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
    seen: list[Tensor] = []
    was_training = model.training
    model.eval()
    with ExitStack() as stack:
        for layer in decoder_layers(model):
            hook = layer.register_forward_hook(
                lambda _module, _inputs, output: seen.append(residual(output)[:, -1].float())
            )
            stack.callback(hook.remove)
        model(**encoded.to(next(model.parameters()).device), use_cache=False)
    model.train(was_training)
    return torch.stack(seen)


def random_like(bases: Bases, seed: int) -> dict[torch.nn.Module, Tensor]:
    """As many random directions in each module."""
    generator = torch.Generator().manual_seed(seed)
    return {
        module: basis(torch.randn(q.shape, generator=generator).to(q.device))
        for module, q in bases.items()
    }


def basis(directions: Tensor) -> Tensor:
    """[hidden, k] of any length and angle -> an orthonormal basis of their span."""
    return torch.linalg.qr(directions.detach().float()).Q


def without(x: Tensor, q: Tensor) -> Tensor:
    """x with no part along the columns of q."""
    q = q.to(x.dtype)
    return x - (x @ q) @ q.T


def residual(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A decoder layer gives the residual stream, alone or before its caches."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def ablated(bases: Bases) -> Iterator[None]:
    """A norm reads, and a layer hands on, the residual stream without its directions."""

    def before(q: Tensor):
        return lambda _module, inputs: (without(inputs[0], q), *inputs[1:])

    def after(q: Tensor):
        def hook(_module, _inputs, output):
            cleaned = without(residual(output), q)
            return (cleaned, *output[1:]) if isinstance(output, tuple) else cleaned

        return hook

    with ExitStack() as stack:
        for module, q in bases.items():
            is_norm = not list(module.children())
            if is_norm:
                handle = module.register_forward_pre_hook(before(q))
            else:
                handle = module.register_forward_hook(after(q))
            stack.callback(handle.remove)
        yield
