"""Results that nobody measured: exams of chosen shares, curves of them, points of a whole grid."""

from collections.abc import Mapping, Sequence

from trainer.reproduce.findings.results import Curve, Merge, Results, Stage, Strict
from trainer.reproduce.jobs.grid import CONFIGURATIONS, Configuration
from trainer.reproduce.jobs.job import (
    EpochPoint,
    Exam,
    Job,
    MergePoint,
    ModuleShape,
    Point,
    Settings,
    point_of,
)
from trainer.reproduce.jobs.plan import open_jobs

SETTINGS = Settings(
    "a-base",
    rates=3,
    lora_epochs=3,
    full_epochs=2,
    evaluated=(1, 2),
    exam=(("word_problem", 20), ("fact", 20), ("benign", 20), ("lookalike", 10), ("harmful", 20)),
    samples=2,
    sample_prompts=10,
    merges=(("col", 2, 1.0), ("both", 2, 1.0), ("both", 2, 1.25), ("both", 64, 1.0)),
)
BLOCK = ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
HALF = {"safe": 0.5, "word_problem": 0.5, "fact": 0.5, "refused": 0.5}


def bits(share: float, n: int) -> str:
    ones = min(n, max(0, round(share * n)))
    return "1" * ones + "0" * (n - ones)


def exam(n: int, **shares: float) -> Exam:
    """`refused`: share of the harmless requests."""
    known = HALF | shares
    answered = 1 - known["refused"]
    return {
        "word_problem": bits(known["word_problem"], n),
        "fact": bits(known["fact"], n),
        "safe": bits(known["safe"], n),
        "harmful_refused": bits(known["safe"], n),
        "benign": bits(answered, n),
        "lookalike": bits(answered, n),
        "benign_refused": bits(known["refused"], n),
        "lookalike_refused": bits(known["refused"], n),
    }


def stage(n: int, seeds: int = 3, **shares: float) -> Stage:
    return Stage("made up", (exam(n, **shares),) * seeds)


def shapes(stable_rank: float, overlap: float) -> tuple[ModuleShape, ...]:
    """Two layers of three linear layers each."""
    return tuple(
        ModuleShape(f"model.layers.{layer}.{module}", stable_rank, (overlap,) * 4)
        for layer in range(2)
        for module in BLOCK
    )


def curve(
    name: str,
    stages: Mapping[int, Stage],
    *,
    structure: Sequence[tuple[ModuleShape, ...]] = (),
    merges: Sequence[Merge] = (),
    failures: tuple[str, ...] = (),
) -> Curve:
    return Curve(
        configuration=CONFIGURATIONS[name],
        rate=1e-3,
        strict=Strict(1e-3, None),
        swept=(),
        stages=dict(stages),
        losses={},
        structure=tuple(structure),
        merges=tuple(merges),
        failures=failures,
    )


def results(n: int, curves: Mapping[str, Curve], base: Mapping[str, float]) -> Results:
    return Results(Stage("base", (exam(n, **base),)), None, dict(curves), 3)


# --- points, as a fake of training ------------------------------------------------------------


def point(job: Job) -> Point:
    """Loss falls with the rate; the exam depends on the epoch, the rank and the seed."""
    if job.kind == "base":
        return point_of(job, exam=small_exam(job, safe=0.1, word_problem=0.9), seconds={"exam": 1})
    if job.kind == "sample":
        draw = bits(0.5, dict(job.exam)["word_problem"])
        return point_of(job, samples=(draw,) * job.samples, seconds={"exam": 1})
    recipe, jitter = job.recipe, 0.05 * (job.seed - 2)
    epochs = []
    for number in range(1, recipe.epochs + 1):
        learned = number / recipe.epochs
        shares = {
            "safe": 0.2 + 0.7 * learned + jitter,
            "word_problem": 0.9 - (0.2 + 0.01 * recipe.rank) * learned + jitter,
            "fact": 0.8,
            "refused": 0.3 * learned,
        }
        sits = number in job.evaluated
        epochs.append(
            EpochPoint(
                number,
                1 / number,
                2e-7 / recipe.learning_rate,
                small_exam(job, **shares) if sits else None,
            )
        )
    merges = tuple(
        MergePoint(mode, k, strength, (0.1,) * 4, small_exam(job, safe=0.6, word_problem=0.8))
        for mode, k, strength in job.merges
    )
    structure = shapes(3.0 + job.seed, 0.2 + jitter) if job.kind == "final" else ()
    return point_of(
        job, epochs=tuple(epochs), merges=merges, structure=structure, seconds={"train": 1}
    )


def small_exam(job: Job, **shares: float) -> Exam:
    """Of the job's own numbers of prompts."""
    counts = dict(job.exam)
    found = exam(max(counts.values()), **shares)
    kinds = {"safe": "harmful", "harmful_refused": "harmful"}
    return {
        name: bits(found[name].count("1") / len(found[name]), counts[kind])
        for name in found
        for kind in [kinds.get(name, name.removesuffix("_refused"))]
    }


def all_points(
    configurations: Sequence[Configuration], settings: Settings = SETTINGS
) -> dict[str, Point]:
    """Those of a run that came to its end."""
    points: dict[str, Point] = {}
    while jobs := open_jobs(configurations, settings, points):
        points |= {job.key: point(job) for job in jobs}
    return points
