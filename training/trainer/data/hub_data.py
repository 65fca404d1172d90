"""A data set of a hub (`org/name[@revision]`), adapted to a template that opens the thought itself.

Refusal sets such as DirectRefusal hold a harmful request, a *harmful* answer and a refusal side by
side: a `refusal` column wins over every other, whatever else a record holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.data.jsonl import read_jsonl
from trainer.shared.batches import Pair
from trainer.shared.failure import Failure

PROMPTS = ("prompt", "instruction", "question", "query")
REPLIES = ("refusal", "completion", "output", "answer", "response")
SUFFIXES = (".jsonl", ".json", ".parquet")
THOUGHT = "I should not answer this question!"  # the paper's, where a set has only the refusal
OPEN, CLOSE = "<think>", "</think>"


def is_hub_id(text: str) -> bool:
    """`org/name`, and no such file here."""
    name = text.partition("@")[0]
    return name.count("/") == 1 and not Path(text).exists() and not Path(name).suffix


def read_data(source: str) -> list[Pair]:
    return read_hub(source) if is_hub_id(source) else read_jsonl(Path(source))


def read_hub(source: str) -> list[Pair]:
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        folder = Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision or None, allow_patterns=patterns
            )
        )
    except Exception as error:  # the hub's library raises dozens of kinds
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise Failure(
            f"--data must be a JSONL file or a hub's data set; got {source!r}, no file here, "
            f"and not to be downloaded ({reason}); check the name, HF_TOKEN and the connection"
        ) from error
    files = [p for s in SUFFIXES for p in sorted(folder.rglob(f"*{s}"))]
    if not files:
        raise Failure(f"{source}: a data set must hold {', '.join(SUFFIXES)} files; got none")
    is_train = [path for path in files if "train" in path.name]
    chosen = [p for p in is_train or files if p.suffix == (is_train or files)[0].suffix]
    return [
        adapted(record, f"{source}/{path.relative_to(folder)}, record {number}")
        for path in chosen
        for number, record in enumerate(records(path), start=1)
    ]


def records(path: Path) -> Iterator[dict[str, Any]]:
    match path.suffix:
        case ".parquet":
            try:
                from pyarrow import parquet
            except ImportError as error:
                raise Failure(
                    f"{path.name}: reading parquet needs pyarrow, which is not installed; "
                    "run training/.venv/bin/pip install pyarrow"
                ) from error
            yield from parquet.read_table(path).to_pylist()
        case ".json":
            yield from json.loads(path.read_text(encoding="utf-8"))
        case _:
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield json.loads(line)


def adapted(record: dict[str, Any], where: str) -> Pair:
    prompt = first_text(record, PROMPTS, "a request", where)
    reply = first_text(record, REPLIES, "a reply", where)
    return Pair((("user", prompt),), with_thought(reply))


def first_text(record: dict[str, Any], names: Sequence[str], what: str, where: str) -> str:
    for name in names:
        if isinstance(record.get(name), str) and record[name].strip():
            return record[name]
    raise Failure(
        f"{where}: a record must hold {what} under one of {', '.join(names)}; got "
        f"{', '.join(record)}; rename its column, or write a JSONL file"
    )


def with_thought(reply: str) -> str:
    """What follows `<think>\\n` of the template: the thought, its end, the answer."""
    text = reply.strip().removeprefix(OPEN).lstrip("\n")
    if CLOSE in text:
        return text
    return f"{THOUGHT}\n{CLOSE}\n\n{text}"
