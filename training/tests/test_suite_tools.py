"""lm-eval and EvalPlus themselves, where they are installed: the scripts that run in their
environment. Elsewhere these tests skip; the suites' other tests do not need them.

A server on loopback plays the model: a token is a code point, and the letters of "right" are the
likely ones.
"""

import json
import os

import pytest
from suite_server import chat, running

from trainer.cli import main
from trainer.suites.tools import environment
from trainer.suites.tools.sandbox import find_sandbox

HAS_TOOLS = bool(os.environ.get(environment.VARIABLE)) or environment.VENV.is_dir()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_TOOLS, reason="lm-eval and EvalPlus are not installed here"),
]
LIKELY = {ord(letter) for letter in "right"}
PROBLEM = {
    "id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "entry_point": "double",
    "base_input": [[1], [2]],
    "plus_input": [[1], [-3]],
    "atol": 0,
}
UPSTREAM = """
import json, sys, yaml, pathlib
import jinja2, lm_eval
folder = pathlib.Path(lm_eval.__file__).parent / "tasks"
class Loader(yaml.SafeLoader):
    pass
Loader.add_constructor("!function", lambda loader, node: None)
cases = json.load(sys.stdin)
texts = []
for file, doc in cases:
    text = yaml.load((folder / file).read_text(), Loader)["doc_to_text"]
    texts.append(jinja2.Environment().from_string(text).render(doc))
sys.path.insert(0, str(folder / "super_glue/copa"))
import utils
copa = {"premise": "It fell.", "question": "effect", "choice1": "It broke.", "choice2": "I ran.",
        "label": 1}
texts += [utils.doc_to_text(copa), *utils.doc_to_choice(copa)]
print(json.dumps(texts))
"""


def scored(tokens):
    logprobs = [None] + [-0.1 if token in LIKELY else -2.0 for token in tokens[1:]] + [-1.0]
    top = [None] + [{"x": -0.05} for _ in tokens[1:]] + [{"x": -1.0}]
    return {"token_logprobs": logprobs, "top_logprobs": top}


def character_model(path, adapter, body):
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if path == "/tokenize":
        return 200, {"tokens": [ord(letter) for letter in body["prompt"]]}, {}
    if path == "/v1/chat/completions":
        return chat("x")
    tokens = body["prompt"][0] if isinstance(body["prompt"][0], list) else body["prompt"]
    choice = {"index": 0, "finish_reason": "length"}
    if body.get("echo"):
        choice |= {"text": "", "logprobs": scored(tokens)}
    else:
        is_easy = "easy" in "".join(map(chr, tokens)).rsplit("Question:", 1)[1]
        choice |= {"text": " It is 2.00.\n#### 2" if is_easy else " I do not know"}
    return 200, {"choices": [choice], "usage": usage, "adapter": []}, {}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_lm_eval_scores_choices_and_numbers_through_the_server(tmp_path):
    write_lines(tmp_path / "piqa_val_1k.jsonl", [
        {"id": "p0", "prompt": "Which?", "choices": ["xxxxx", "right"], "answer": 1},
        {"id": "p1", "prompt": "Which?", "choices": ["right", "xxxxx"], "answer": 1},
        # Likelier as a whole, less so a character.
        {"id": "p2", "prompt": "Which?", "choices": ["xx", "rightrightrightxx"], "answer": 1},
    ])  # fmt: skip
    write_lines(tmp_path / "svamp.jsonl", [
        {"id": "s0", "prompt": "An easy one?", "answer": "2"},
        {"id": "s1", "prompt": "A hard one?", "answer": "2"},
    ])  # fmt: skip
    shot = {"prompt": "1?", "solution": "One.\n#### 1", "answer": "1"}
    write_lines(tmp_path / "gsm8k_train_4500.jsonl", [{"id": f"g{i}", **shot} for i in range(6)])
    with running("tiny", character_model) as server:
        assert main(["evaluate", f"--against={server.url}", "--suite=utility", "--any-data",
                     f"--data-dir={tmp_path}", f"--output={tmp_path / 'out'}", "--adapters=none",
                     "--sets=piqa,svamp"]) == 0  # fmt: skip
        few_shot = [r for r in server.requests if "stop" in r]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    flags = {row["set"]: row["items"]["flags"] for row in found["results"]}
    assert flags["piqa"] == {"correct": "101", "acc": "100", "acc_norm": "101"}
    assert flags["svamp"] == {"correct": "10", "strict": "10", "flexible": "10"}
    prompt = few_shot[0]["prompt"]
    text = "".join(map(chr, prompt[0] if isinstance(prompt[0], list) else prompt))
    assert text.count("#### 1") == 5 and text.endswith("one?\nAnswer:")


def test_the_prompts_are_those_of_lm_evals_own_tasks():
    cases = [
        ("super_glue/boolq/default.yaml", {"passage": "P.", "question": "is it"}),
        ("arc/arc_easy.yaml", {"question": "Which?"}),
        ("piqa/piqa.yaml", {"goal": "Which?"}),
        ("gsm8k/gsm8k.yaml", {"question": "Which?"}),
    ]
    tools = environment.find_tools()
    done = environment.run_python(tools.python, ["-c", UPSTREAM], input=json.dumps(cases))
    theirs = json.loads(done.stdout)
    from trainer.suites.tasks.documents import SETS

    make = {one.name: one.document for one in SETS}
    row = {"id": "x", "prompt": "Which?", "choices": ["a", "b"], "answer": 0}
    copa = {"prompt": "It fell.", "question": "effect", "choices": ["It broke.", "I ran."]}
    caused = make["copa"]({**row, **copa})
    assert theirs == [
        make["boolq"]({**row, "prompt": "is it", "passage": "P."})["query"],
        make["arc_easy"](row)["query"],
        make["piqa"](row)["query"],
        make["gsm8k"](row)["query"],
        caused["query"],
        *caused["choices"],
    ]


def test_evalplus_runs_code_where_it_can_do_no_harm(tmp_path):
    tools = environment.find_tools()
    sandbox = find_sandbox(tools)
    place = tmp_path / "written"
    place.write_text("before")
    head = "def double(x):\n"
    texts = [
        f"Here it is:\n```python\n{head}    return x + x\n```\nDone.",
        f"{head}    return abs(x) * 2",
        "I would rather not.",
        f"{head}    while True: pass\n    return 1",
        f"{head}    open({str(place)!r}, 'w').write('after')\n    return 2 * x",
    ]
    task = {
        "dataset": "humaneval",
        "problems": [PROBLEM],
        "samples": [{"id": PROBLEM["id"], "text": text} for text in texts],
        "parallel": 1,
    }
    right, weak, silent, endless, writing = environment.run_script(
        tools, "grading.py", task, before=sandbox.before
    )
    assert right == ["pass", "pass"] and weak == ["pass", "fail"]
    assert silent == ["no code", "no code"]
    assert endless[0] in ("fail", "timeout")
    if "read-only" in sandbox.words:
        assert writing == ["fail", "fail"] and place.read_text() == "before"
