"""A run's `results.json` and its page. Both hold numbers, hashes and ids, and no text of a prompt
or an answer, so that they may be committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from trainer.publish.provenance import commit_words
from trainer.shared.interval import Bounded, percent, points
from trainer.shared.io import write_json, write_whole
from trainer.shared.markdown import command_block, markdown_table, wrapped
from trainer.suites.items import described, ids_hash
from trainer.suites.measured import Measured, as_json, base_of, differences
from trainer.suites.subjects import Subject
from trainer.suites.suite import Findings

JSON, PAGE = "results.json", "README.md"
DIGITS = 12  # of a hash, on the page


@dataclass(frozen=True)
class Run:
    """What is true of a run whatever its suite."""

    suite: str
    command: str
    date: str
    commit: str | None
    model: str
    base_fingerprint: str
    base_digest: str | None  # of --base
    subjects: Sequence[Subject]


def save(folder: Path, run: Run, findings: Findings, picture: str | None) -> str:
    write_json(folder / JSON, as_document(run, findings))
    text = page(run, findings, picture)
    write_whole(folder / PAGE, text)
    return text


def as_document(run: Run, findings: Findings) -> dict[str, Any]:
    answered = {m.set: m.ids for m in findings.measured if m.subject == run.subjects[0].name}
    items = {**answered, **findings.items}
    return {
        "suite": run.suite,
        "command": run.command,
        "date": run.date,
        "commit": run.commit,
        "model": {
            "id": run.model,
            "fingerprint": run.base_fingerprint,
            "base_digest": run.base_digest,
        },
        "subjects": {subject.name: subject.applied for subject in run.subjects},
        "settings": dict(findings.settings),
        "judge": dict(findings.judge),
        "data": {loaded.about.name: described(loaded) for loaded in findings.data},
        "items_sha256": {name: ids_hash(ids) for name, ids in items.items()},
        "warnings": list(findings.warnings),
        "totals": plain(findings.totals),
        "results": [
            as_json(m, base_of(findings.measured, m, findings.base)) for m in findings.measured
        ],
    }


def plain(value: Any) -> Any:
    """Intervals as objects, however deep."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return asdict(value) if is_dataclass(value) else value


def page(run: Run, findings: Findings, picture: str | None) -> str:
    parts = [
        f"# {run.model}: the {run.suite} suite",
        command_block(run.command),
        facts(run, findings),
    ]
    if findings.warnings:
        parts.append("**Read with care.**\n\n" + "\n".join(f"- {w}" for w in findings.warnings))
    if findings.summary:
        parts.append(findings.summary)
    parts.append(shares_table(findings))
    against = differences_table(findings)
    if against:
        parts += ["Against the base, on the same items:", against]
    if picture:
        parts.append(f"![{run.suite}: {run.model}]({picture})")
    parts += [
        f"## How to read it\n\n{findings.explanation}",
        *(["## Data\n\n" + data_table(findings)] if findings.data else []),
        "By category, with the ids of the items and each item's outcome: `results.json`.",
    ]
    return wrapped("\n\n".join(part.strip("\n") for part in parts) + "\n")


def facts(run: Run, findings: Findings) -> str:
    base = f"digest `{run.base_digest[:DIGITS]}`" if run.base_digest else "digest not given"
    lines = [
        f"{run.date}, commit {commit_words(run.commit, DIGITS)}",
        f"model `{run.model}`, {base}, fingerprint of its answers to fixed prompts "
        f"`{run.base_fingerprint[:DIGITS]}`",
        "subjects, as the server attests them: "
        + "; ".join(f"`{subject.name}` is `{subject.applied}`" for subject in run.subjects),
        "settings: " + ", ".join(f"{name} {value}" for name, value in findings.settings.items()),
        *(f"judge, {name}: {judge_words(about)}" for name, about in findings.judge.items()),
    ]
    return "\n".join(f"- {line}" for line in lines)


def judge_words(about: Mapping[str, Any]) -> str:
    """Hashes shortened."""
    return ", ".join(
        f"{key} `{value[:DIGITS]}`" if "sha256" in key else f"{key} {value}"
        for key, value in about.items()
    )


def present(findings: Findings, cells: Sequence[Mapping[str, Bounded]]) -> list[str]:
    return [name for name in findings.columns if any(name in found for found in cells)]


def numbers(one: Measured) -> dict[str, Bounded]:
    return {**one.shares(), **one.means()}


def shares_table(findings: Findings) -> str:
    cells = [numbers(one) for one in findings.measured]
    names = present(findings, cells)
    rows = [["set", "subject", "n", "errors", *(findings.columns[name] for name in names)]]
    for one, found in in_set_order(list(zip(findings.measured, cells, strict=True))):
        texts = [
            in_words(one, name, found[name]) if name in found and one.ids else "" for name in names
        ]
        rows.append([one.set, one.subject, str(len(one.ids)), str(one.num_errors), *texts])
    return markdown_table(rows)


def differences_table(findings: Findings) -> str:
    pairs = [(one, base_of(findings.measured, one, findings.base)) for one in findings.measured]
    cells = [(one, differences(base, one)) for one, base in pairs if base is not None]
    names = present(findings, [found for _, found in cells])
    if not cells:
        return ""
    rows = [["set", "subject", *(findings.columns[name] for name in names)]]
    for one, found in in_set_order(cells):
        texts = [in_gains(one, name, found[name]) if name in found else "" for name in names]
        rows.append([one.set, one.subject, *texts])
    return markdown_table(rows)


def in_set_order(pairs: Sequence[tuple[Measured, Any]]) -> list[tuple[Measured, Any]]:
    """Set by set, its subjects beside each other."""
    order = list(dict.fromkeys(one.set for one, _ in pairs))
    return sorted(pairs, key=lambda pair: order.index(pair[0].set))


def in_words(one: Measured, name: str, value: Bounded) -> str:
    if name in one.flags:
        return percent(value, end="")
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def in_gains(one: Measured, name: str, value: Bounded) -> str:
    if name in one.flags:
        return points(value)
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def data_table(findings: Findings) -> str:
    rows = [["file", "SHA-256", "licence", "source"]]
    for loaded in findings.data:
        about = loaded.about
        note = "" if loaded.is_as_published else " **not the published bytes**"
        if not about.sha256:
            note = " not checked"
        licence = f"{about.licence} (NC)" if about.is_nc else about.licence
        rows.append([about.file, f"`{loaded.sha256[:DIGITS]}`{note}", licence, about.source])
    return markdown_table(rows)
