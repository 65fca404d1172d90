"""The backend that asks a running server as any OpenAI client would: greedy, seeded."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.world.grammar import Reply, Task

TIMEOUT_S = 120.0
MAX_TRIES = 8  # of a request that the server turns away because it is busy (429, 503)
MAX_TOKENS = 320


class Server:
    """A base URL, and the few calls that an evaluation makes."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise Failure(
                f"--against must be a server's address; got {url!r}; "
                "start one with `npm start` and pass http://127.0.0.1:8000"
            )
        self.headers = {"content-type": "application/json"}
        if api_key:
            self.headers["authorization"] = f"Bearer {api_key}"

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(MAX_TRIES):
            request = urllib.request.Request(self.url + path, data=data, headers=self.headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")[:300]
                if error.code not in (429, 503) or attempt == MAX_TRIES - 1:
                    raise Failure(f"the server answered {error.code} to {path}: {text}") from error
                time.sleep(retry_delay_s(error.headers.get("retry-after"), attempt))
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                raise Failure(
                    f"a server must answer at {self.url}; got {error}; start it with `npm start`"
                ) from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    def adapters(self) -> list[str]:
        return [entry["id"] for entry in self.call("/v1/adapters")["data"]]

    def model(self) -> str:
        return self.call("/v1/models")["data"][0]["id"]


def retry_delay_s(header: str | None, attempt: int) -> float:
    return float(header) if header and header.isdigit() else min(8.0, 0.25 * 2**attempt)


class ServedModel:
    """One adapter (or "none") of a server, behind the `Backend` protocol."""

    def __init__(
        self, server: Server, *, model: str, adapter: str, concurrency: int, seed: int
    ) -> None:
        self.server, self.adapter, self.model = server, adapter, model
        self.concurrency, self.seed = concurrency, seed

    def ask(self, task: Task) -> Reply:
        answer = self.server.call(
            f"/v1/chat/completions?adapter={urllib.parse.quote(self.adapter)}",
            {
                "model": self.model,
                "messages": task.messages,
                "temperature": 0,
                "max_tokens": MAX_TOKENS,
                "seed": self.seed,
            },
        )
        message = answer["choices"][0]["message"]
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        return Reply(thought.strip(), (message.get("content") or "").strip())

    def answer(self, tasks: Sequence[Task], title: str = "asking") -> list[Reply]:
        replies: list[Reply | None] = [None] * len(tasks)
        progress = Progress(title, len(tasks), "prompts")
        with ThreadPoolExecutor(self.concurrency) as pool:
            indices = {pool.submit(self.ask, task): index for index, task in enumerate(tasks)}
            try:
                for future in as_completed(indices):
                    replies[indices[future]] = future.result()
                    progress.advance()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        progress.close()
        return [reply for reply in replies if reply is not None]
