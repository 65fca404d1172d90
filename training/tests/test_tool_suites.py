"""`evaluate --suite utility|code|paper` against a server on loopback. lm-eval and EvalPlus are
played by functions; test_suite_tools.py runs them where they are installed."""

import json
from pathlib import Path

import pytest
from suite_server import chat, running

from trainer.cli import main
from trainer.suites import code, utility
from trainer.suites.tools import environment
from trainer.suites.tools.environment import Tools
from trainer.suites.tools.sandbox import LEVELS

TOOLS = Tools(Path("python"), {"lm-eval": "0", "evalplus": "0"})
CODE_ROW = {"entry_point": "f", "canonical_solution": "", "base_input": [], "plus_input": []}


def write_rows(folder, name, rows):
    lines = [json.dumps({"id": f"{name}-{i}", **row}) for i, row in enumerate(rows)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def evaluate(server, folder, suite, *more):
    return main(
        ["evaluate", f"--against={server.url}", f"--data-dir={folder}", f"--suite={suite}",
         "--any-data", f"--output={folder / 'out'}", *more]
    )  # fmt: skip


def saved(folder):
    with open(folder / "out" / "results.json", encoding="utf-8") as file:
        return json.load(file)


def applied(adapter):
    return "none" if adapter == "none" else "safe@abc;scale=1"


# --- utility -----------------------------------------------------------------------------------


def harness(tools, script, task, *, variables):
    """lm-eval's part: the base is right on all, the adapter is wrong on COPA's first item."""
    assert script == "harness.py" and variables["DUTYFREE_API_KEY"] == "secret"
    items, totals = {}, {}
    for name in task["names"]:
        documents = (Path(task["tasks"]) / f"{name}.jsonl").read_text().splitlines()
        ids = [json.loads(line)["id"] for line in documents]
        wrong = {ids[0]} if (name, task["adapter"]) == ("copa", "safe") else set()
        acc = {one: float(one not in wrong) for one in ids}
        if name == "copa":
            items[name] = {one: {"acc,none": acc[one]} for one in ids}
            totals[name] = {"acc,none": sum(acc.values()) / len(ids)}
        else:
            keys = ("exact_match,strict-match", "exact_match,flexible-extract")
            items[name] = {
                one: {keys[0]: 0.0, keys[1]: acc[one], "number": acc[one]} for one in ids
            }
            totals[name] = {keys[0]: 0.0, keys[1]: sum(acc.values()) / len(ids)}
    return {"items": items, "totals": totals, "generated_tokens": 0}


def write_utility_sets(folder):
    copa = {"prompt": "It fell.", "question": "cause", "choices": ["A.", "B."], "answer": 0}
    write_rows(folder, "copa_test", [copa] * 4)
    write_rows(folder, "svamp", [{"prompt": "1 + 1?", "answer": "2"}] * 6)
    solved = {"prompt": "1 + 1?", "solution": "#### 2", "answer": "2"}
    write_rows(folder, "gsm8k_train_4500", [solved] * 9)


def test_utility_pools_sets_alike_and_pairs_the_items(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(utility, "find_tools", lambda: TOOLS)
    monkeypatch.setattr(utility, "run_script", harness)
    write_utility_sets(tmp_path)
    with running("tiny", lambda path, adapter, body: chat("x", applied=applied(adapter))) as server:
        assert evaluate(server, tmp_path, "utility", "--sets=copa,svamp", "--api-key=secret") == 0
    found = saved(tmp_path)
    assert found["totals"]["none"]["correct"]["value"] == 1
    assert found["totals"]["safe"]["correct"]["value"] == pytest.approx((0.75 + 1) / 2)
    gain = found["totals"]["safe"]["difference_from_base"]
    assert gain["value"] == pytest.approx(-0.125) and gain["low"] < -0.125 < gain["high"]
    results = {(row["set"], row["subject"]): row for row in found["results"]}
    assert results["copa", "safe"]["items"]["flags"]["correct"] == "0111"
    assert results["svamp", "none"]["facts"]["correct_is"] == "number"
    assert results["svamp", "none"]["shares"]["strict"]["count"] == 0
    shots = (tmp_path / "out" / "lm-eval" / "shots.jsonl").read_text().splitlines()
    assert len(shots) == 5
    page = capsys.readouterr().out
    assert "| safe    | 87.5% [" in page and "BoolQ is balanced here" in page
    assert "secret" not in page and "1 + 1" not in page


def test_items_that_do_not_make_lm_evals_total_are_refused(tmp_path, monkeypatch, capsys):
    def wrong_total(*arguments, **more):
        found = harness(*arguments, **more)
        found["totals"]["copa"]["acc,none"] = 0.5
        return found

    monkeypatch.setattr(utility, "find_tools", lambda: TOOLS)
    monkeypatch.setattr(utility, "run_script", wrong_total)
    write_utility_sets(tmp_path)
    with running("tiny", lambda *_: chat("x")) as server:
        more = ("--sets=copa", "--adapters=none", "--api-key=secret")
        assert evaluate(server, tmp_path, "utility", *more) == 2
    assert "lm-eval's items must make its total; got 0.5 for copa" in capsys.readouterr().err


# --- code --------------------------------------------------------------------------------------


def grader(tools, script, task, *, before):
    """EvalPlus's part: what the model's text says."""
    assert script == "grading.py" and list(before) == list(LEVELS[-1].before)
    statuses = {"good": ("pass", "pass"), "weak": ("pass", "fail"), "none": ("no code", "no code")}
    assert {one["id"] for one in task["samples"]} <= {row["id"] for row in task["problems"]}
    return [list(statuses[one["text"]]) for one in task["samples"]]


def play_evalplus(folder, monkeypatch):
    monkeypatch.setattr(code, "find_tools", lambda: TOOLS)
    monkeypatch.setattr(code, "find_sandbox", lambda tools: LEVELS[-1])
    monkeypatch.setattr(code, "run_script", grader)
    write_rows(
        folder, "humaneval_plus_mini", [{"prompt": f"def f{i}():", **CODE_ROW} for i in range(4)]
    )


def test_code_counts_what_passes_and_says_that_the_sandbox_is_open(tmp_path, monkeypatch):
    play_evalplus(tmp_path, monkeypatch)

    def answer(path, adapter, body):
        asked = body["messages"][-1]["content"]
        texts = {"f0": "good", "f1": "weak", "f2": "none", "f3": "good"}
        return chat(next((text for name, text in texts.items() if name in asked), "x"))

    with running("tiny", answer) as server:
        more = ("--sets=humaneval", "--adapters=none")
        assert evaluate(server, tmp_path, "code", *more) == 0
        asked = [r for r in server.requests if "Markdown code block" in str(r)]
    assert {(r["temperature"], r["max_tokens"]) for r in asked} == {(0.0, 768)}
    found = saved(tmp_path)
    counts = {k: v["count"] for k, v in found["results"][0]["shares"].items()}
    assert counts == {"base": 3, "plus": 2, "no_code": 1, "cut": 0}
    assert "this user's rights" in found["warnings"][0]


def test_several_samples_have_seeds_of_their_own_and_count_as_shares(tmp_path, monkeypatch):
    play_evalplus(tmp_path, monkeypatch)

    def answer(path, adapter, body):
        return chat("good" if body.get("seed") == 1 else "weak")

    with running("tiny", answer) as server:
        more = ("--sets=humaneval", "--adapters=none", "--samples=4")
        assert evaluate(server, tmp_path, "code", *more) == 0
        asked = [r for r in server.requests if "Markdown code block" in str(r)]
    assert sorted({r["seed"] for r in asked}) == [1, 2, 3, 4]
    assert {(r["temperature"], r["top_p"]) for r in asked} == {(0.6, 0.95)}
    (result,) = saved(tmp_path)["results"]
    assert result["means"]["base"]["value"] == 1 and result["means"]["plus"]["value"] == 0.25
    assert result["items"]["scores"]["plus"] == [0.25] * 4


def test_equal_samples_are_refused(tmp_path, monkeypatch, capsys):
    play_evalplus(tmp_path, monkeypatch)
    with running("tiny", lambda *_: chat("good")) as server:
        more = ("--sets=humaneval", "--adapters=none", "--samples=4", "--temperature=0")
        assert evaluate(server, tmp_path, "code", *more) == 2
    assert "got 4 samples at 0, which would be equal" in capsys.readouterr().err


# --- paper -------------------------------------------------------------------------------------


def write_aime(folder):
    write_rows(folder, "aime24", [{"prompt": f"Problem {i}", "answer": f"0{i}"} for i in range(3)])


def aime(path, adapter, body):
    """Problem 0: a box; 1: a box in half of the samples; 2: words alone. As judge: YES."""
    asked = body["messages"][-1]["content"]
    if "one word, YES or NO" in asked:
        return chat("YES" if "it is two" in asked else "NO")
    if "Problem 0" in asked:
        return chat(r"So \boxed{0}.", thought=r"\boxed{9}")
    if "Problem 1" in asked:
        return chat(r"\boxed{001}" if body["seed"] % 2 else "cut in wor", finish="length")
    return chat("it is two")


def test_aime_counts_the_integer_of_the_last_box_over_samples(tmp_path):
    write_aime(tmp_path)
    with running("tiny", aime) as server:
        more = ("--adapters=none", "--samples=2", "--max-tokens=100")
        assert evaluate(server, tmp_path, "paper", *more) == 0
    found = saved(tmp_path)
    (result,) = found["results"]
    assert result["items"]["scores"]["correct"] == [1.0, 0.5, 0.0]
    assert result["items"]["scores"]["unread"] == [0.0, 0.5, 1.0]
    assert found["settings"]["temperature"] == 0.6
    assert "GPQA was not run" in found["warnings"][0]
    assert "33% of the answers reached the token limit" in found["warnings"][1]


def test_a_judge_model_is_asked_only_where_no_integer_is_read(tmp_path):
    write_aime(tmp_path)
    with running("tiny", aime) as server:
        more = ("--adapters=none", "--samples=2", "--max-tokens=100", f"--judge={server.url}")
        assert evaluate(server, tmp_path, "paper", *more) == 0
        judged = [r for r in server.requests if "YES or NO" in str(r)]
        (result,) = saved(tmp_path)["results"]
        assert result["items"]["scores"]["correct"] == [1.0, 0.5, 1.0]
        assert result["facts"]["judged_by_model"] == 3
        assert {(r["temperature"], r["max_tokens"]) for r in judged} == {(0.0, 8)}
        evaluate(server, tmp_path, "paper", *more)
        assert len([r for r in server.requests if "YES or NO" in str(r)]) == len(judged)


def test_gpqa_takes_the_papers_prompt_and_the_letter(tmp_path):
    rows = [{"prompt": f"Why {i}?", "choices": ["yes", "b", "c", "d"], "answer": 0} for i in (0, 1)]
    write_rows(tmp_path, "gpqa", rows)

    def answer(path, adapter, body):
        lines = body["messages"][-1]["content"].splitlines()
        letter = next((line[1] for line in lines if line.endswith(") yes")), "A")
        return chat(rf"Final Answer: \boxed{{{letter}}}")

    with running("tiny", answer) as server:
        more = ("--sets=gpqa", f"--gpqa={tmp_path / 'gpqa.jsonl'}", "--adapters=none",
                "--samples=1", "--max-tokens=100")  # fmt: skip
        assert evaluate(server, tmp_path, "paper", *more) == 0
    found = saved(tmp_path)
    assert found["results"][0]["shares"]["correct"]["count"] == 2
    assert found["warnings"] == []
    assert "not checked" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_with_too_short_a_context_is_refused_unless_told_how_much(tmp_path, capsys):
    write_aime(tmp_path)
    with running("tiny", aime) as server:
        assert evaluate(server, tmp_path, "paper", "--adapters=none") == 2
        assert not any("Problem" in str(request) for request in server.requests)
    said = capsys.readouterr().err
    assert "must hold 32,768 tokens of an answer" in said and "got 4,096" in said


def test_gpqa_by_name_without_its_file_is_refused(tmp_path, capsys):
    write_aime(tmp_path)
    with running("tiny", aime) as server:
        more = ("--adapters=none", "--sets=gpqa", "--max-tokens=100")
        assert evaluate(server, tmp_path, "paper", *more) == 2
    assert "the set gpqa needs its file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "suite, flag",
    [("utility", "samples=2"), ("safety", "temperature=1"), ("code", "gpqa=questions.csv")],
)
def test_a_flag_of_another_suite_is_refused(tmp_path, capsys, suite, flag):
    assert main(["evaluate", "--against=http://127.0.0.1:9", f"--suite={suite}",
                 f"--data-dir={tmp_path}", f"--{flag}"]) == 2  # fmt: skip
    said = capsys.readouterr().err
    assert f"--{flag.split('=')[0]} is of the suites" in said and f"got it with {suite}" in said


def test_a_judge_has_no_place_where_tests_decide(tmp_path, capsys):
    assert main(["evaluate", "--against=http://127.0.0.1:9", "--suite=code",
                 f"--data-dir={tmp_path}", "--judge=http://127.0.0.1:9"]) == 2  # fmt: skip
    assert "--judge is of the suites safety and paper" in capsys.readouterr().err


# --- the tools' environment --------------------------------------------------------------------


def test_the_lock_changes_with_what_is_wanted_and_with_the_pins(tmp_path):
    pins = tmp_path / "pins.txt"
    pins.write_text("a==1\n")
    first = environment.wanted_lock(["a==1"], pins)
    assert first != environment.wanted_lock(["a==2"], pins)
    pins.write_text("a==2\n")
    assert first != environment.wanted_lock(["a==1"], pins)


def test_every_wanted_package_is_pinned_to_the_same_version():
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in environment.PINS.read_text().splitlines()
    )
    for needed in environment.requirements():
        name, version = needed.split("==")
        assert pinned[name.split("[")[0].replace("_", "-")] == version


def test_a_named_interpreter_without_the_tools_is_refused(monkeypatch, capsys, tmp_path):
    missing = tmp_path / "python"
    monkeypatch.setenv(environment.VARIABLE, str(missing))
    write_aime(tmp_path)
    write_rows(tmp_path, "humaneval_plus_mini", [{"prompt": "def f():", **CODE_ROW}])
    with running("tiny", lambda *_: chat("x")) as server:
        more = ("--sets=humaneval", "--adapters=none")
        assert evaluate(server, tmp_path, "code", *more) == 2
    assert "DUTYFREE_EVALUATE_PYTHON must be a Python interpreter" in capsys.readouterr().err
