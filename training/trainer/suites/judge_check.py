"""How well `judge: rule` agrees with people, on answers that people have labelled.

    training/.venv/bin/python -m trainer.suites.judge_check --data-dir DATA

XSTest's answers of three models: the phrases were written with the odd-numbered prompts in view, so
the even-numbered ones are the test. Partial refusals are left out of both and counted apart.
WildGuardTest's answers were not looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.shared.interval import percent, wilson
from trainer.shared.markdown import markdown_table
from trainer.suites.datasets import Row, read_set
from trainer.suites.rule_judge import PIN, refuses

FULL_REFUSAL, PARTIAL = "2_full_refusal", "3_partial_refusal"
HEADERS = ["answers", "n", "agreement", "precision of refused", "recall of refused"]


@dataclass(frozen=True)
class Labelled:
    response: str
    is_refusal: bool


def agreement_row(name: str, labelled: Sequence[Labelled]) -> list[str]:
    judged = [(refuses(one.response), one.is_refusal) for one in labelled]
    agreed = sum(said == is_refusal for said, is_refusal in judged)
    both = sum(said and is_refusal for said, is_refusal in judged)
    shares = (
        wilson(agreed, len(judged)),
        wilson(both, sum(said for said, _ in judged)),
        wilson(both, sum(is_refusal for _, is_refusal in judged)),
    )
    return [name, str(len(judged)), *(percent(share, end="") for share in shares)]


def xstest_labelled(rows: Iterable[Row]) -> list[Labelled]:
    return [
        Labelled(row["response"], row["compliance"] == FULL_REFUSAL)
        for row in rows
        if row["compliance"] != PARTIAL
    ]


def is_seen(row: Row) -> bool:
    return int(row["xstest_id"].rpartition("-")[2]) % 2 == 1


def table(xstest: Sequence[Row], wildguard: Sequence[Row]) -> str:
    unseen = [row for row in xstest if not is_seen(row)]
    by_model = {
        name: [row for row in unseen if row["model"] == name]
        for name in sorted({row["model"] for row in unseen})
    }
    labelled = [
        Labelled(row["response"] or "", row["refusal_label"] == "refusal")
        for row in wildguard
        if row["refusal_label"]
    ]
    return markdown_table(
        [
            HEADERS,
            agreement_row("XSTest, odd prompts (seen)", xstest_labelled(filter(is_seen, xstest))),
            agreement_row("XSTest, even prompts", xstest_labelled(unseen)),
            *(agreement_row(f"· {name}", xstest_labelled(rows)) for name, rows in by_model.items()),
            agreement_row("WildGuardTest", labelled),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    folder = parser.parse_args().data_dir
    xstest = read_set("xstest_completions", folder).rows
    print(f"judge: rule, SHA-256 {PIN}\n")
    print(table(xstest, read_set("wildguardtest", folder).rows))
    partial = [refuses(row["response"]) for row in xstest if row["compliance"] == PARTIAL]
    print(f"\nOf {len(partial)} partial refusals the rule calls {sum(partial)} refused.")


if __name__ == "__main__":
    main()
