"""Runs lm-eval's tasks against a dutyfree server; lm-eval's own environment runs this script.

In, as JSON on standard input: {"url", "model", "adapter", "applied", "max_length", "concurrency",
"timeout_s", "tasks" (a folder of task files), "names" (of those to run), "cache" (a file)}. Out, as
the last line: every item's metrics as lm-eval computed them, and its totals; no text.

The model class is lm-eval's own `local-completions`, which scores the choices by the echoed
log-probabilities of token ids. Here the server's `/tokenize` makes the ids, so that no tokenizer
folder is needed, and each answer must attest the adapter that is examined.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from urllib.parse import quote

import requests
from lm_eval import simple_evaluate
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

MOST_TRIES = 8  # a busy server turns requests away with 429


class ServedTokenizer:
    """Token ids as the server makes them of a prompt, its special tokens included."""

    eos_token = None  # a sequence ends at the model's own end tokens; no stop string is needed
    eos_token_id = bos_token_id = None

    def __init__(self, url: str, model: str, key: str, timeout_s: float) -> None:
        self.url, self.model, self.timeout_s = f"{url}/tokenize", model, timeout_s
        self.session = requests.Session()
        self.session.headers["authorization"] = f"Bearer {key}"
        self.encode = functools.lru_cache(maxsize=4096)(self.ask)

    def ask(self, text: str) -> list[int]:
        body = {"model": self.model, "prompt": text}
        answer = self.session.post(self.url, json=body, timeout=self.timeout_s)
        answer.raise_for_status()
        return answer.json()["tokens"]


class Served(LocalCompletionsAPI):
    def __init__(self, task: dict) -> None:
        self.key = os.environ.get("DUTYFREE_API_KEY", "none")
        super().__init__(
            model=task["model"],
            base_url=f"{task['url']}/v1/completions?adapter={quote(task['adapter'], safe=':,')}",
            tokenizer_backend="none",
            num_concurrent=max(2, task["concurrency"]),
            max_length=task["max_length"],
            max_retries=MOST_TRIES,
            timeout=task["timeout_s"],
        )
        self.tokenizer = ServedTokenizer(task["url"], task["model"], self.key, task["timeout_s"])
        self.tokenizer_backend, self.tokenized_requests = "remote", True
        self.applied, self.added_tokens = task["applied"], 0

    @property
    def api_key(self) -> str:
        return self.key

    def check(self, output: dict) -> None:
        named = [f"{a['id']}@{a['digest']};scale={a['scale']}" for a in output["adapter"]]
        if (", ".join(named) or "none") != self.applied:
            raise SystemExit(
                f"error: the server must apply {self.applied!r} to the end; got {named}; the "
                "adapter changed while it was examined; start again"
            )

    def parse_logprobs(self, outputs, **more):
        self.check(outputs)
        return LocalCompletionsAPI.parse_logprobs(outputs, **more)

    def parse_generations(self, outputs, **more):
        self.check(outputs)
        self.added_tokens += outputs["usage"]["completion_tokens"]
        return LocalCompletionsAPI.parse_generations(outputs, **more)


def is_same_number(found: str, wanted: str) -> bool:
    """lm-eval compares texts, by which 8.00 is not 8."""
    numbers = []
    for text in (found, wanted):
        try:
            numbers.append(float(text.replace(",", "").replace("$", "").rstrip(".")))
        except ValueError:
            return False
    return numbers[0] == numbers[1]


def main() -> None:
    task = json.load(sys.stdin)
    # lm-eval prints tables and warnings on standard output too; the result goes out alone.
    out, sys.stdout = sys.stdout, sys.stderr
    lm = Served(task)
    found = simple_evaluate(
        model=lm,
        use_cache=task["cache"],
        tasks=task["names"],
        task_manager=TaskManager(include_path=task["tasks"], include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    items: dict[str, dict[str, dict]] = {}
    for name, samples in found["samples"].items():
        kept = items.setdefault(name, {})
        for sample in samples:
            # A task with several filters has a sample for each.
            entry = kept.setdefault(sample["doc"]["id"], {})
            for metric in sample["metrics"]:
                entry[f"{metric},{sample['filter']}"] = float(sample[metric])
            if "choices" in sample["doc"]:
                entry["loglikelihoods"] = [float(one[0]) for one in sample["filtered_resps"]]
            elif sample["filter"] == "flexible-extract":
                wanted = sample["doc"]["target"].split("#### ")[-1]
                entry["number"] = float(is_same_number(sample["filtered_resps"][0], wanted))
    totals = {
        name: {key: value for key, value in row.items() if isinstance(value, int | float)}
        for name, row in found["results"].items()
    }
    result = {"items": items, "totals": totals, "generated_tokens": lm.added_tokens}
    out.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
