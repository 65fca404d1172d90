"""The README.md of a guard, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.publish.provenance import provenance_rows
from trainer.shared.markdown import command_block, markdown_table, wrapped

HOW = (
    "A verdict is one token, `guard.token`, behind the text with this adapter on it; the text's "
    "keys and values are those of whatever the request runs with, its carrier. P(unsafe) is the "
    "sigmoid of the unsafe logit minus the safe one, over the temperature. The threshold is that "
    "which 1 % of safe verdicts on validation reach, 0.5 at least; the temperature is 1 at least. "
    "Carriers are merged weights in float32."
)
READING = (
    "Brackets hold 95 % intervals of the AUROC (Hanley and McNeil); verdicts of one text are not "
    "independent, so the true uncertainty is larger. F1, true and false positives are at the "
    "part's threshold, and at the carrier's own where parts are pooled; TPR at 1 % FPR is at the "
    "threshold that fits the table's own texts. ECE is over ten bins, after the temperature."
)
NONE = "-"
COLUMNS = ("n", "unsafe", "AUROC", "F1", "TPR", "FPR", "TPR at 1 % FPR", "ECE")


def guard_card(name: str, manifest: Mapping[str, Any], command: str) -> str:
    guard, held_out = manifest["guard"], manifest["held_out"]
    first = guard["carriers"][0]["name"]
    report = held_out[first]
    parts = [
        f"---\nlibrary_name: peft\nbase_model: {manifest['base_model']}\nlicense: apache-2.0\n---",
        f"# {name}",
        manifest["description"],
        recipe_words(manifest),
        command_block(command),
        f"## How it is read\n\n{HOW}",
        f"## By carrier\n\nHeld-out texts of all sources and parts. {READING}",
        table("carrier", {name: held_out[name]["all"] for name in held_out}),
        carriers_by_part(held_out),
        f"## By source and part, on {first}",
        table("source, part", by_source(report)),
        f"## By category, on {first}",
        table("category", report["categories"]),
        f"## By tokens of the part that were read, on {first}",
        table("part, tokens", by_length(report)),
        probe_section(guard["probe"], held_out),
        f"## Provenance\n\n{provenance_table(manifest)}",
    ]
    return wrapped("\n\n".join(part for part in parts if part) + "\n")


def recipe_words(manifest: Mapping[str, Any]) -> str:
    config, count = manifest["config"], manifest["num_texts"]
    modules = ", ".join(f"`{name}`" for name in config["modules"])
    return (
        f"Rank {config['rank']} on {modules}, alpha {config['alpha']}; AdamW "
        f"{config['learning_rate']:g} with linear decay, weight decay {config['weight_decay']:g}, "
        f"batch {config['batch_size']}, {config['epochs']} epochs; {manifest['data']}; "
        f"{count['train']} texts to train, {count['validation']} to calibrate, {count['test']} "
        f"held out; seed {manifest['seed']}; {manifest['minutes']:.1f} minutes."
    )


def cells(scores: Mapping[str, Any]) -> list[str]:
    def number(key: str) -> str:
        return NONE if scores[key] is None else f"{scores[key]:.3f}"

    area = number("auroc")
    if scores["auroc"] is not None:
        area += f" [{scores['low']:.3f}, {scores['high']:.3f}]"
    return [
        str(scores["n"]), str(scores["unsafe"]), area, number("f1"),
        number("true_positive_rate"), number("false_positive_rate"), number("tpr_at_1_fpr"),
        number("ece"),
    ]  # fmt: skip


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    return markdown_table([[title, *COLUMNS], *([name, *cells(row)] for name, row in rows.items())])


def carriers_by_part(held_out: Mapping[str, Any]) -> str:
    parts = list(next(iter(held_out.values()))["parts"])

    def area(report: Mapping[str, Any], part: str) -> str:
        value = report["parts"].get(part, {}).get("auroc")
        return NONE if value is None else f"{value:.3f}"

    rows = [[name, *(area(report, part) for part in parts)] for name, report in held_out.items()]
    return markdown_table([["AUROC", *parts], *rows])


def by_source(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{source}, {part}": scores
        for source, parts in report["sources"].items()
        for part, scores in parts.items()
    }


def by_length(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{part}, {length}": scores
        for part, lengths in report["lengths"].items()
        for length, scores in lengths.items()
    }


def probe_section(probe: Mapping[str, Any], held_out: Mapping[str, Any]) -> str:
    rows = [["carrier", "verdict", "probe"]]
    for name, area in probe["carriers"].items():
        verdict = held_out[name]["all"]["auroc"]
        rows.append([name, *(NONE if a is None else f"{a:.3f}" for a in (verdict, area))])
    return (
        f"## The probe\n\n`probe.safetensors`: a direction of layer {probe['layer']} (from 0), "
        f"site `{probe['site']}`, by logistic regression on the training texts. Its layer was "
        "chosen on validation. AUROC over the same held-out verdicts:\n\n" + markdown_table(rows)
    )


def provenance_table(manifest: Mapping[str, Any]) -> str:
    return markdown_table(provenance_rows(manifest))
