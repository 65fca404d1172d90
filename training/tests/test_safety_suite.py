"""`evaluate --suite safety` against a server on loopback that answers as it is told."""

import pytest
from suite_server import REFUSAL, chat, completion, running, saved, write_sets

from trainer.cli import main

NEEDS = ["--suite=safety", "--any-data"]


def answer(path, adapter, body):
    """The base refuses StrongREJECT's first request; `safe` refuses whatever is harmful, and one
    benign request."""
    prompt = body["messages"][-1]["content"]
    if adapter == "none":
        return chat(REFUSAL if prompt == "strongreject harmful 0?" else "Sure, like this.")
    applied = f"safe@abc123;scale={adapter.partition(':')[2] or 1}"
    if "harmful" in prompt or prompt == "xstest benign 0?":
        return chat(REFUSAL, thought="I should not answer this question!", applied=applied)
    return chat("Sure, like this.", applied=applied)


def evaluate(server, folder, *more):
    return main(
        ["evaluate", f"--against={server.url}", f"--data-dir={folder}", *NEEDS,
         f"--output={folder / 'out'}", *more]
    )  # fmt: skip


def row(document, name, subject):
    return next(r for r in document["results"] if (r["set"], r["subject"]) == (name, subject))


def test_base_and_adapter_are_judged_compared_and_attested(tmp_path, capsys):
    with running("tiny", answer) as server:
        assert evaluate(server, write_sets(tmp_path)) == 0
    found = saved(tmp_path)
    assert found["subjects"] == {"none": "none", "safe": "safe@abc123;scale=1"}
    base, safe = (row(found, "strongreject", name) for name in ("none", "safe"))
    assert base["shares"]["refused"]["value"] == pytest.approx(1 / 6)
    assert safe["shares"]["refused"]["value"] == 1
    assert safe["difference_from_base"]["refused"]["value"] == pytest.approx(5 / 6)
    assert base["by_category"]["kind 1"]["refused"]["n"] == 3
    assert row(found, "xstest_benign", "safe")["shares"]["refused"]["count"] == 1
    assert base["items"]["flags"]["refused"] == "100000"
    assert not found["data"]["jbb"]["as_published"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| strongreject " in page and "**not the published bytes**" in page
    assert (tmp_path / "out" / "refusals.svg").stat().st_size > 0
    assert capsys.readouterr().out.strip() == page.strip()


def test_what_may_be_published_holds_no_text_and_no_folder(tmp_path):
    with running("tiny", answer) as server:
        evaluate(server, write_sets(tmp_path), "--api-key=secret", "--sets=strongreject")
    for name in ("results.json", "README.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "harmful 0?" not in text and "sorry" not in text and "like this" not in text
        assert str(tmp_path) not in text and "secret" not in text


def test_a_second_run_asks_nothing_again(tmp_path):
    with running("tiny", answer) as server:
        folder = write_sets(tmp_path)
        arguments = (server, folder, "--limit=2", "--sets=strongreject,xstest_harmful")
        evaluate(*arguments, "--adapters=none")
        first = len(server.requests)
        before = saved(tmp_path)["results"]
        evaluate(*arguments, "--adapters=none")
        probes = 4  # one a subject, three for the base's fingerprint
        assert (first, len(server.requests)) == (2 * 2 + probes, 2 * 2 + 2 * probes)
        assert saved(tmp_path)["results"] == before
        evaluate(*arguments, "--adapters=none,safe:0.5")
        assert saved(tmp_path)["subjects"]["safe:0.5"] == "safe@abc123;scale=0.5"
    notice, *lines = (tmp_path / "out" / "answers.jsonl").read_text().split("\n")
    assert "Never commit" in notice
    assert sum(bool(line) for line in lines) == 2 * 2 * 2


def test_an_item_that_the_server_fails_at_is_an_error_and_no_refusal(tmp_path):
    def failing(path, adapter, body):
        if "strongreject harmful 1?" in body["messages"][-1]["content"]:
            return 400, {"error": {"message": REFUSAL, "code": "invalid_value"}}, {}
        return answer(path, adapter, body)

    with running("tiny", failing) as server:
        folder = write_sets(tmp_path)
        assert evaluate(server, folder, "--adapters=none", "--sets=strongreject") == 0
    found = row(saved(tmp_path), "strongreject", "none")
    assert (found["n"], found["errors"]) == (5, 1)
    assert found["shares"]["refused"]["count"] == 1
    assert "failed at 1 item" in saved(tmp_path)["warnings"][0]


def test_a_key_that_is_refused_ends_the_run_at_once_and_keeps_what_is_there(tmp_path, capsys):
    def closing(path, adapter, body):
        if "harmful 2?" in body["messages"][-1]["content"]:
            return 401, {"error": {"message": "no"}}, {}
        return answer(path, adapter, body)

    with running("tiny", closing) as server:
        folder = write_sets(tmp_path)
        assert evaluate(server, folder, "--adapters=none", "--concurrency=1") == 2
        assert "status 401" in capsys.readouterr().err
        assert not (folder / "out" / "results.json").exists()
        server.answer = answer
        asked = len(server.requests)
        assert evaluate(server, folder, "--adapters=none", "--sets=strongreject") == 0
        # Of six items two are kept.
        assert len(server.requests) - asked == 4 + 4


def test_empty_answers_and_thoughts_at_the_limit_are_neither_refused_nor_complied(tmp_path):
    def silent(path, adapter, body):
        prompt = body["messages"][-1]["content"]
        if prompt.endswith("0?"):
            return chat("", thought="I cannot help with this", finish="length")
        return chat("" if prompt.endswith("1?") else "Sure")

    with running("tiny", silent) as server:
        evaluate(server, write_sets(tmp_path), "--adapters=none", "--sets=strongreject")
    found = saved(tmp_path)
    counts = {k: v["count"] for k, v in row(found, "strongreject", "none")["shares"].items()}
    assert counts == {"refused": 0, "complied": 4, "empty": 1, "cut": 1, "thought_refuses": 1}
    assert "raise --max-tokens" in found["warnings"][0]


def test_an_adapter_that_changes_meanwhile_ends_the_run(tmp_path, capsys):
    versions = iter(["1"] * 3 + ["2"] * 99)

    def changing(path, adapter, body):
        applied = "none" if adapter == "none" else f"safe@{next(versions)};scale=1"
        return chat("Sure", applied=applied)

    with running("tiny", changing) as server:
        assert evaluate(server, write_sets(tmp_path), "--adapters=safe") == 2
    assert "the adapter changed while it was examined" in capsys.readouterr().err


def guard(path, adapter, body):
    assert path == "/v1/completions" and body["temperature"] == 0
    return completion("\n\nunsafe\nS2" if "Agent: Sure" in body["prompt"] else "\n\nsafe")


def test_a_guard_judges_answer_and_thought_apart_and_is_pinned(tmp_path):
    with running("tiny", answer) as server, running("guard-3", guard) as judge:
        folder = write_sets(tmp_path)
        arguments = (server, folder, f"--judge={judge.url}")
        assert evaluate(*arguments, "--sets=strongreject") == 0
        asked = len(judge.requests)
        assert evaluate(*arguments, "--sets=strongreject,xstest_benign") == 0
        assert len(judge.requests) == asked
    found = saved(tmp_path)
    base, safe = (row(found, "strongreject", name) for name in ("none", "safe"))
    assert base["shares"]["harmful_rate"]["count"] == 5
    assert safe["shares"]["safety_score"]["value"] == 1
    assert safe["shares"]["thought_harmful"]["count"] == 0
    assert "harmful_rate" not in row(found, "xstest_benign", "none")["shares"]
    judge_facts = found["judge"]["model"]
    assert (judge_facts["model"], judge_facts["kind"]) == ("guard-3", "llama-guard")
    assert len(judge_facts["prompt_sha256"]) == len(judge_facts["sha256"]) == 64
    assert found["settings"]["max_tokens"] == 1024


def test_the_servers_own_guard_judges_whole_conversations(tmp_path):
    def answer_or_moderate(path, adapter, body):
        if path != "/v1/moderations":
            return answer(path, adapter, body)
        assert body["model"] == "watch"
        assert [message["role"] for message in body["input"]] == ["user", "assistant"]
        flagged = "Sure" in body["input"][1]["content"]
        return 200, {"results": [{"flagged": flagged, "category_scores": {"unsafe": 0.9}}]}, {}

    listed = {"id": "watch", "kind": "guard", "state": "resident", "digest": "a" * 64}
    with running("tiny", answer_or_moderate, listed=[listed]) as server:
        folder = write_sets(tmp_path)
        assert evaluate(server, folder, "--judge=guard", "--sets=strongreject") == 0
    found = saved(tmp_path)
    assert row(found, "strongreject", "none")["shares"]["harmful_rate"]["count"] == 5
    assert row(found, "strongreject", "safe")["shares"]["safety_score"]["value"] == 1
    judge = found["judge"]["model"]
    assert (judge["kind"], judge["model"]) == ("guard", "watch@aaaaaaaaaaaa")


def test_a_rubric_gives_scores_and_a_verdict_that_cannot_be_read_leaves_its_item_out(tmp_path):
    def grade(path, adapter, body):
        prompt = body["messages"][0]["content"]
        if "harmful 3?" in prompt:
            return chat("I would rather not say.")
        refused = int("sorry" in prompt)
        return chat(f"Plain.\nrefused: {refused}\nconvincing: 4\nspecific: 2")

    with running("tiny", answer) as server, running("grader", grade) as judge:
        evaluate(
            server, write_sets(tmp_path), f"--judge={judge.url}", "--judge-kind=rubric",
            "--sets=strongreject", "--adapters=none",
        )  # fmt: skip
    found = saved(tmp_path)
    result = row(found, "strongreject", "none")
    assert result["n"] == 5 and result["facts"]["items_without_verdict"] == 1
    assert result["means"]["rubric_score"]["value"] == pytest.approx(0.5 * 4 / 5)
    assert "have no verdict" in found["warnings"][0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--judge=guard"], "must judge with a guard of its adapters folder; it lists []"),
        (["--judge=nobody"], "rule, guard or a server's address; got 'nobody'"),
        (["--sets=nothing"], "got 'nothing'"),
        (["--adapters=nope"], "got 'nope'; it has safe"),
        (["--adapters=none,none"], "each subject once"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_told_of(tmp_path, capsys, arguments, message):
    with running("tiny", answer) as server:
        assert evaluate(server, write_sets(tmp_path), *arguments) == 2
    assert message in capsys.readouterr().err
