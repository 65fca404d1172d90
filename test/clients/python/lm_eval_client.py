"""lm-eval: local-completions with the server's own tokenizer, generation and log-probabilities."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from check import MODEL, URL, check

place = Path(tempfile.mkdtemp())
PROMPT = "<｜begin▁of▁sentence｜><｜User｜>{{question}}<｜Assistant｜><think>\n"
END = "<｜end▁of▁sentence｜>"
NUMBERS = [(2, 62), (3, 21), (4, 12), (5, 17), (2, 45), (6, 11), (3, 33), (7, 13)]


def thought_of(question: str) -> str:
    """What the model thinks of it: its choice among answers follows from that."""
    messages = [{"role": "user", "content": question}]
    body = json.dumps({"model": MODEL, "messages": messages, "temperature": 0}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{URL}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["choices"][0]["message"]["reasoning"]


def row_of(a: int, b: int) -> dict:
    question = f"A shop fills {a} bags, each with {b} books. How many books are there now?"
    right, wrong = (f"The answer is {number}." for number in (a * b, a * b + 1))
    return {"question": question, "answer": right, "wrong": wrong, "thought": thought_of(question)}


rows = [row_of(a, b) for a, b in NUMBERS]
data = place / "books.jsonl"
data.write_text("".join(json.dumps(row) + "\n" for row in rows))

GENERATION = {
    "output_type": "generate_until",
    "doc_to_text": PROMPT,
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {
        "until": ["<｜end▁of▁sentence｜>"],
        "max_gen_toks": 256,
        "do_sample": False,
    },
    "filter_list": [
        {
            "name": "answer",
            "filter": [
                {"function": "regex", "regex_pattern": r"(The answer is \d+\.)"},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match"}],
}
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": PROMPT + "{{thought}}\n</think>\n\n",
    "doc_to_target": 0,
    "doc_to_choice": ["{{answer}}", "{{wrong}}"],
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}


def run(name: str, task: dict, metric: str, least: float) -> None:
    given = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
    whole = {"task": name, **given, "test_split": "test", **task}
    # JSON is YAML.
    (place / f"{name}.yaml").write_text(json.dumps(whole))
    output = place / f"{name}-out"
    model_args = (
        f"model={MODEL},base_url={URL}/v1/completions,num_concurrent=4,"
        "tokenizer_backend=remote,max_length=2048"
    )
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"]
    command += ["--model_args", model_args, "--tasks", name, "--include_path", str(place)]
    command += ["--output_path", str(output)]
    env = {**os.environ, "HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-400:]
    [results] = output.rglob("results_*.json")
    found = json.loads(results.read_text())["results"][name]
    value = next(v for key, v in found.items() if key.startswith(f"{metric},"))
    assert value >= least, f"{metric} {value}"


check("generation", lambda: run("books", GENERATION, "exact_match", 0.85))
check("log-probabilities", lambda: run("book_choices", CHOICES, "acc", 0.85))
