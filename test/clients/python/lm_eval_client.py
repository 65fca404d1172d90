"""lm-eval: completions with the server's own tokenizer; chat, whose `until` cuts no thought."""

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


# Of eight questions the model fails one at most.
LEAST = 0.85
rows = [row_of(a, b) for a, b in NUMBERS]
data = place / "books.jsonl"
data.write_text("".join(json.dumps(row) + "\n" for row in rows))

GENERATION = {
    "output_type": "generate_until",
    "doc_to_text": PROMPT,
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {
        "until": [END],
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
CHAT = {**GENERATION, "doc_to_text": "{{question}}"}
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": PROMPT + "{{thought}}\n</think>\n\n",
    "doc_to_target": 0,
    "doc_to_choice": ["{{answer}}", "{{wrong}}"],
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}


COMPLETIONS = (
    f"model={MODEL},base_url={URL}/v1/completions,num_concurrent=4,"
    "tokenizer_backend=remote,max_length=2048"
)
CHAT_COMPLETIONS = f"model={MODEL},base_url={URL}/v1/chat/completions,num_concurrent=4"


def until(*ends: str) -> dict:
    return {**CHAT, "generation_kwargs": {**CHAT["generation_kwargs"], "until": list(ends)}}


def evaluate(name: str, task: dict, metric: str, model: str, model_args: str) -> float:
    given = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
    whole = {"task": name, **given, "test_split": "test", **task}
    # JSON is YAML.
    (place / f"{name}.yaml").write_text(json.dumps(whole))
    output = place / f"{name}-out"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", model]
    command += ["--model_args", model_args, "--tasks", name, "--include_path", str(place)]
    command += ["--output_path", str(output)]
    if model == "local-chat-completions":
        command += ["--apply_chat_template"]
    told = {"HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "unused"}
    done = subprocess.run(
        command, env={**os.environ, **told}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-400:]
    [results] = output.rglob("results_*.json")
    found = json.loads(results.read_text())["results"][name]
    return next(value for key, value in found.items() if key.startswith(f"{metric},"))


def completions(name: str, task: dict, metric: str) -> None:
    value = evaluate(name, task, metric, "local-completions", COMPLETIONS)
    assert value >= LEAST, f"{metric} {value}"


def chat() -> None:
    """A thought has a blank line behind it: an end that cut it would leave no answer."""
    values = [
        evaluate(name, until(end), "exact_match", "local-chat-completions", CHAT_COMPLETIONS)
        for name, end in (("chat_whole", END), ("chat_until", "\n\n"))
    ]
    assert values[0] >= LEAST and values[1] == values[0], f"exact_match {values}"


check("generation", lambda: completions("books", GENERATION, "exact_match"))
check("log-probabilities", lambda: completions("book_choices", CHOICES, "acc"))
check('chat; until ["\\n\\n"] changes nothing', chat)
