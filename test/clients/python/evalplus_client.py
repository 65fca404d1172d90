"""evalplus: 20 samples of each of two problems by its own command, from a data set of its form."""

import json
import os
import subprocess
import sys
from pathlib import Path

from check import MODEL, QUESTION, URL, check, equal

# It wants all of HumanEval's 164 names to be there, and is told to ask for two.
NUM_TASKS = 164
problems = Path("problems.jsonl").absolute()
lines = []
for i in range(NUM_TASKS):
    prompt = f'def number_{i}():\n    """{QUESTION}"""\n'
    solution = "    return 124\n"
    lines.append(
        {
            "task_id": f"HumanEval/{i}",
            "prompt": prompt,
            "entry_point": f"number_{i}",
            "canonical_solution": solution,
            "test": "",
            "contract": "",
            "base_input": [],
            "plus_input": [],
            "atol": 0,
        }
    )
problems.write_text("".join(json.dumps(line) + "\n" for line in lines))


def samples():
    command = [sys.executable, "-m", "evalplus.codegen", MODEL, "humaneval"]
    command += ["--backend", "openai", "--base_url", f"{URL}/v1", "--root", "out"]
    command += ["--n_samples", "20", "--temperature", "0.8", "--id_range", "[0,2]"]
    told = {"HUMANEVAL_OVERRIDE_PATH": str(problems), "OPENAI_API_KEY": "unused"}
    done = subprocess.run(
        command, env={**os.environ, **told}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-300:]
    [raw] = Path("out").rglob("*.raw.jsonl")
    made = [json.loads(line) for line in raw.read_text().splitlines()]
    counts = [sum(one["task_id"] == f"HumanEval/{i}" for one in made) for i in (0, 1)]
    equal(counts, [20, 20])
    assert all(isinstance(one["solution"], str) for one in made)


check("20 samples of two problems", samples)
