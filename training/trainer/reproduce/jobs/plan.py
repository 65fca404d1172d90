"""Which jobs are still to do, given the points there are: sweep, then final, then samples.

Pure. The runner asks again after each finished job, so what depends on a result is planned as soon
as that result is there, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.reproduce.jobs.grid import LADDER, Configuration
from trainer.reproduce.jobs.job import Job, Point, Settings
from trainer.reproduce.numbers.choice import chosen_rate, extension
from trainer.reproduce.numbers.estimate import mean_share
from trainer.reproduce.numbers.pareto import frontier

Points = Mapping[str, Point]


def base_job(settings: Settings) -> Job:
    return Job(
        kind="base",
        configuration="base",
        recipe=None,
        retain=0.0,
        seed=0,
        refusals=0,
        validation=0,
        evaluated=(),
        exam=settings.exam,
        exam_seed=settings.exam_seed,
        samples=0,
        merges=(),
        base_digest=settings.base_digest,
    )


def training_job(
    kind: str, entry: Configuration, rate: float, seed: int, settings: Settings
) -> Job:
    epochs = settings.full_epochs if entry.mode == "full" else settings.lora_epochs
    recipe = entry.recipe(rate, epochs=epochs)
    last = recipe.epochs
    evaluated = sorted({*(n for n in settings.evaluated if n <= last), last})
    is_final = kind == "final"
    return Job(
        kind=kind,
        configuration=entry.name,
        recipe=recipe,
        retain=entry.retain,
        seed=seed,
        refusals=settings.refusals,
        validation=settings.validation,
        evaluated=tuple(evaluated) if is_final else (last,),
        exam=settings.exam,
        exam_seed=settings.exam_seed,
        samples=0,
        merges=settings.merges if is_final and entry.has_merges else (),
        base_digest=settings.base_digest,
    )


def sample_job(entry: Configuration, final: Job | None, epoch: int, settings: Settings) -> Job:
    """Pass@1 of one epoch of a final run; without one, of the base."""
    origin = final or base_job(settings)
    values = {name: getattr(origin, name) for name in Job.__dataclass_fields__}
    return Job(
        **values
        | {
            "kind": "sample",
            "validation": 0,
            "evaluated": (epoch,) if final else (),
            "exam": (("word_problem", settings.sample_prompts),),
            "samples": settings.samples,
            "merges": (),
        }
    )


def sweep_losses(
    entry: Configuration, settings: Settings, points: Points
) -> dict[float, float | None]:
    """Rate -> validation loss, of the rates that were tried, on the first seed."""
    found = {}
    for rate in LADDER:
        point = points.get(training_job("sweep", entry, rate, settings.seeds[0], settings).key)
        if point is not None:
            found[rate] = point.validation_loss
    return found


def swept_rates(entry: Configuration, settings: Settings, points: Points) -> tuple[float, ...]:
    """The planned rates and, when they are all there, the one beyond the edge."""
    planned = entry.rates(settings.rates)
    losses = sweep_losses(entry, settings, points)
    known = {rate: losses[rate] for rate in planned if rate in losses}
    more = extension(known, planned, LADDER, settings.tolerance)
    return planned if more is None else tuple(sorted((*planned, more)))


def rate_of(entry: Configuration, settings: Settings, points: Points) -> float | None:
    """The chosen rate; None while the sweep is not complete."""
    rates = swept_rates(entry, settings, points)
    losses = sweep_losses(entry, settings, points)
    if any(rate not in losses for rate in rates):
        return None
    return chosen_rate({rate: losses[rate] for rate in rates}, settings.tolerance)


def final_jobs(entry: Configuration, settings: Settings, points: Points) -> list[Job]:
    rate = rate_of(entry, settings, points)
    if rate is None:
        return []
    return [training_job("final", entry, rate, seed, settings) for seed in settings.seeds]


def frontier_epochs(finals: Sequence[Point]) -> list[int]:
    """Epochs whose mean over the seeds no other epoch of the configuration beats in both."""
    runs = [point for point in finals if not point.failed]
    if not runs:
        return []
    numbers = [epoch.number for epoch in runs[0].epochs if epoch.exam]
    plane = []
    for number in numbers:
        exams = [e.exam for run in runs for e in run.epochs if e.number == number and e.exam]
        plane.append(
            (
                mean_share([exam["safe"] for exam in exams]),
                mean_share([exam["word_problem"] for exam in exams]),
            )
        )
    return [numbers[index] for index in frontier(plane)]


def sample_jobs(entry: Configuration, settings: Settings, points: Points) -> list[Job]:
    """Known once all finals of the configuration are there."""
    finals = final_jobs(entry, settings, points)
    if not finals or settings.samples == 0 or any(job.key not in points for job in finals):
        return []
    epochs = frontier_epochs([points[job.key] for job in finals])
    return [
        sample_job(entry, job, epoch, settings)
        for epoch in epochs
        for job in finals
        if not points[job.key].failed
    ]


def all_jobs(
    configurations: Sequence[Configuration], settings: Settings, points: Points
) -> list[Job]:
    """Every job that can be named now, finished ones too, in the order of work."""
    jobs = [base_job(settings)]
    if settings.samples:
        jobs.append(sample_job(configurations[0], None, 0, settings))
    for entry in configurations:
        rates = swept_rates(entry, settings, points)
        jobs += [training_job("sweep", entry, r, settings.seeds[0], settings) for r in rates]
    for entry in configurations:
        jobs += final_jobs(entry, settings, points)
    for entry in configurations:
        jobs += sample_jobs(entry, settings, points)
    return jobs


def open_jobs(
    configurations: Sequence[Configuration], settings: Settings, points: Points
) -> list[Job]:
    found = {job.key: job for job in all_jobs(configurations, settings, points)}
    return [job for key, job in found.items() if key not in points]


def expected_cost(
    configurations: Sequence[Configuration], settings: Settings, points: Points
) -> int:
    """Work in all, what cannot be named yet estimated: two frontier points a configuration."""
    total = sum(job.cost for job in all_jobs(configurations, settings, points))
    for entry in configurations:
        finals = final_jobs(entry, settings, points)
        guess = [
            training_job("final", entry, entry.first_rate, seed, settings)
            for seed in settings.seeds
        ]
        if not finals:
            total += sum(job.cost for job in guess)
        if settings.samples and not sample_jobs(entry, settings, points):
            total += 2 * sum(sample_job(entry, job, 1, settings).cost for job in guess)
    return total
