"""Who runs when: every contestant once a round, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from speed.worker import Job, Kind, Outcome
from speed.workloads import Workload
from trainer.shared.failure import Failure

CONTESTANTS: dict[Workload, tuple[Kind, ...]] = {
    "equal": ("ours", "stock"),  # rows of one length: nothing to group
    "spread": ("ours", "stock", "stock-grouped"),
}
# The comparison of losses: float32 without dropout, rows in one order, a rate that moves the loss.
CHECK_ROWS, CHECK_EPOCHS, CHECK_RATE = 4, 2, 1e-3
LOSS_TOLERANCE, UPDATE_TOLERANCE = 1e-4, 0.02  # relative; B's own sums, taken in other orders


@dataclass(frozen=True)
class Check:
    workload: Workload
    ours: list[float]  # loss of each epoch
    stock: list[float]
    update_difference: float  # |B - B'| / |B'|


def run_once(job: Job) -> Outcome:
    here = Path(__file__).resolve().parent.parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(job.threads),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "speed.worker", json.dumps(asdict(job))]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode != 0:
        raise Failure(
            f"a run must end well; got status {found.returncode} from {job.kind}, {job.workload}: "
            f"{found.stderr.strip()[-800:]}; try a smaller --shape or fewer --rows"
        )
    return Outcome(**json.loads(found.stdout.splitlines()[-1]))


def check_same(job: Job) -> Check:
    """Stops everything where the two do not learn the same."""
    recipe = replace(job.recipe, dropout=0.0, learning_rate=CHECK_RATE, epochs=CHECK_EPOCHS)
    small = replace(job, recipe=recipe, rows=CHECK_ROWS, dtype="float32")
    ours, stock = (run_once(replace(small, kind=kind)) for kind in ("ours", "stock-ordered"))
    difference = distance(ours.update, stock.update)
    pairs = zip(ours.losses, stock.losses, strict=True)
    worst = max(abs(a - b) / abs(b) for a, b in pairs)
    if worst > LOSS_TOLERANCE or difference > UPDATE_TOLERANCE:
        raise Failure(
            f"both must learn the same, within {LOSS_TOLERANCE:g} of the loss and "
            f"{UPDATE_TOLERANCE:g} of the update; got {worst:.2g} and {difference:.2g} on "
            f"{job.workload}: {ours.losses} and {stock.losses}; the times would mean nothing"
        )
    return Check(job.workload, ours.losses, stock.losses, difference)


def distance(found: list[float], wanted: list[float]) -> float:
    squares = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
    return (squares / sum(b * b for b in wanted)) ** 0.5


def run_rounds(
    jobs: dict[Workload, Job], rounds: int, after: Callable[[list[dict[str, Any]]], None]
) -> None:
    """Every second round backwards. `after` gets all runs so far, after each."""
    runs: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        for workload, job in jobs.items():
            kinds = CONTESTANTS[workload][:: 1 if number % 2 else -1]
            for kind in kinds:
                load = os.getloadavg()[0]
                outcome = asdict(run_once(replace(job, kind=kind)))
                del outcome["update"]
                runs.append({"workload": workload, "round": number, "load": load} | outcome)
                print(
                    f"round {number}/{rounds}  {workload:6}  {kind:13}  "
                    f"{outcome['seconds']:.1f} s, {outcome['cpu_seconds']:.1f} s of CPU",
                    file=sys.stderr,
                )
        after(runs)
