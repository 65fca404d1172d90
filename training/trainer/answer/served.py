"""The backend that asks a running server with the OpenAI client: greedy, seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import openai

from trainer.answer.patience import Patience
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.world.grammar import Reply, Task

TIMEOUT_S = 120.0
MAX_RETRIES = 7  # of a request that the server turns away because it is busy (429, 503)
MAX_TOKENS = 320
NO_KEY = "none"  # the client insists on one; a server without keys does not look at it
REMEDIES = {
    401: "pass its key with --api-key",
    403: "pass a key that may do this with --api-key",
    404: "check --against and --adapters",
    429: "ask less at once with --concurrency",
    503: "raise --wait, or ask less at once with --concurrency",
}
Answer = TypeVar("Answer")


class Server:
    """A base URL, and the few calls that an evaluation makes."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        patience: Patience | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise Failure(
                f"--against must be a server's address; got {url!r}; "
                "start one with `npm start` and pass http://127.0.0.1:8000"
            )
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=api_key or NO_KEY,
            timeout=timeout_s,
            max_retries=max_retries,
        )
        # A server that is not there is told of at once.
        self.first_call = self.client.with_options(max_retries=0)
        self.patience = patience or Patience()

    def call(self, path: str, send: Callable[[], Answer]) -> Answer:
        try:
            return send()
        except openai.APIStatusError as error:
            status, text = error.status_code, error.response.text[:300]
            remedy = REMEDIES.get(status, "read the server's log")
            raise Failure(
                f"the server must answer {path}; got status {status}: {text}; {remedy}"
            ) from error
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise Failure(
                f"a server must answer at {self.url}; got {reason}; start it with `npm start`"
            ) from error

    def wait(self) -> None:
        """Until it no longer says that its model is being loaded (503). Whatever else it says, the
        next call tells."""

        def what_is_missing() -> str | None:
            try:
                self.first_call.models.list()
            except openai.APIStatusError as error:
                if error.status_code == 503:
                    body = error.body if isinstance(error.body, dict) else {}
                    return f"the server answers 503: {body.get('message', error.message)}"
            except openai.APIConnectionError:
                pass
            return None

        self.patience.until(what_is_missing)

    def listed(self) -> list[dict[str, Any]]:
        """What the server's adapters folder holds, guards and adapters of other bases too."""
        # Not an OpenAI route, so the client has no method for it.
        answer = self.call(
            "/v1/adapters",
            lambda: self.first_call.get("/adapters", cast_to=object),
        )
        if not isinstance(answer, dict) or "data" not in answer:
            raise Failure(
                f"{self.url}/v1/adapters must be dutyfree's list of adapters; got "
                f"{str(answer)[:80]!r}; check --against"
            )
        return answer["data"]

    def adapters(self) -> list[str]:
        """What a reply can run with: no guard, and no adapter of another base."""
        return [
            entry["id"]
            for entry in self.listed()
            if entry.get("kind") != "guard" and entry.get("state") != "other_base"
        ]

    def guard(self) -> str:
        """The guard in use, and the beginning of its digest."""
        in_use = [
            f"{entry['id']}@{entry['digest'][:12]}"
            for entry in self.listed()
            if entry.get("kind") == "guard" and entry.get("state") == "resident"
        ]
        if len(in_use) != 1:
            raise Failure(
                f"{self.url} must judge with a guard of its adapters folder; it lists {in_use}; "
                "start it with --guard, or take --judge rule"
            )
        return in_use[0]

    def model(self) -> str:
        return self.call("/v1/models", self.first_call.models.list).data[0].id

    def max_length(self) -> int:
        """Tokens of prompt and answer together."""
        model = self.call("/v1/models", self.first_call.models.list).data[0]
        return int((model.model_extra or {})["max_model_len"])

    def chat(self, *, adapter: str, **body: Any) -> Any:
        """The message that answers."""
        completion = self.call(
            "/v1/chat/completions",
            lambda: self.client.chat.completions.create(**body, extra_query={"adapter": adapter}),
        )
        return completion.choices[0].message


class ServedModel:
    """One adapter (or "none") of a server, behind the `Backend` protocol."""

    def __init__(
        self, server: Server, *, model: str, adapter: str, concurrency: int, seed: int
    ) -> None:
        self.server, self.adapter, self.model = server, adapter, model
        self.concurrency, self.seed = concurrency, seed

    def ask(self, task: Task) -> Reply:
        message = self.server.chat(
            adapter=self.adapter,
            model=self.model,
            messages=task.messages,
            temperature=0,
            max_tokens=MAX_TOKENS,
            seed=self.seed,
        )
        more = message.model_extra or {}
        thought = more.get("reasoning_content") or more.get("reasoning") or ""
        return Reply(thought.strip(), (message.content or "").strip())

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
