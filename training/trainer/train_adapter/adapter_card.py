"""The README.md of an adapter, or of a fully tuned model, from its manifest."""

from __future__ import annotations

from typing import Any

from trainer.measure.table import (
    DEFINITION,
    INDEPENDENCE,
    differences_table,
    results_table,
    saved_differences,
    saved_shares,
)
from trainer.publish.provenance import provenance_rows
from trainer.shared.interval import Share, percent
from trainer.shared.markdown import command_block, markdown_table, wrapped

NOT_MEASURES = ("epoch", "loss")  # of a row of the manifest's `validation`


def adapter_card(name: str, manifest: dict[str, Any], command: str, digest: str | None) -> str:
    """`digest` is what the server names the adapter by; a fully tuned model has none."""
    config, exam = manifest["config"], manifest["exam"]
    parts = [
        f"---\nlibrary_name: peft\nbase_model: {manifest['base_model']}\nlicense: apache-2.0\n---",
        f"# {name}",
        manifest["description"],
        f"{recipe_words(config)}; {manifest['data']}; seed {manifest['seed']}; epoch "
        f"{manifest['epoch']} of {config['epochs']}, {manifest['chosen_by']}; "
        f"{manifest['minutes']:.1f} minutes, examination included.",
        command_block(command),
        f"## Epochs\n\n{epochs_table(manifest)}",
    ]
    if exam is not None:
        parts += [
            f"## Held-out results\n\nSplit `{exam['split']}`, exam seed {exam['seed']}, greedy, "
            f"the same prompts for base and adapter. {DEFINITION} {INDEPENDENCE}",
            results_table(saved_shares(manifest["results"])),
            differences_table(saved_differences(manifest["results"])),
        ]
    if manifest["strength"] is not None:
        parts.append(strength_section(manifest["strength"]))
    parts.append(provenance_section(manifest, digest))
    return wrapped("\n\n".join(parts) + "\n")


def epochs_table(manifest: dict[str, Any]) -> str:
    names = [name for name in manifest["validation"][0] if name not in NOT_MEASURES]
    rows = [["epoch", "training loss", *(name.replace("_", " ") for name in names), ""]]
    for entry in manifest["validation"]:
        values = [f"{entry[name]:.3f}" for name in names]
        mark = "chosen" if entry["epoch"] == manifest["epoch"] else ""
        rows.append([str(entry["epoch"]), f"{entry['loss']:.4f}", *values, mark])
    return markdown_table(rows)


def recipe_words(config: dict[str, Any]) -> str:
    how = (
        f"AdamW {config['learning_rate']:g} with linear decay, weight decay "
        f"{config['weight_decay']:g}, batch {config['batch_size'] * config['grad_accum']} a process"
    )
    if config["mode"] == "full":
        return f"All weights; {how}"
    layers = config["layers"] if config["layers"] == "all" else f"{config['layers']} of the"
    modules = ", ".join(f"`{module}`" for module in config["target_modules"])
    reg = "" if config["reg"] == "none" else f", reg-{config['reg']} with beta {config['beta']:g}"
    return (
        f"Rank {config['rank']} on {modules}, {layers} layers, alpha {config['alpha']:g}, dropout "
        f"{config['dropout']:g}{reg}; {how}"
    )


def strength_section(choice: dict[str, Any]) -> str:
    names = list(choice["rows"][0]["shares"])
    table = [["strength", "n", *(name.replace("_", " ") for name in names), ""]]
    for row in choice["rows"]:
        shares = {name: Share(**row["shares"][name]) for name in names}
        counts = "/".join(str(n) for n in sorted({share.n for share in shares.values()}))
        mark = "recommended" if row["strength"] == choice["chosen"] else ""
        table.append(
            [f"{row['strength']:g}", counts, *(percent(shares[name]) for name in names), mark]
        )
    return (
        f"## Recommended strength\n\n{choice['chosen']:g}, chosen on the validation set: "
        f"{choice['rule']}. Strength 0 is the base.\n\n{markdown_table(table)}"
    )


def provenance_section(manifest: dict[str, Any], digest: str | None) -> str:
    return f"## Provenance\n\n{markdown_table(provenance_rows(manifest, digest))}"
