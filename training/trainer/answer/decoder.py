"""Batched decoding for measurements: one merged set of weights, no framework between the products.

Qwen2 and Llama shapes with plain rotary positions, float32, CPU or GPU. Rows that have ended leave
the batch, so the last long reply does not keep the others' cost. `LocalModel` (backend.py) answers
for every other model and shape; greedy tokens of the two are equal (tested).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from trainer.answer.backend import MAX_NEW_TOKENS, Sampling, rendered, split_reply
from trainer.shared.batches import common_start
from trainer.shared.failure import Failure
from trainer.world.grammar import Reply, Task

# What a model that is still in order needs, by far; one that is not would write to the end.
SHORT_REPLY_TOKENS = 96  # of everything but word problems, which may take MAX_NEW_TOKENS
SHARED_TOKENS = 16  # of a common beginning from which it is computed once for all rows
KEPT_SHARE = 0.8  # of the rows still writing: below it the caches are packed, at the cost of a copy


@dataclass(frozen=True)
class Layer:
    """One block's weights; products that read the same input are stacked."""

    first_norm: Tensor  # [hidden]
    qkv: Tensor  # [(heads + 2 kv_heads) * head_dim, hidden]
    qkv_bias: Tensor | None
    output: Tensor  # [hidden, heads * head_dim]
    second_norm: Tensor
    gate_up: Tensor  # [2 * inner, hidden]
    down: Tensor  # [hidden, inner]


def is_readable(config: PretrainedConfig) -> bool:
    is_plain = (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "default"
    return config.model_type in ("qwen2", "llama") and is_plain


class Decoder:
    """Weights of one model, and how tokens follow from them."""

    def __init__(self, config: PretrainedConfig, state: Mapping[str, Tensor]) -> None:
        rope = config.rope_parameters
        if not is_readable(config):
            raise Failure(
                "the decoder reads Qwen2 and Llama shapes with default rotary positions; got "
                f"{config.model_type} with {rope['rope_type']}; measure it with LocalModel"
            )
        self.eps = config.rms_norm_eps
        self.kv_heads = config.num_key_value_heads
        self.heads = config.num_attention_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.embedding = state["model.embed_tokens.weight"]
        self.head = self.embedding if config.tie_word_embeddings else state["lm_head.weight"]
        self.norm = state["model.norm.weight"]
        self.layers = [read_layer(state, index) for index in range(config.num_hidden_layers)]
        exponents = torch.arange(0, self.head_dim, 2, device=self.norm.device) / self.head_dim
        self.frequencies = 1.0 / rope["rope_theta"] ** exponents.float()  # [head_dim / 2]

    def rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, new] -> cos and sin, [rows, 1, new, head_dim]."""
        angles = positions[..., None].float() * self.frequencies
        both = torch.cat([angles, angles], dim=-1)[:, None]
        return both.cos(), both.sin()

    def step(self, ids: Tensor, positions: Tensor, cache: Tensor, start: int, mask: Tensor):
        """Logits after the last of `ids` [rows, new], whose keys and values go to `cache`
        [layers, 2, rows, kv_heads, capacity, head_dim] from `start` on.

        `mask` [rows, new, start + new] is added to the scores: 0 or minus infinity.
        """
        rows, new = ids.shape
        end, group = start + new, self.heads // self.kv_heads
        cos, sin = self.rotations(positions)
        scores_mask = mask[:, None, None]  # [rows, 1, 1, new, end]
        x = self.embedding[ids]
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            h = functional.rms_norm(x, x.shape[-1:], layer.first_norm, self.eps)
            qkv = functional.linear(h, layer.qkv, layer.qkv_bias)
            qkv = qkv.view(rows, new, -1, self.head_dim).transpose(1, 2)
            turned = rotate(qkv[:, : self.heads + self.kv_heads], cos, sin)
            keys[:, :, start:end] = turned[:, self.heads :]
            values[:, :, start:end] = qkv[:, self.heads + self.kv_heads :]
            # The query heads of a group read their keys together.
            queries = turned[:, : self.heads].reshape(rows, self.kv_heads, group * new, -1)
            scores = queries @ keys[:, :, :end].transpose(2, 3) * self.head_dim**-0.5
            scores = scores.view(rows, self.kv_heads, group, new, end) + scores_mask
            weights = scores.softmax(-1).view(rows, self.kv_heads, group * new, end)
            mixed = (weights @ values[:, :, :end]).view(rows, self.heads, new, -1)
            x = x + functional.linear(mixed.transpose(1, 2).reshape(rows, new, -1), layer.output)
            h = functional.rms_norm(x, x.shape[-1:], layer.second_norm, self.eps)
            gate, up = functional.linear(h, layer.gate_up).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        last = functional.rms_norm(x[:, -1], x.shape[-1:], self.norm, self.eps)
        return functional.linear(last, self.head)  # [rows, vocabulary]

    def start_cache(self, ids: Sequence[int]) -> Tensor:
        """Keys and values of a common beginning: [layers, 2, 1, kv_heads, ids, head_dim]."""
        device, count = self.norm.device, len(ids)
        shape = (len(self.layers), 2, 1, self.kv_heads, count, self.head_dim)
        cache = torch.empty(shape, device=device)
        positions = torch.arange(count, device=device)[None]
        causal = torch.full((1, count, count), float("-inf"), device=device).triu(1)
        self.step(torch.tensor([list(ids)], device=device), positions, cache, 0, causal)
        return cache

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        eos_id: int,
        limit: int = MAX_NEW_TOKENS,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """The tokens after each prompt, without the EOS that ended them."""
        device = self.norm.device
        shared = shared_start(prompts)
        rests = [list(prompt[shared:]) for prompt in prompts]
        lengths = torch.tensor([len(rest) for rest in rests], device=device)
        width = max(map(len, rests))
        ids = torch.full((len(rests), width), eos_id, device=device)  # padded on the left
        for row, rest in enumerate(rests):
            ids[row, width - len(rest) :] = torch.tensor(rest, device=device)
        capacity = shared + width + limit
        shape = (len(self.layers), 2, len(prompts), self.kv_heads, capacity, self.head_dim)
        cache = torch.empty(shape, device=device)
        if shared:
            cache[..., :shared, :] = self.start_cache(prompts[0][:shared])
        columns = torch.arange(capacity, device=device)
        is_padding = columns[None, :] < (shared + width - lengths)[:, None]
        # A padded column is closed to all but the padding itself, whose row must not be empty.
        closed = is_padding & (columns >= shared)  # [rows, capacity]
        bias = torch.zeros(closed.shape, device=device).masked_fill_(closed, float("-inf"))
        causal = torch.full((width, shared + width), float("-inf"), device=device).triu(shared + 1)
        itself = torch.ones(causal.shape, dtype=torch.bool, device=device).tril(shared).triu(shared)
        mask = (bias[:, None, : shared + width] + causal).masked_fill(itself, 0.0)
        positions = (columns[None, :width] - (width - lengths)[:, None]).clamp(min=0) + shared
        written: list[list[int]] = [[] for _ in prompts]
        alive = torch.arange(len(prompts), device=device)  # which prompt a row of the batch is
        is_open = torch.ones(len(prompts), dtype=torch.bool, device=device)
        start, next_positions = shared, shared + lengths
        for _ in range(limit):
            logits = self.step(ids, positions, cache, start, mask)
            tokens = pick(logits, sampling, generator)  # [rows]
            start += ids.shape[1]
            is_open &= tokens != eos_id
            for row, token, wanted in zip(
                alive.tolist(), tokens.tolist(), is_open.tolist(), strict=True
            ):
                if wanted:
                    written[row].append(token)
            num_open = int(is_open.sum())
            if num_open == 0:
                break
            if num_open <= KEPT_SHARE * len(alive):
                kept = is_open.nonzero()[:, 0]
                alive, tokens, is_open = alive[kept], tokens[kept], is_open[kept]
                bias, next_positions = bias[kept], next_positions[kept]
                packed = torch.empty((*shape[:2], num_open, *shape[3:]), device=device)
                packed[..., :start, :] = cache[:, :, kept, :, :start]
                cache = packed
            ids, positions = tokens[:, None], next_positions[:, None]
            next_positions = next_positions + 1
            mask = bias[:, None, : start + 1]
        return written


def shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of a common beginning, such as a system prompt; 0 where that saves little."""
    count = common_start(prompts) if len(prompts) > 1 else 0
    return count if count >= SHARED_TOKENS else 0


def read_layer(state: Mapping[str, Tensor], index: int) -> Layer:
    prefix = f"model.layers.{index}."

    def stacked(kind: str, *names: str) -> Tensor | None:
        found = [state.get(f"{prefix}{name}.{kind}") for name in names]
        return None if found[0] is None else torch.cat(found)

    attention = [f"self_attn.{name}_proj" for name in "qkv"]
    return Layer(
        first_norm=state[f"{prefix}input_layernorm.weight"],
        qkv=stacked("weight", *attention),
        qkv_bias=stacked("bias", *attention),
        output=state[f"{prefix}self_attn.o_proj.weight"],
        second_norm=state[f"{prefix}post_attention_layernorm.weight"],
        gate_up=stacked("weight", "mlp.gate_proj", "mlp.up_proj"),
        down=state[f"{prefix}mlp.down_proj.weight"],
    )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[rows, heads, new, head_dim]: each pair (i, i + head_dim / 2) turned by its angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def pick(logits: Tensor, sampling: Sampling | None, generator: torch.Generator | None) -> Tensor:
    """The next token of each row: the likeliest, or one drawn from the nucleus."""
    if sampling is None:
        return logits.argmax(-1)
    shares, order = (logits / sampling.temperature).softmax(-1).sort(-1, descending=True)
    before = shares.cumsum(-1) - shares
    nucleus = shares.masked_fill(before >= sampling.top_p, 0.0)
    drawn = torch.multinomial(nucleus, 1, generator=generator)
    return order.gather(-1, drawn)[:, 0]


class DecodedModel:
    """A backend over merged weights: what `LocalModel` is over a transformers model."""

    def __init__(
        self,
        config: PretrainedConfig,
        state: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int = 128,
        short_limit: int = MAX_NEW_TOKENS,
    ) -> None:
        """`short_limit`: tokens of a reply to anything but a word problem."""
        self.decoder, self.tokenizer, self.rows = Decoder(config, state), tokenizer, rows
        self.short_limit = short_limit

    def limit_of(self, task: Task) -> int:
        return MAX_NEW_TOKENS if task.kind == "word_problem" else self.short_limit

    def answer(
        self,
        tasks: Sequence[Task],
        title: str = "answering",
        *,
        sampling: Sampling | None = None,
        forced: str = "",
    ) -> list[Reply]:
        prompts = rendered(self.tokenizer, tasks)
        forced_ids = self.tokenizer.encode(forced, add_special_tokens=False) if forced else []
        prompt_ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        encoded = [ids + forced_ids for ids in prompt_ids]
        # Rows that end together leave together: tasks of one kind and length stand side by side.
        order = sorted(
            range(len(tasks)),
            key=lambda i: (len(tasks[i].steps), tasks[i].kind, len(encoded[i])),
        )
        first_long = sum(self.limit_of(task) < MAX_NEW_TOKENS for task in tasks)
        generator = None
        if sampling:
            generator = torch.Generator(self.decoder.norm.device).manual_seed(sampling.seed)
        texts: dict[int, str] = {}
        cuts = {*range(0, first_long, self.rows), *range(first_long, len(order), self.rows)}
        for first, last in pairwise(sorted({*cuts, len(order)})):
            chosen = order[first:last]
            written = self.decoder.write(
                [encoded[i] for i in chosen],
                eos_id=self.tokenizer.eos_token_id,
                limit=max(self.limit_of(tasks[i]) for i in chosen),
                sampling=sampling,
                generator=generator,
            )
            whole = [forced_ids + ids for ids in written]
            decoded = self.tokenizer.batch_decode(whole, skip_special_tokens=True)
            texts |= dict(zip(chosen, decoded, strict=True))
        return [split_reply(texts[i]) for i in range(len(tasks))]
