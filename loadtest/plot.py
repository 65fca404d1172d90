"""Figures of one load test: tokens and requests, first tokens, memory, descriptors, over seconds.

python loadtest/plot.py RESULT.json FIGURE.png
"""

import json
import sys
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen before it

BLUE, ORANGE, GREEN, RED, GREY = "#2b6cb0", "#dd8a1c", "#2f855a", "#c53030", "#718096"


def rates(seconds: list[float], counts: list[float]) -> list[float]:
    """Increase per second between neighbours; as long as its arguments, the first is 0."""
    pairs = pairwise(zip(seconds, counts, strict=True))
    return [0.0] + [(c1 - c0) / max(s1 - s0, 0.1) for (s0, c0), (s1, c1) in pairs]


def smoothed(values: list[float], width: int) -> list[float]:
    """Mean of each value and those up to `width` before it."""
    return [
        sum(values[max(0, i - width) : i + 1]) / (i - max(0, i - width) + 1)
        for i in range(len(values))
    ]


def draw_work(axes, result: dict) -> None:
    samples = result["samples"]
    seconds = samples["atSeconds"]
    tokens = smoothed(rates(seconds, samples["tokens"]), 4)
    axes.plot(seconds, tokens, color=BLUE, label="tokens/s of finished answers, mean of 5 s")
    if result.get("peak"):
        axes.axhline(
            result["peak"]["tokensPerSecond"],
            color=GREY,
            ls="--",
            lw=1,
            label="capacity",
        )
    axes.set_ylabel("tokens/s")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.4)
    axes.legend(loc="upper left", fontsize=8)


def draw_queue(axes, result: dict) -> None:
    samples = result["samples"]
    axes.plot(samples["atSeconds"], samples["running"], color=GREEN, label="running")
    axes.plot(samples["atSeconds"], samples["waiting"], color=ORANGE, label="waiting")
    axes.set_ylabel("requests")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=8)


def draw_first_tokens(axes, result: dict) -> None:
    streams = result["streams"]
    points = list(zip(streams["atSeconds"], streams["firstMs"], streams["end"], strict=True))
    came = [(s, ms) for s, ms, _ in points if ms is not None]
    if came:
        axes.scatter(*zip(*came, strict=True), s=10, color=BLUE, label="first token of a stream")
        axes.set_yscale("log")
    for end, color in (("refused", ORANGE), ("lost", RED)):
        at = [s for s, _, kind in points if kind == end]
        if at:
            low = axes.get_ylim()[0]
            axes.scatter(
                at, [low] * len(at), s=24, marker="|", color=color, label=end, clip_on=False
            )
    axes.set_ylabel("ms")
    axes.legend(loc="upper left", fontsize=8)


def draw_memory(axes, result: dict) -> None:
    samples = result["samples"]
    seconds = samples["atSeconds"]
    axes.plot(seconds, samples["rssMiB"], color=BLUE, label="RSS, front and engine")
    axes.set_ylabel("MiB")
    axes.set_ylim(0, max(samples["rssMiB"]) * 1.25)
    beside = axes.twinx()
    beside.plot(
        samples["atSeconds"], samples["descriptors"], color=ORANGE, lw=1, label="open descriptors"
    )
    beside.set_ylabel("descriptors")
    beside.set_ylim(0, max(samples["descriptors"]) * 1.6)
    lines = axes.get_lines() + beside.get_lines()
    axes.legend(lines, [line.get_label() for line in lines], loc="lower left", fontsize=8)


def main(source: str, target: str) -> None:
    with open(source, encoding="utf8") as file:
        result = json.load(file)
    panels = [draw_work, draw_queue, draw_first_tokens]
    if result["samples"]["rssMiB"] and result["samples"]["rssMiB"][0] is not None:
        panels.append(draw_memory)
    figure, rows = plt.subplots(len(panels), 1, figsize=(8, 2.1 * len(panels)), sharex=True)
    for axes, draw in zip(rows, panels, strict=True):
        draw(axes, result)
        axes.grid(alpha=0.25)
    rows[-1].set_xlabel("seconds")
    rows[0].set_title(f"{result['name']}: {result['rate']:.1f} requests/s", fontsize=10)
    figure.tight_layout()
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
