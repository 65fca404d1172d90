"""A server that loads its model is waited for: so long, with a word, and no longer."""

from http.server import ThreadingHTTPServer

import pytest
from suite_server import Quiet, serving

from trainer.answer.patience import Patience
from trainer.answer.served import Server
from trainer.shared.failure import Failure


class Clock:
    """Time passes in pauses only."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def pause(self, seconds):
        self.seconds += seconds

    def patience(self, seconds):
        return Patience(seconds, now=self.now, pause=self.pause)


class Loading(Quiet):
    """Answers 503 so many times, as the server does while it loads; then its list of models."""

    def do_GET(self):
        self.server.asked += 1
        if self.server.asked <= self.server.refusals:
            self.send(503, {"error": {"message": "The model is loading; try again in a moment."}})
        else:
            self.send(self.server.status, {"data": [{"id": "tiny"}]})


@pytest.fixture
def loading():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loading)
    server.asked, server.refusals, server.status = 0, 0, 200
    with serving(server):
        yield server


def url_of(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_it_is_waited_for_with_a_line_every_quarter_of_a_minute(loading, capsys):
    loading.refusals = 20
    clock = Clock()
    server = Server(url_of(loading), patience=clock.patience(60))
    server.wait()
    assert server.model() == "tiny"
    assert clock.seconds == 20
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("waiting 0:00 of 1:00: the server answers 503: The model is loading")
    assert lines[1].startswith("waiting 0:15 of 1:00")


def test_after_the_deadline_it_is_a_failure_that_names_the_flag(loading):
    loading.refusals = 1000
    clock = Clock()
    server = Server(url_of(loading), patience=clock.patience(30))
    server.wait()
    assert clock.seconds == 30
    with pytest.raises(Failure, match=r"got status 503.*raise --wait"):
        server.model()


@pytest.mark.parametrize(("status", "patience"), [(401, 60), (500, 60), (503, 0)])
def test_nothing_else_is_waited_for(loading, status, patience):
    loading.status = status
    clock = Clock()
    Server(url_of(loading), patience=clock.patience(patience)).wait()
    assert (clock.seconds, loading.asked) == (0, 1)


def test_no_server_is_told_of_at_once():
    clock = Clock()
    server = Server("http://127.0.0.1:9", patience=clock.patience(60))
    server.wait()
    assert clock.seconds == 0
    with pytest.raises(Failure, match="start it with `npm start`"):
        server.model()
