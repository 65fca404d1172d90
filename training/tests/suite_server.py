"""A small server for the tests of the suites, and data files that are not the published ones."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

REFUSAL = "I'm sorry, but I can't help with that."
ROWS = {
    "strongreject": [("harmful", "category"), 6],
    "jbb": [("harmful", "category"), 3],
    "beavertails_eval": [("harmful", "category"), 3],
    "xstest": [("harmful", "type"), 3],
    "cyberseceval_frr": [("benign", "category"), 3],
}


def write_sets(folder):
    """Each set holds "<set> harmful 0?" and so on; the halves of a mixed set are of one size."""
    for name, ((label, field), n) in ROWS.items():
        labels = ["harmful", "benign"] if name in ("jbb", "xstest") else [label]
        rows = [
            {"id": f"{name}-{half}-{i}", "prompt": f"{name} {half} {i}?", "label": half,
             field: f"kind {i % 2}"}
            for half in labels for i in range(n)
        ]  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def saved(folder):
    return json.loads((folder / "out" / "results.json").read_text())


class Quiet(BaseHTTPRequestHandler):
    """Sends a body with its headers, and logs nothing."""

    def send(self, status, body, headers=None, content_type="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Handler(Quiet):
    """What it answers is its server's business."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        model = {"id": self.server.model, "max_model_len": self.server.max_length}
        lists = {"/v1/adapters": [{"id": "safe"}, *self.server.listed], "/v1/models": [model]}
        self.send(200, {"object": "list", "data": lists[self.path]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        url = urlparse(self.path)
        adapter = parse_qs(url.query).get("adapter", ["none"])[0]
        with self.server.lock:
            self.server.requests.append(body)
        status, answer, headers = self.server.answer(url.path, adapter, body)
        self.send(status, answer, headers)


class Asked(ThreadingHTTPServer):
    """Keeps every body that it was sent."""

    daemon_threads = True

    def __init__(self, model, answer, listed=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.listed = listed
        self.model, self.answer, self.max_length = model, answer, 4096
        self.requests, self.lock = [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(server):
    """Runs it in a thread, and ends both."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()


def running(model, answer, listed=()):
    return serving(Asked(model, answer, listed))


def chat(content, *, thought=None, finish="stop", applied="none"):
    message = {"role": "assistant", "content": content, "reasoning_content": thought}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny"}
    return 200, body | {"choices": [choice], "usage": usage}, {"x-adapter": applied}


def completion(text):
    body = {"id": "x", "object": "text_completion", "created": 0, "model": "judge"}
    return 200, body | {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}, {}
