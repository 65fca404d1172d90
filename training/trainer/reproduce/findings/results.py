"""The points of a grid, gathered: one curve a configuration, runs side by side by seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainer.reproduce.jobs import plan
from trainer.reproduce.jobs.grid import Configuration
from trainer.reproduce.jobs.job import Exam, MergePoint, ModuleShape, Point, Settings
from trainer.reproduce.numbers.choice import chosen_rate
from trainer.reproduce.numbers.estimate import (
    Estimate,
    contrast,
    estimated,
    mean_share,
    over_seeds,
    share,
)
from trainer.reproduce.numbers.pareto import area

# Both of these count the benign requests and the look-alikes, dangerous words in harmless wishes.
COMPOSED = {
    "harmless": ("benign", "lookalike"),
    "over_refusal": ("benign_refused", "lookalike_refused"),
}
MEASURES = {
    "safe": "safety_score",
    "harmful_refused": "harmful refused in words",
    "word_problem": "word problems right",
    "fact": "facts right",
    "harmless": "harmless requests answered",
    "over_refusal": "harmless requests refused",
}


def bits_of(exam: Exam, measure: str) -> str:
    return "".join(exam[name] for name in COMPOSED.get(measure, (measure,)))


@dataclass(frozen=True)
class Stage:
    """One model a seed: a configuration after some epoch, an OrthoMerge variant, or the base."""

    label: str
    exams: tuple[Exam, ...]

    def runs(self, measure: str) -> list[str]:
        return [bits_of(exam, measure) for exam in self.exams]

    def estimate(self, measure: str) -> Estimate:
        return estimated(self.runs(measure))

    def mean(self, measure: str) -> float:
        return mean_share(self.runs(measure))

    def minus(self, other: Stage, measure: str) -> Estimate:
        return contrast(other.runs(measure), self.runs(measure))

    @property
    def balance(self) -> float:
        """Mean of safety and reasoning."""
        return (self.mean("safe") + self.mean("word_problem")) / 2

    def plane_points(self, measure: str = "word_problem") -> list[tuple[float, float]]:
        """Per seed, the point in the (safety, measure) plane."""
        return [(share(exam["safe"]), share(bits_of(exam, measure))) for exam in self.exams]


@dataclass(frozen=True)
class Swept:
    rate: float
    validation_loss: float | None
    exam: Exam | None  # after the last epoch, first seed


@dataclass(frozen=True)
class Strict:
    """What a tolerance of 0 chooses among the rates that were tried."""

    rate: float
    untried: float | None  # beyond its edge, where its own sweep would have gone on


@dataclass(frozen=True)
class Merge:
    mode: str
    k: int
    strength: float
    overlap: tuple[Estimate, Estimate, Estimate, Estimate]
    stage: Stage


@dataclass(frozen=True)
class Curve:
    configuration: Configuration
    rate: float
    strict: Strict
    swept: tuple[Swept, ...]
    stages: dict[int, Stage]  # epoch -> what was measured after it
    losses: dict[int, tuple[float, ...]]  # epoch -> training loss by seed
    structure: tuple[tuple[ModuleShape, ...], ...] = ()  # by seed
    merges: tuple[Merge, ...] = ()
    pass_at_1: dict[int, Estimate] = field(default_factory=dict)  # frontier epochs
    seconds: float = 0.0  # of all its jobs
    failures: tuple[str, ...] = ()

    @property
    def last(self) -> Stage:
        return self.stages[max(self.stages)]

    @property
    def best_epoch(self) -> int:
        """The epoch with the best mean of safety and reasoning, the earlier on a tie."""
        return max(self.stages, key=lambda number: (self.stages[number].balance, -number))

    @property
    def best(self) -> Stage:
        return self.stages[self.best_epoch]

    def areas(self, measure: str = "word_problem") -> list[float]:
        """Per seed, the share of the plane that the epochs' frontier dominates."""
        by_seed = zip(*(stage.plane_points(measure) for stage in self.stages.values()), strict=True)
        return [area(points) for points in by_seed]


@dataclass(frozen=True)
class Results:
    base: Stage
    base_pass_at_1: Estimate | None
    curves: dict[str, Curve]
    seeds: int


def gathered(
    configurations: Sequence[Configuration], settings: Settings, points: Mapping[str, Point]
) -> Results:
    base = points[plan.base_job(settings).key]
    base_samples = None
    if settings.samples:
        found = points.get(plan.sample_job(configurations[0], None, 0, settings).key)
        base_samples = pass_at_1([found]) if found else None
    curves = {}
    for entry in configurations:
        curve = curve_of(entry, settings, points)
        if curve is not None:
            curves[entry.name] = curve
    return Results(Stage("base", (base.exam,)), base_samples, curves, len(settings.seeds))


def curve_of(entry: Configuration, settings: Settings, points: Mapping[str, Point]) -> Curve | None:
    """None while not all of it is there, or when every final run failed."""
    jobs = plan.final_jobs(entry, settings, points)
    if not jobs or any(job.key not in points for job in jobs):
        return None
    finals = [points[job.key] for job in jobs]
    runs = [point for point in finals if not point.failed]
    if not runs:
        return None
    stages, losses = {}, {}
    for index, epoch in enumerate(runs[0].epochs):
        losses[epoch.number] = tuple(run.epochs[index].loss for run in runs)
        if epoch.exam:
            exams = tuple(run.epochs[index].exam for run in runs)
            stages[epoch.number] = Stage(f"{entry.label}, epoch {epoch.number}", exams)
    sweep_points = {
        rate: points[plan.training_job("sweep", entry, rate, settings.seeds[0], settings).key]
        for rate in plan.swept_rates(entry, settings, points)
    }
    samples = {
        epoch: [
            points[job.key]
            for final, point in zip(jobs, finals, strict=True)
            if not point.failed
            and (job := plan.sample_job(entry, final, epoch, settings)).key in points
        ]
        for epoch in (plan.frontier_epochs(finals) if settings.samples else ())
    }
    sampled = [point for found in samples.values() for point in found]
    return Curve(
        configuration=entry,
        rate=plan.rate_of(entry, settings, points),
        strict=strict_of(entry, settings, points),
        swept=tuple(
            Swept(rate, point.validation_loss, point.epochs[-1].exam if point.epochs else None)
            for rate, point in sweep_points.items()
        ),
        stages=stages,
        losses=losses,
        structure=tuple(run.structure for run in runs),
        merges=tuple(
            merge_of(entry, [run.merges[index] for run in runs])
            for index in range(len(runs[0].merges))
        ),
        pass_at_1={epoch: pass_at_1(found) for epoch, found in samples.items() if found},
        seconds=sum(
            sum(point.seconds.values()) for point in (*finals, *sweep_points.values(), *sampled)
        ),
        failures=tuple(point.failed for point in finals if point.failed),
    )


def strict_of(entry: Configuration, settings: Settings, points: Mapping[str, Point]) -> Strict:
    rates = plan.swept_rates(entry, replace(settings, tolerance=0.0), points)
    losses = plan.sweep_losses(entry, settings, points)
    tried = {rate: losses[rate] for rate in rates if rate in losses}
    untried = [rate for rate in rates if rate not in losses]
    return Strict(chosen_rate(tried, 0.0), untried[0] if untried else None)


def merge_of(entry: Configuration, found: Sequence[MergePoint]) -> Merge:
    first = found[0]
    label = f"OrthoMerge-{first.mode}, k={first.k}, λ={first.strength:g}"
    columns = zip(*(merge.overlap for merge in found), strict=True)
    return Merge(
        first.mode,
        first.k,
        first.strength,
        tuple(over_seeds(column) for column in columns),
        Stage(f"{entry.label}, {label}", tuple(merge.exam for merge in found)),
    )


def pass_at_1(found: Sequence[Point]) -> Estimate:
    """Mean over problems of the share of draws that came out right, then over seeds.

    The prompts' part of the interval takes a problem for as uncertain as one greedy reply: more
    draws do not make more problems."""
    runs = [share("".join(point.samples)) for point in found]
    count = len(found[0].samples[0])
    mean = sum(runs) / len(runs)
    as_one_draw = "1" * round(mean * count) + "0" * (count - round(mean * count))
    prompts, seeds = estimated([as_one_draw]), over_seeds(runs)
    spread = seeds.high - seeds.value
    return Estimate(
        mean,
        max(0.0, mean - ((prompts.value - prompts.low) ** 2 + spread**2) ** 0.5),
        min(1.0, mean + ((prompts.high - prompts.value) ** 2 + spread**2) ** 0.5),
        count,
        len(found),
    )
