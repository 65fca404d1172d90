"""lm-eval: log-likelihoods of local-completions beside those of its own hf backend, one by one."""

import json
import os
from pathlib import Path

os.environ |= {"HF_HOME": str(Path("hf").absolute()), "HF_HUB_OFFLINE": "1"}

import httpx
from check import MODEL, URL, check, equal
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

CHECKPOINT = Path(os.environ["DUTYFREE_ROOT"]) / "models" / MODEL
PROMPT = "<｜begin▁of▁sentence｜><｜User｜>{{question}}<｜Assistant｜><think>\n"
# float32 on both sides; sums run in different orders. Weights in int8 are 0.5 off and more.
TOLERANCE = 1e-3


def greedy_answer(question: str) -> str:
    """What the model says of itself: greedy decoding says the same."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0}
    answer = httpx.post(f"{URL}/v1/chat/completions", json=body, timeout=60).json()
    message = answer["choices"][0]["message"]
    return f"{message['reasoning']}\n</think>\n\n{message['content']}"


rows = []
for a, b in [(2, 62), (3, 21), (4, 12), (5, 17), (2, 45), (6, 11), (3, 33), (7, 13)]:
    question = f"A shop fills {a} bags, each with {b} books. How many books are there now?"
    other = f"{a}*{b}\n</think>\n\nThe answer is {a * b}."
    said = greedy_answer(question)
    # lm-eval counts blanks at a prompt's end to the choices, and no model writes them there.
    row = {"question": question, "begun": said[0], "choices": [said[1:], other, "Sorry, no."]}
    rows.append(row)
data = Path("rows.jsonl").absolute()
data.write_text("".join(json.dumps(row) + "\n" for row in rows))
task = {
    "task": "choices",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(data)}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": PROMPT + "{{begun}}",
    "doc_to_target": 0,
    "doc_to_choice": "choices",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}
# JSON is YAML.
Path("tasks").mkdir()
Path("tasks", "choices.yaml").write_text(json.dumps(task))
tasks = TaskManager(include_path="tasks", include_defaults=False)


def likelihoods(model: str, model_args: str) -> list[tuple[float, bool]]:
    """Of each row's choices: the log-likelihood, and whether greedy decoding says the same."""
    found = simple_evaluate(
        model=model, model_args=model_args, tasks=["choices"], task_manager=tasks, log_samples=True
    )
    samples = sorted(found["samples"]["choices"], key=lambda sample: sample["doc_id"])
    return [
        (float(value), bool(is_greedy))
        for sample in samples
        for value, is_greedy in sample["filtered_resps"]
    ]


def equal_to_hf():
    served = likelihoods(
        "local-completions",
        f"model={MODEL},base_url={URL}/v1/completions,num_concurrent=4,"
        "tokenizer_backend=remote,max_length=2048",
    )
    own = likelihoods(
        "hf",
        f"pretrained={CHECKPOINT},dtype=float32,device=cpu,max_length=2048,add_bos_token=False",
    )
    counts = (len(served), len(own), 3 * len(rows))
    assert len(set(counts)) == 1, f"so many each: {counts}"
    worst = max(abs(a - b) for (a, _), (b, _) in zip(served, own, strict=True))
    assert worst <= TOLERANCE, f"they differ by {worst}"
    greedy = [[is_greedy for _, is_greedy in found] for found in (served, own)]
    equal(greedy[0], greedy[1])
    assert any(greedy[1]) and not all(greedy[1]), f"greedy tells nothing: {greedy[1]}"


check("log-likelihoods equal its hf backend's", equal_to_hf)
