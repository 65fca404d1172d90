"""Runs model-written code against EvalPlus's tests; EvalPlus's own environment runs this script,
inside what sandbox.py gives.

In, as JSON on standard input: {"dataset": "humaneval" or "mbpp", "problems" (rows of the data set),
"samples": [{"id", "text"}], "parallel"}. Out, as the last line: a status of the base tests and of
the extra ones for each sample, in order: "pass", "fail", "timeout", or "no code" where nothing
bears the name of the wanted function.

What is EvalPlus's: code found in the text, expected outputs, special oracles, limits of time and
memory. Its data loader is not used: it downloads, and insists on whole sets.
"""

from __future__ import annotations

import json
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from evalplus.data.mbpp import mbpp_deserialize_inputs
from evalplus.eval import untrusted_check
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.eval.utils import TimeoutException, time_limit
from evalplus.gen.util import trusted_exec
from evalplus.sanitize import sanitize

READ_LIMIT_S = 30.0  # EvalPlus tries every span of lines; a long babble would take hours
FILE_LIMIT = 16 << 20
PARTS = ("base", "plus")
NO_CODE = ("no code", "no code")
EXPECTED: dict[str, dict[str, Any]] = {}  # problem -> part -> outputs and times


def read_problem(dataset: str, row: dict[str, Any]) -> dict[str, Any]:
    inputs = {part: row[f"{part}_input"] for part in PARTS}
    if dataset == "mbpp":
        inputs = {part: mbpp_deserialize_inputs(row["id"], inputs[part]) for part in PARTS}
    return {**row, "inputs": inputs}


def expected_outputs(dataset: str, problem: dict[str, Any]) -> dict[str, Any]:
    """Of the reference solution, with its times; run once a process."""
    if problem["id"] not in EXPECTED:
        EXPECTED[problem["id"]] = outputs_of(dataset, problem)
    return EXPECTED[problem["id"]]


def outputs_of(dataset: str, problem: dict[str, Any]) -> dict[str, Any]:
    entry = problem["entry_point"]
    only_not_none = dataset == "mbpp" and entry in MBPP_OUTPUT_NOT_NONE_TASKS
    return {
        part: trusted_exec(
            problem["prompt"] + problem["canonical_solution"],
            problem["inputs"][part],
            entry,
            record_time=True,
            output_not_none=only_not_none,
        )
        for part in PARTS
    }


def code_of(text: str, entry: str) -> str:
    if not text.strip():
        return ""
    try:
        with time_limit(READ_LIMIT_S):
            return sanitize(text, entry)
    except (TimeoutException, ValueError, RecursionError):
        return ""


def grade(dataset: str, problem: dict[str, Any], text: str) -> tuple[str, str]:
    code = code_of(text, problem["entry_point"])
    if problem["entry_point"] not in code:
        return NO_CODE
    expected = expected_outputs(dataset, problem)
    found = []
    for part in PARTS:
        outputs, times = expected[part]
        status, _ = untrusted_check(
            dataset,
            code,
            problem["inputs"][part],
            problem["entry_point"],
            expected=outputs,
            atol=problem["atol"],
            ref_time=times,
            fast_check=True,
        )
        found.append(status)
    return found[0], found[1]


def main() -> None:
    task = json.load(sys.stdin)
    # EvalPlus and the reference solutions may print; the result goes out alone.
    out, sys.stdout = sys.stdout, sys.stderr
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    dataset = task["dataset"]
    problems = {row["id"]: read_problem(dataset, row) for row in task["problems"]}
    with ProcessPoolExecutor(task["parallel"]) as pool:
        futures = [
            pool.submit(grade, dataset, problems[one["id"]], one["text"]) for one in task["samples"]
        ]
        statuses = [future.result() for future in futures]
    out.write("\n" + json.dumps(statuses) + "\n")


if __name__ == "__main__":
    main()
