"""Every configuration of the paper, at the scale of an embedded model, and the figures they are in.

A configuration that several figures share is one entry and is trained once. Pure: no model, no
disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trainer.shared.failure import Failure
from trainer.shared.recipe import ATTENTION, MLP, Recipe

# The paper's values (its appendix A.5); the learning rate alone is swept.
ALPHA, DROPOUT, WEIGHT_DECAY = 16.0, 0.05, 1e-4
LORA_EPOCHS, FULL_EPOCHS = 10, 5
BATCH_ROWS = 16

# Rates are steps on one ladder of factors of about 3, so that sweeps that meet share their points.
LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

STRENGTHS = (1.0, 1.15, 1.2, 1.25, 1.75)  # the paper's lambdas of OrthoMerge-both
PAPER_K = 64  # singular directions, of the paper's 5,120


def merge_variants(own_k: int) -> tuple[tuple[str, int, float], ...]:
    """Mode, k, lambda: the paper's sweep at the k that keeps its share of the space; its k as it
    stands, which is half of a narrow space, at the ends of the sweep."""
    return (
        ("col", own_k, 1.0),
        *(("both", own_k, strength) for strength in STRENGTHS),
        ("col", PAPER_K, 1.0),
        *(("both", PAPER_K, strength) for strength in (STRENGTHS[0], STRENGTHS[-1])),
    )


@dataclass(frozen=True)
class Configuration:
    """One way of training; everything but learning rate and seed."""

    name: str
    label: str  # as in the figures
    mode: Literal["lora", "full"] = "lora"
    rank: int = 1
    modules: tuple[str, ...] = MLP
    layers: str = "all"
    reg: Literal["none", "col", "both"] = "none"
    retain: float = 0.0  # the base's own answers mixed in, per refusal
    first_rate: float = 3e-4  # where the sweep begins on the ladder
    has_merges: bool = False  # OrthoMerge variants of its factors are measured too

    def recipe(self, rate: float, *, epochs: int | None = None) -> Recipe:
        usual = FULL_EPOCHS if self.mode == "full" else LORA_EPOCHS
        return Recipe(
            mode=self.mode,
            rank=self.rank,
            alpha=ALPHA,
            dropout=DROPOUT,
            target_modules=self.modules,
            layers=self.layers,
            learning_rate=rate,
            weight_decay=WEIGHT_DECAY,
            epochs=epochs or usual,
            batch_size=BATCH_ROWS,
            grad_accum=1,
            max_length=None,
            dtype="float32",
            reg=self.reg,
            beta=1.0,
        )

    def rates(self, count: int) -> tuple[float, ...]:
        first = LADDER.index(self.first_rate)
        return LADDER[first : first + count]


@dataclass(frozen=True)
class Figure:
    """One figure of the paper, or of ours, and the configurations in it."""

    name: str
    title: str
    configurations: tuple[str, ...]


def up(name: str, label: str, **more: object) -> Configuration:
    return replace(Configuration(name, label, modules=("up_proj",)), **more)


CONFIGURATIONS: dict[str, Configuration] = {
    entry.name: entry
    for entry in (
        Configuration(
            "full", "full fine-tuning", mode="full", modules=(*ATTENTION, *MLP), first_rate=3e-5
        ),
        Configuration("mlp-r1", "LoRA r=1, MLP"),
        Configuration("mlp-r4", "LoRA r=4, MLP", rank=4),
        Configuration("mlp-r8", "LoRA r=8, MLP", rank=8),
        Configuration("mlp-r16", "LoRA r=16, MLP", rank=16),
        Configuration("mlp-r64", "LoRA r=64, MLP", rank=64),
        Configuration("qkvo-mlp-r1", "LoRA r=1, QKVO & MLP", modules=(*ATTENTION, *MLP)),
        Configuration("gate-r1", "LoRA r=1, gate", modules=("gate_proj",)),
        up("up-r1", "LoRA r=1, up", has_merges=True),
        Configuration("down-r1", "LoRA r=1, down", modules=("down_proj",)),
        up("up-r1-early", "up, early layers", layers="early"),
        up("up-r1-middle", "up, middle layers", layers="middle"),
        up("up-r1-late", "up, late layers", layers="late"),
        Configuration(
            "qkvo-mlp-r4",
            "LoRA r=4, QKVO & MLP",
            rank=4,
            modules=(*ATTENTION, *MLP),
            has_merges=True,
        ),
        up("up-r1-reg-col", "up, reg-col", reg="col"),
        up("up-r1-reg-both", "up, reg-both", reg="both"),
        Configuration(
            "qkvo-mlp-r4-reg-col",
            "r=4 QKVO & MLP, reg-col",
            rank=4,
            modules=(*ATTENTION, *MLP),
            reg="col",
        ),
        Configuration(
            "qkvo-mlp-r4-reg-both",
            "r=4 QKVO & MLP, reg-both",
            rank=4,
            modules=(*ATTENTION, *MLP),
            reg="both",
        ),
        up("up-r1-retain-0.25", "up, retention ¼", retain=0.25),
        up("up-r1-retain-0.5", "up, retention ½", retain=0.5),
        up("up-r1-retain-1", "up, retention 1", retain=1.0),
    )
}

RANKS = ("mlp-r1", "mlp-r4", "mlp-r8", "mlp-r16", "mlp-r64")
RETENTION = ("up-r1", "up-r1-retain-0.25", "up-r1-retain-0.5", "up-r1-retain-1")
FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("fig1", "Stable rank of the update", ("full", "qkvo-mlp-r4")),
        Figure("fig2", "Full fine-tuning and LoRA over epochs", ("full", "mlp-r1")),
        Figure("fig3", "Rank", (*RANKS, "full")),
        Figure("fig4", "Attention and MLP against MLP alone", ("qkvo-mlp-r1", "mlp-r1")),
        Figure("fig5", "Projections within the MLP", ("mlp-r1", "gate-r1", "up-r1", "down-r1")),
        Figure("fig6", "Layers", ("up-r1-early", "up-r1-middle", "up-r1-late", "up-r1")),
        Figure("fig7", "Overlap of the update with the weights", ("full", "qkvo-mlp-r4")),
        Figure(
            "fig8",
            "Less overlap still: regularisation and OrthoMerge",
            (
                *("up-r1", "up-r1-reg-col", "up-r1-reg-both"),
                *("qkvo-mlp-r4", "qkvo-mlp-r4-reg-col", "qkvo-mlp-r4-reg-both"),
            ),
        ),
        Figure("retention", "The base's own answers mixed in", RETENTION),
    )
}
QUICK = ("fig1", "fig2", "fig5", "fig7")


def chosen_figures(names: tuple[str, ...] | None) -> tuple[Figure, ...]:
    unknown = [name for name in names or () if name not in FIGURES]
    if unknown:
        raise Failure(
            f"--only must name figures among {', '.join(FIGURES)}; got {', '.join(unknown)}; "
            "leave it out for all of them"
        )
    return tuple(figure for name, figure in FIGURES.items() if names is None or name in names)


def chosen_configurations(figures: tuple[Figure, ...]) -> tuple[Configuration, ...]:
    """Each once, in the grid's order."""
    wanted = {name for figure in figures for name in figure.configurations}
    return tuple(entry for name, entry in CONFIGURATIONS.items() if name in wanted)
