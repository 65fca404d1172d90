"""`evaluate` against a small fake server: prompts in, known replies out."""

import json
import threading
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest
from suite_server import Quiet

from trainer.answer.served import Server
from trainer.cli import main
from trainer.shared.failure import Failure
from trainer.world import grammar
from trainer.world.exam import build_exam

N = 20


def right_replies():
    exam = build_exam(n=N, seed=1)
    return {
        task.prompt: grammar.reply_to(task)
        for name, tasks in exam.sets.items()
        if name != "handwritten"
        for task in tasks
    }


class FakeServer(Quiet):
    """The base answers everything right; `safety` refuses every request that says "how to"."""

    replies = right_replies()
    turned_away = 0
    lock = threading.Lock()

    def do_GET(self):
        names = ["safety"] if self.path == "/v1/adapters" else ["tiny"]
        self.send(200, {"data": [{"id": name} for name in names]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.lock:
            is_first = FakeServer.turned_away == 0
            FakeServer.turned_away += is_first
        if is_first:  # one 429, which the client must outlast
            self.send(429, {"error": {"message": "queue full"}}, {"retry-after": "0"})
            return
        assert body["temperature"] == 0 and body["model"] == "tiny"
        adapter = parse_qs(urlparse(self.path).query)["adapter"][0]
        prompt = body["messages"][-1]["content"]
        reply = self.replies.get(prompt, grammar.Reply("", "?"))
        if adapter == "safety" and "The user wants" in reply.thought:
            reply = grammar.REFUSAL
        message = {"content": reply.answer, "reasoning_content": reply.thought}
        self.send(200, {"choices": [{"message": message}]})


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()


def test_base_and_adapter_are_measured_compared_and_saved(url, tmp_path, capsys):
    assert main(["evaluate", f"--against={url}", f"--n={N}", f"--output={tmp_path}"]) == 0
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    base, safety = saved["results"]["none"], saved["results"]["safety"]
    assert base["shares"]["word_problem"]["value"] == 1.0
    assert base["shares"]["safety_score"]["value"] == 0.0
    assert base["shares"]["harmful_rate"]["value"] == 1.0
    assert base["scorer"] == "rule"
    assert safety["shares"]["safety_score"] == {
        "count": N, "n": N, "value": 1.0, "low": pytest.approx(0.8389, abs=1e-4), "high": 1.0,
    }  # fmt: skip
    assert safety["shares"]["benign_refused"]["value"] == 1.0
    assert safety["difference_from_base"]["benign"]["value"] == -1.0
    text = (tmp_path / "evaluation.md").read_text()
    assert "scorer: rule" in text and "exam seed 1" in text
    assert "word problems right" in capsys.readouterr().out


def test_an_unknown_adapter_is_named_before_any_prompt_is_sent(url, tmp_path, capsys):
    arguments = ["evaluate", f"--against={url}", "--adapters=nope", f"--output={tmp_path}"]
    assert main(arguments) == 2
    assert "got 'nope'; it has safety" in capsys.readouterr().err


def test_no_server_and_no_address_end_in_one_line(tmp_path, capsys):
    assert main(["evaluate", "--against=http://127.0.0.1:9", f"--output={tmp_path}"]) == 2
    assert "start it with `npm start`" in capsys.readouterr().err
    with pytest.raises(Failure, match="--against must be a server's address"):
        Server("localhost:8000")


class Refusing(Quiet):
    """Answers every request with the status and text it is made with."""

    status, content_type = 401, "application/json"
    text = '{"error": {"message": "a key is needed"}}'

    def do_GET(self):
        self.send(self.status, self.text, content_type=self.content_type)


def test_a_guard_and_adapters_of_another_base_are_not_examined():
    listed = [("ours", "adapter", "resident"), ("broken", "adapter", "invalid"),
              ("judge", "guard", "available"), ("far", "adapter", "other_base")]  # fmt: skip
    data = [{"id": name, "kind": kind, "state": state} for name, kind, state in listed]
    answer = {"status": 200, "text": json.dumps({"data": data})}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Lists", (Refusing,), answer)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = Server(f"http://127.0.0.1:{server.server_port}").adapters()
        finally:
            server.shutdown()
            thread.join(timeout=5)
    assert found == ["ours", "broken"]


@pytest.mark.parametrize(
    "kind, message",
    [
        ({}, r"answer /v1/adapters; got status 401.*a key is needed.*--api-key"),
        ({"status": 500}, r"got status 500.*read the server's log"),
        (
            {"status": 200, "text": "<p>", "content_type": "text/html"},
            "list of adapters; got '<p>'",
        ),
    ],
    ids=["no key", "a fault", "another server"],
)
def test_a_server_that_refuses_is_quoted_with_what_to_do(kind, message):
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Kind", (Refusing,), kind)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(Failure, match=message):
                Server(f"http://127.0.0.1:{server.server_port}").adapters()
        finally:
            server.shutdown()
            thread.join(timeout=5)
