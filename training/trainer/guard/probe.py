"""A probe: one direction of a layer's hidden state, read at every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainer.guard.scores import auroc

Site = Literal["residual", "mlp_output"]


@dataclass(frozen=True)
class Probe:
    layer: int
    site: Site
    weight: Tensor  # [hidden] float32
    bias: float
    auroc: float | None  # on validation

    def logits(self, features: Tensor) -> np.ndarray:
        """features [n, layers, hidden]."""
        return (features[:, self.layer].float() @ self.weight + self.bias).numpy()


def fit_direction(
    features: Tensor, unsafe: Tensor, *, weights: Tensor | None = None, decay: float = 1e-2
) -> tuple[Tensor, float]:
    """Logistic regression on [n, hidden] standardised features with an L2 term, folded back into
    the features' own units; a convex problem, so the start does not matter."""
    x = features.float()
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    x = (x - mean) / spread
    y = unsafe.float()
    share = torch.ones(len(y)) if weights is None else weights
    share = share / share.sum()
    w = torch.zeros(x.shape[1], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            x @ w + b, y, weight=share, reduction="sum"
        )
        loss = loss + decay * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    direction = (w / spread).detach()
    return direction, float(b.detach() - direction @ mean)


def mean_difference(features: Tensor, unsafe: Tensor) -> tuple[Tensor, float]:
    high, low = features[unsafe].float().mean(0), features[~unsafe].float().mean(0)
    direction = (high - low) / (high - low).norm()
    return direction, float(-direction @ (high + low) / 2)


def best_probe(
    train: Tensor,
    train_unsafe: Tensor,
    valid: Tensor,
    valid_unsafe: Tensor,
    site: Site,
    *,
    weights: Tensor | None = None,
    decay: float = 1e-2,
) -> Probe:
    """The layer whose direction is best on validation; features are [n, layers, hidden]."""
    found = []
    for layer in range(train.shape[1]):
        w, b = fit_direction(train[:, layer], train_unsafe, weights=weights, decay=decay)
        logits = (valid[:, layer].float() @ w + b).numpy()
        found.append(Probe(layer, site, w, b, auroc(logits, valid_unsafe.numpy())))
    return max(found, key=lambda probe: probe.auroc or 0.0)
