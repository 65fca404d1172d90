"""`--fetch`: a missing set from its source, converted to our form, and kept only if its bytes are
the published ones.

Sources are files of public repositories; `--fetch-from` names the address that serves them raw,
as `<owner>/<repository>/<commit>/<path>`. Only sets whose rows follow from such a file one by one
are offered. A source that has changed gives other bytes, and nothing is written.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.shared.io import write_whole
from trainer.shared.progress import say
from trainer.suites.datasets import DataSet, Row

TIMEOUT_S = 60.0
MOST_BYTES = 16 << 20
LABELS = {"safe": "benign", "unsafe": "harmful"}
# Some readers end a line at these, although JSON does not ask for it.
ESCAPED = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


@dataclass(frozen=True)
class Recipe:
    files: tuple[str, ...]  # <owner>/<repository>/<commit>/<path>
    convert: Callable[[Sequence[bytes]], Iterator[Row]]


def table(data: bytes) -> Iterator[dict[str, str]]:
    """A CSV file's rows; the case of its headings differs between copies."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    headings = [name.strip().lower() for name in next(reader)]
    for cells in reader:
        yield dict(zip(headings, cells, strict=True))


def json_lines(data: bytes) -> Iterator[Row]:
    return (json.loads(line) for line in data.decode("utf-8").split("\n") if line.strip())


def strongreject(files: Sequence[bytes]) -> Iterator[Row]:
    small = {row["forbidden_prompt"] for row in table(files[1])}
    for number, row in enumerate(table(files[0])):
        yield {
            "id": f"strongreject-{number:04d}",
            "prompt": row["forbidden_prompt"],
            "label": "harmful",
            "category": row["category"],
            "source": row["source"],
            "small": row["forbidden_prompt"] in small,
        }


def jbb(files: Sequence[bytes]) -> Iterator[Row]:
    for label, data in zip(("harmful", "benign"), files, strict=True):
        for number, row in enumerate(table(data)):
            yield {
                "id": f"jbb-{label}-{number:03d}",
                "prompt": row["goal"],
                "label": label,
                "behavior": row["behavior"],
                "category": row["category"],
                "source": row["source"],
                "target": row["target"],
            }


def beavertails(files: Sequence[bytes]) -> Iterator[Row]:
    for number, row in enumerate(table(files[0])):
        yield {
            "id": f"btest-{number:04d}",
            "prompt": row["prompt"],
            "label": "harmful",
            "category": row["category"],
            "category_id": int(row["category_id"]),
        }


def xstest(files: Sequence[bytes]) -> Iterator[Row]:
    for row in table(files[0]):
        yield {
            "id": f"xstest-{int(row['id']):03d}",
            "prompt": row["prompt"],
            "label": LABELS[row["label"]],
            "type": row["type"],
            "focus": row["focus"],
            "note": row["note"],
        }


def cyberseceval(files: Sequence[bytes]) -> Iterator[Row]:
    for number, row in enumerate(json.loads(files[0])):
        yield {"id": f"cybfrr-{number:03d}", "prompt": row["mutated_prompt"], "label": "benign"}


def gsm8k_test(files: Sequence[bytes]) -> Iterator[Row]:
    for number, row in enumerate(json_lines(files[0])):
        yield {
            "id": f"gsm8k-test-{number:04d}",
            "prompt": row["question"],
            "solution": row["answer"],
            "answer": row["answer"].rpartition("####")[2].strip().replace(",", ""),
        }


def humaneval(files: Sequence[bytes]) -> Iterator[Row]:
    for row in json_lines(gzip.decompress(files[0])):
        fields = ("prompt", "entry_point", "canonical_solution", "test")
        yield {"id": row["task_id"], **{name: row[name] for name in fields}}


PUBLISHED = "alexandrasouly/strongreject/main/strongreject_dataset"
BEHAVIORS = "Baisayan/hack/2b37da1c255e43e16a74ecd3e51c99ea992b5237/data"
RECIPES = {
    "strongreject": Recipe(
        (f"{PUBLISHED}/strongreject_dataset.csv", f"{PUBLISHED}/strongreject_small_dataset.csv"),
        strongreject,
    ),
    "jbb": Recipe((f"{BEHAVIORS}/harmful-behaviors.csv", f"{BEHAVIORS}/benign-behaviors.csv"), jbb),
    "beavertails_eval": Recipe(
        (
            "SwimmingChoi/Value_Analysis/55bb27ee8cae45a778725764b2ca2b79986f51fe/"
            "data/BeaverTails-Evaluation.csv",
        ),
        beavertails,
    ),
    "xstest": Recipe(
        (
            "paul-rottger/exaggerated-safety/d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d/"
            "xstest_prompts.csv",
        ),
        xstest,
    ),
    "cyberseceval_frr": Recipe(
        (
            "DatasetEval/Datasets/ffbea76a2a89bb54f2c09e8fb72980a4a64d271c/"
            "source_datasets/mitre_frr.json",
        ),
        cyberseceval,
    ),
    "gsm8k_test": Recipe(
        (
            "openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/"
            "grade_school_math/data/test.jsonl",
        ),
        gsm8k_test,
    ),
    "humaneval": Recipe(
        ("openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d/data/HumanEval.jsonl.gz",),
        humaneval,
    ),
}


def fetch(about: DataSet, folder: Path, base: str | None, *, any_data: bool) -> None:
    recipe = RECIPES.get(about.name)
    if recipe is None:
        raise Failure(
            f"--fetch must be able to convert a set; {about.file} is none of "
            f"{', '.join(sorted(RECIPES))}; make it by hand from {about.source}"
        )
    if base is None or not base.startswith(("http://", "https://")):
        raise Failure(
            f"--fetch needs --fetch-from, or DUTYFREE_DATA_SOURCE: the address that serves "
            f"{recipe.files[0]} as a raw file; got {base!r}"
        )
    say(f"fetching {about.file}: {about.source}, licence {about.licence}")
    try:
        rows = list(recipe.convert([download(f"{base.rstrip('/')}/{f}") for f in recipe.files]))
    except (KeyError, TypeError, ValueError, StopIteration, OSError) as error:
        raise Failure(
            f"the source of {about.file} must have the form it had; got {type(error).__name__}: "
            f"{error}; make the file by hand from {about.source}"
        ) from error
    text = "".join(as_line(row) for row in rows)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    if sha256 != about.sha256 and not any_data:
        raise Failure(
            f"{about.file} must have the SHA-256 {about.sha256}; its source gives {sha256}; "
            "nothing was kept; with --any-data it is, and this hash goes into the result"
        )
    write_whole(folder / about.file, text)


def as_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False).translate(ESCAPED) + "\n"


def download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            data = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, TimeoutError) as error:
        raise Failure(
            f"the source must be reachable; got {error} from {address}; check --fetch-from and the "
            "connection"
        ) from error
    if len(data) > MOST_BYTES:
        raise Failure(f"a source must have at most {MOST_BYTES} bytes; {address} has more")
    return data
