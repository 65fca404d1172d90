"""Small examples and recipes that several test files share."""

import random

from trainer.shared.batches import Encoded
from trainer.shared.recipe import Recipe


def recipe(**changes) -> Recipe:
    values = {
        "mode": "lora",
        "rank": 1,
        "alpha": 16,
        "dropout": 0.0,
        "target_modules": ("up_proj",),
        "layers": "all",
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "epochs": 3,
        "batch_size": 4,
        "grad_accum": 1,
        "max_length": None,
        "dtype": "auto",
        "reg": "none",
        "beta": 1.0,
    }
    return Recipe(**values | changes)


def ragged_rows(count: int, seed: int = 1) -> list[Encoded]:
    """Random tokens; prompts of 3 to 30, completions of 2 to 9."""
    rng = random.Random(seed)

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(10, 400) for _ in range(rng.randint(low, high))]

    return [Encoded(tokens(3, 30), tokens(2, 9)) for _ in range(count)]
