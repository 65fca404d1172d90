"""Near-duplicates of texts: character trigrams, cosine of their counts. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

NEAR = 0.75  # cosine from which two prompts count as one; the data notes use 0.75 as well


def normalised(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\u2019", "")))


def trigrams(text: str) -> Counter[str]:
    padded = f"  {normalised(text)}  "
    return Counter(padded[i : i + 3] for i in range(len(padded) - 2))


class Neighbours:
    """Asks of a text how near the nearest of `texts` is."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.norms: list[float] = []
        self.index: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, text in enumerate(texts):
            counts = trigrams(text)
            self.norms.append(norm(counts))
            for gram, count in counts.items():
                self.index[gram].append((number, count))

    def nearest(self, text: str) -> float:
        """Cosine of the nearest text: 1 for the same letters, 0 for none in common."""
        counts = trigrams(text)
        products: Counter[int] = Counter()
        for gram, count in counts.items():
            for number, other in self.index.get(gram, ()):
                products[number] += count * other
        mine = norm(counts)
        return max((p / (mine * self.norms[n]) for n, p in products.items()), default=0.0)


def norm(counts: Counter[str]) -> float:
    return math.sqrt(sum(count * count for count in counts.values()))
