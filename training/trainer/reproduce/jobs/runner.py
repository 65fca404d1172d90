"""Works through the grid with a pool of processes; each finished job is on disk before the next.

A stopped run goes on where it was: what has a point is not done again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from trainer.reproduce.jobs.grid import Configuration
from trainer.reproduce.jobs.job import Job, Point, Settings
from trainer.reproduce.jobs.plan import all_jobs, expected_cost, open_jobs
from trainer.reproduce.jobs.points import write_point
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress


class Pool(Protocol):
    def submit(self, job: Job) -> Future[Point]: ...


def work_through(
    configurations: Sequence[Configuration],
    settings: Settings,
    points: dict[str, Point],
    folder: Path,
    pool: Pool,
    *,
    workers: int,
) -> dict[str, Point]:
    """All points of the grid; `points` are those there are already."""
    points = dict(points)
    total = expected_cost(configurations, settings, points)
    known = all_jobs(configurations, settings, points)
    done = sum(job.cost for job in known if job.key in points)
    progress = Progress("reproduce", total, "steps", done=done)
    running: dict[Future[Point], Job] = {}
    while True:
        under_way = {job.key for job in running.values()}
        waiting = [
            job for job in open_jobs(configurations, settings, points) if job.key not in under_way
        ]
        for job in waiting[: workers - len(running)]:
            running[pool.submit(job)] = job
        if not running:
            break
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            job = running.pop(future)
            try:
                point = future.result()
            except BrokenProcessPool as error:
                raise Failure(
                    f"a worker ended during {job.kind} of {job.configuration}, seed {job.seed} "
                    "(out of memory?); run the same command again, with fewer --workers if need be"
                ) from error
            write_point(point, folder)
            points[point.key] = point
            progress.total = expected_cost(configurations, settings, points)
            progress.advance(job.cost, f"{len(points)} jobs; {described(job)}")
    progress.close()
    return points


def described(job: Job) -> str:
    rate = f" at {job.recipe.learning_rate:g}" if job.recipe else ""
    return f"{job.kind} {job.configuration}{rate}, seed {job.seed}"


class ProcessPool:
    def __init__(self, executor: ProcessPoolExecutor, run_job: Any) -> None:
        self.executor, self.run_job = executor, run_job

    def submit(self, job: Job) -> Future[Point]:
        return self.executor.submit(self.run_job, job)


@contextmanager
def process_pool(workers: int, context: Any) -> Iterator[ProcessPool]:
    """Fresh interpreters, so that no thread or lock of this process is inherited."""
    from trainer.reproduce.jobs.worker import run_job, start_worker

    executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(context,),
    )
    try:
        yield ProcessPool(executor, run_job)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    executor.shutdown()
