"""The guard's attention is PyTorch's, value and gradient, and leaves the model as it was."""

import random

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from trainer.fit.grouped_attention import grouped, grouped_attention
from trainer.guard.example import Example, Mark, Marked
from trainer.guard.fitting import batches
from trainer.make_models.reasoner import new_reasoner


@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (4, 4), (6, 1)])
@pytest.mark.parametrize("masked", [True, False])
def test_values_and_gradients_are_those_of_repeated_heads(heads, groups, masked):
    torch.manual_seed(heads)
    query = torch.randn(2, heads, 3, 8, requires_grad=True)
    key, value = (torch.randn(2, groups, 11, 8, requires_grad=True) for _ in range(2))
    mask = torch.zeros(2, 1, 3, 11)
    mask[1, :, :, 5:9] = torch.finfo(torch.float32).min
    mask[0, :, 1, 2:] = torch.finfo(torch.float32).min
    mask = mask if masked else None

    found, _ = grouped_attention(torch.nn.Identity(), query, key, value, mask, scaling=0.3)
    mine = torch.autograd.grad(found.square().sum(), (query, key, value))
    repeat = heads // groups
    expected = scaled_dot_product_attention(
        query, key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1),
        attn_mask=mask, scale=0.3,
    ).transpose(1, 2)  # fmt: skip
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_models_own_attention_is_back_afterwards_also_behind_an_error(tokenizer):
    model = new_reasoner(tokenizer, seed=3)
    before = model.config._attn_implementation
    with grouped(model):
        assert model.config._attn_implementation != before
    with pytest.raises(RuntimeError, match="stop"), grouped(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == before


def test_a_batch_pads_no_marks_where_there_are_enough_rows():
    rows = []
    for number in range(48):
        count = 1 if number < 32 else 3
        marks = tuple(Mark("output", cut, cut, False) for cut in range(1, count + 1))
        rows.append(Marked(Example((("user", "x"),)), [1] * (4 + number % 20), marks))
    found = batches(rows, random.Random(1), 16)
    assert sorted(i for batch in found for i in batch) == list(range(48))
    for batch in found:
        assert len({len(rows[i].marks) for i in batch}) == 1
