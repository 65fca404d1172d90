"""Asks a subject every item, several at once, and keeps each answer as it comes.

The client retries what a busy server turns away. What then still fails is an error of the item:
counted apart, never kept, and asked again by the next run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

import openai

from trainer.answer.served import Server
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.suites.answers import Answer, AnswerBook, Settings, answer_key
from trainer.suites.items import Item
from trainer.suites.subjects import Subject

Work = TypeVar("Work")
Done = TypeVar("Done")
FATAL = (401, 403, 404)  # no other item would fare better
MOST_ERRORS_IN_A_ROW = 16


@dataclass(frozen=True)
class Asked:
    """In the order of the items; an entry is None where the server failed."""

    answers: tuple[Answer | None, ...]
    errors: tuple[str, ...]  # what went wrong, one text an error

    @property
    def number_of_errors(self) -> int:
        return len(self.errors)


@dataclass(frozen=True)
class Examiner:
    """A server, its base's fingerprint, and where answers are kept."""

    server: Server
    model: str
    fingerprint: str
    book: AnswerBook
    concurrency: int = 8

    def ask(self, subject: Subject, items: Sequence[Item], settings: Settings) -> Asked:
        keys = [answer_key(self.fingerprint, subject.applied, item, settings) for item in items]
        answers = [self.book.find(key) for key in keys]
        left = [index for index, answer in enumerate(answers) if answer is None]

        def one(index: int) -> None:
            answer = self.answer(subject, items[index], settings)
            self.book.keep(keys[index], subject.name, items[index], answer)
            answers[index] = answer

        title = f"{subject.name}: {items[0].set if items else 'nothing'}"
        errors = work_through(one, left, title, total=len(items), at_once=self.concurrency)
        return Asked(tuple(answers), tuple(errors))

    def answer(self, subject: Subject, item: Item, settings: Settings) -> Answer:
        raw = self.server.client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=list(item.messages),
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=settings.seed + settings.sample,
            extra_query={"adapter": subject.name},
        )
        applied = raw.headers.get("x-adapter", subject.applied)
        if applied != subject.applied:
            raise Failure(
                f"the server must apply {subject.applied!r} to the end; got {applied!r}: the "
                "adapter changed while it was examined; start again"
            )
        completion = raw.parse()
        choice, usage = completion.choices[0], completion.usage
        more = choice.message.model_extra or {}
        thought = more.get("reasoning_content") or more.get("reasoning") or ""
        return Answer(
            thought.strip(),
            (choice.message.content or "").strip(),
            choice.finish_reason,
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )


def work_through(
    one: Callable[[int], None], indices: Sequence[int], title: str, *, total: int, at_once: int
) -> list[str]:
    """`one` for every index, `at_once` at a time; what single ones failed with. A failure that
    every other would share ends it, and so do many failures in a row."""
    errors: list[str] = []
    in_a_row, lock = 0, threading.Lock()
    stop = threading.Event()
    progress = Progress(title, total, "items", done=total - len(indices))

    def attempt(index: int) -> None:
        nonlocal in_a_row
        try:
            one(index)
            with lock:
                in_a_row = 0
        except openai.APIError as error:
            with lock:
                in_a_row += 1
                errors.append(error_text(error))
                raise_if_fatal(error, in_a_row)

    def guarded(index: int) -> None:
        if stop.is_set():
            return
        try:
            attempt(index)
        except BaseException:
            # Here, not where it is read: no thread may take up another item meanwhile.
            stop.set()
            raise

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(guarded, index) for index in indices]
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.close()
    return errors


def error_text(error: openai.APIError) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"status {error.status_code}: {error.response.text[:200]}"
    return f"{type(error).__name__}: {error.__cause__ or error}"


def raise_if_fatal(error: openai.APIError, in_a_row: int) -> None:
    if in_a_row >= MOST_ERRORS_IN_A_ROW:
        raise Failure(
            f"the server must answer; got {in_a_row} errors in a row, the last "
            f"{error_text(error)}; read its log, then run again: answers so far are kept"
        ) from error
    if isinstance(error, openai.APIStatusError) and error.status_code in FATAL:
        raise Failure(
            f"the server must take these requests; got {error_text(error)}; check --against, "
            "--adapters and --api-key"
        ) from error
    is_gone = isinstance(error, openai.APIConnectionError) and not isinstance(
        error, openai.APITimeoutError
    )
    if is_gone:
        raise Failure(
            f"the server must stay up; got {error_text(error)}; start it again and repeat the "
            "command: answers so far are kept"
        ) from error
