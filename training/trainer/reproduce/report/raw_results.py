"""The numbers of a report as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trainer.reproduce.findings.claims import Decision
from trainer.reproduce.findings.results import MEASURES, Results
from trainer.reproduce.jobs.job import Settings


def raw(
    results: Results,
    decisions: Sequence[Decision],
    settings: Settings,
    sessions: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> dict[str, Any]:
    def estimates(stage: Any) -> dict[str, Any]:
        return {measure: asdict(stage.estimate(measure)) for measure in MEASURES}

    return {
        "settings": asdict(settings),
        **facts,
        "sessions": list(sessions),
        "base": estimates(results.base),
        "claims": [
            {
                "figure": d.claim.figure,
                "claim": d.claim.statement,
                "verdict": d.verdict,
                "findings": [asdict(finding) for finding in d.findings],
            }
            for d in decisions
        ],
        "configurations": {
            name: {
                "label": curve.configuration.label,
                "rate": curve.rate,
                "strict_rule": asdict(curve.strict),
                "swept": {f"{s.rate:g}": s.validation_loss for s in curve.swept},
                "training_loss": {str(k): v for k, v in curve.losses.items()},
                "epochs": {str(k): estimates(stage) for k, stage in curve.stages.items()},
                "frontier_area_by_seed": curve.areas(),
                "pass_at_1": {str(k): asdict(v) for k, v in curve.pass_at_1.items()},
                "orthomerge": [
                    {"mode": m.mode, "k": m.k, "strength": m.strength} | estimates(m.stage)
                    for m in curve.merges
                ],
                "seconds": round(curve.seconds, 1),
                "failures": list(curve.failures),
            }
            for name, curve in results.curves.items()
        },
    }
