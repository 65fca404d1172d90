"""The penalties on factors equal autograd of the formula as it is written, on dense matrices."""

import pytest
import torch

from trainer.fit.regularise import penalty


def dense(weight, b, a, reg):
    update = b @ a
    size = torch.linalg.norm(weight) * torch.linalg.norm(update)
    found = (torch.linalg.norm(weight.T @ update) / size) ** 2
    if reg == "both":
        found = found + (torch.linalg.norm(update @ weight.T) / size) ** 2
    return found


@pytest.mark.parametrize("reg", ["col", "both"])
@pytest.mark.parametrize("rank", [1, 4])
def test_value_and_gradients_are_those_of_the_written_formula(reg, rank):
    torch.manual_seed(1)
    weight = torch.randn(12, 7, dtype=torch.float64)
    factors = [torch.randn(12, rank, dtype=torch.float64), torch.randn(rank, 7).double()]
    ours = [f.clone().requires_grad_() for f in factors]
    written = [f.clone().requires_grad_() for f in factors]
    value = penalty(weight, *ours, reg, weight.pow(2).sum())
    expected = dense(weight, *written, reg)
    value.backward()
    expected.backward()
    assert torch.allclose(value, expected, rtol=1e-12)
    for one, other in zip(ours, written, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-14)


def test_an_update_of_zero_costs_nothing_and_breaks_nothing():
    weight, a = torch.randn(6, 5), torch.randn(1, 5)
    b = torch.zeros(6, 1, requires_grad=True)
    value = penalty(weight, b, a, "both", weight.pow(2).sum())
    value.backward()
    assert value.item() == 0 and torch.isfinite(b.grad).all()


def test_the_scale_of_an_update_says_nothing():
    torch.manual_seed(2)
    weight, b, a = torch.randn(6, 5), torch.randn(6, 2), torch.randn(2, 5)
    norm2 = weight.pow(2).sum()
    small, large = (penalty(weight, b * s, a, "col", norm2) for s in (1e-2, 1e2))
    assert torch.allclose(small, large, rtol=1e-4)
