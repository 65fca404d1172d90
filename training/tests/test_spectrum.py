"""Spectrum and overlap against the full SVD and numpy, on matrices whose values are known."""

import numpy as np
import pytest
import torch

from trainer.weights import spectrum
from trainer.weights.overlap import METRICS, chance, overlap
from trainer.weights.spectrum import Factors, stable_rank, top_singular


@pytest.fixture(autouse=True)
def one_thread():
    """Small decompositions: two threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_spectrum(rows, columns, values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, len(values), generator=generator))[0]
    v = torch.linalg.qr(torch.randn(columns, len(values), generator=generator).double())[0]
    return (u * torch.as_tensor(values).double()) @ v.T


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


INDEX = torch.arange(1, 301).double()


@pytest.mark.parametrize(
    "values", [1 / INDEX, INDEX**-0.25, 1 + 1 / INDEX], ids=["fast", "slow", "nearly flat"]
)
def test_the_truncated_svd_equals_the_full_one(values, monkeypatch):
    monkeypatch.setattr(spectrum, "SMALL", 0)
    found_by_krylov = []
    krylov = spectrum.krylov
    monkeypatch.setattr(
        spectrum,
        "krylov",
        lambda *given: found_by_krylov.append(krylov(*given)) or found_by_krylov[-1],
    )
    weight, k = with_spectrum(600, 500, values), 8
    top = top_singular(weight, k)
    assert found_by_krylov[0] is not None  # not the full SVD, which would agree for nothing
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    # Values within the residual (1e-6 of the largest); the spaces within residual / gap, and the
    # gap after the 8th value is above 0.2 % of the largest here: 1e-3.
    assert (top.s - s[:k]).abs().max() < 1e-6 * s[0]
    for got, full in ((top.u, u[:, :k]), (top.v, vh[:k].T)):
        assert torch.linalg.matrix_norm(got @ got.T - full @ full.T, 2) < 1e-3
        assert torch.allclose(got.T @ got, torch.eye(k).double(), atol=1e-10)


def test_a_spectrum_that_iteration_cannot_separate_goes_to_the_full_svd(monkeypatch):
    monkeypatch.setattr(spectrum, "SMALL", 0)
    weight = random(60, 50, seed=1)
    top = top_singular(weight, 12)
    assert torch.allclose(top.s, torch.linalg.svdvals(weight)[:12])


def test_no_directions_are_asked_for_and_none_come():
    top = top_singular(random(6, 4, seed=2), 0)
    assert (top.u.shape, top.s.shape, top.v.shape) == ((6, 0), (0,), (4, 0))


def test_stable_rank_of_known_matrices():
    assert stable_rank(torch.eye(5)) == pytest.approx(5)
    assert stable_rank(with_spectrum(40, 30, [2.0, 1.0, 1.0])) == pytest.approx(6 / 4)
    assert stable_rank(torch.zeros(3, 4)) == 0
    b, a = random(50, 4, seed=3), random(4, 30, seed=4)
    assert stable_rank(Factors(b, a)) == pytest.approx(stable_rank(b @ a), rel=1e-9)
    assert stable_rank(Factors(b[:, :1], a[:1])) == pytest.approx(1)
    assert stable_rank(Factors(0 * b, a)) == 0


def test_stable_rank_of_a_large_matrix_equals_that_by_all_singular_values(monkeypatch):
    delta = with_spectrum(400, 300, INDEX**-0.25)
    exact = stable_rank(delta)
    monkeypatch.setattr(spectrum, "SMALL", 0)
    assert stable_rank(delta) == pytest.approx(exact, rel=1e-4)


def test_overlap_equals_the_papers_formulas_in_numpy():
    weight, b, a = random(40, 24, seed=5), random(40, 3, seed=6), random(3, 24, seed=7)
    w, d = weight.numpy(), (b @ a).numpy()
    u, _, vh = np.linalg.svd(w, full_matrices=False)
    u, v, norm = u[:, :5], vh[:5].T, np.linalg.norm
    expected = {
        "column": norm(w.T @ d) / norm(w) / norm(d),
        "column_share": norm(u @ u.T @ d) / norm(d),
        "row": norm(w @ d.T) / norm(w) / norm(d),
        "row_share": norm(v @ v.T @ d.T) / norm(d),
    }
    top = top_singular(weight, 5)
    factored, dense = overlap(weight, Factors(b, a), top), overlap(weight, b @ a, top)
    for name in METRICS:
        assert getattr(factored, name) == pytest.approx(expected[name], rel=1e-9)
        assert getattr(dense, name) == pytest.approx(expected[name], rel=1e-5)  # float32 products


def test_an_update_along_the_top_directions_overlaps_whole_and_one_across_not_at_all():
    weight = with_spectrum(20, 16, [3.0, 2.0, 1.0])
    top = top_singular(weight, 3)
    within = overlap(weight, top.u[:, :1] @ top.v[:, :1].T, top.first(1))
    assert (within.column_share, within.row_share) == pytest.approx((1, 1))
    across = overlap(weight, top.u[:, 1:2] @ top.v[:, 1:2].T, top.first(1))
    assert (across.column_share, across.row_share) == pytest.approx(
        (0, 0), abs=1e-7
    )  # float32 vectors


def test_random_updates_overlap_as_much_as_chance_says():
    weight = random(60, 40, seed=8)
    top = top_singular(weight, 6)
    found = overlap(weight, random(60, 40, seed=9), top)
    for name in METRICS:  # 2,400 random entries: within 10 % at a fixed seed
        assert getattr(found, name) == pytest.approx(getattr(chance(60, 40, 6), name), rel=0.1)
