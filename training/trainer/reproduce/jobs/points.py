"""The finished jobs of a report on disk: points.jsonl, a point a line, in one order.

The file is written anew after each job and renamed over the old one, so a killed run leaves every
point that it finished, and the published file is the one that a later run goes on from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from trainer.reproduce.jobs.job import EpochPoint, MergePoint, ModuleShape, Point
from trainer.shared.failure import Failure
from trainer.shared.io import write_whole

FILE = "points.jsonl"


def read_points(folder: Path) -> dict[str, Point]:
    """Key -> point. A line that is no point is named, not skipped."""
    path = folder / FILE
    points = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            point = parse_point(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise Failure(
                f"a point must be a JSON object that reproduce wrote; got {path.name}, line "
                f"{number} ({error}); delete it and run again"
            ) from error
        points[point.key] = point
    return points


def write_point(point: Point, folder: Path) -> None:
    """Beside the points that are there, of whatever settings; over the one of the same key."""
    points = read_points(folder) | {point.key: point}
    lines = (as_line(points[key]) for key in sorted(points, key=lambda key: order(points[key])))
    write_whole(folder / FILE, "".join(lines))


def order(point: Point) -> tuple[str, str, str]:
    return point.kind, point.configuration, point.key


def as_line(point: Point) -> str:
    return json.dumps(asdict(point), separators=(",", ":")) + "\n"


def parse_point(value: dict[str, Any]) -> Point:
    unknown = set(value) - {entry.name for entry in fields(Point)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    found = dict(value)
    found["epochs"] = tuple(EpochPoint(**epoch) for epoch in value["epochs"])
    found["merges"] = tuple(
        MergePoint(**(merge | {"overlap": tuple(merge["overlap"])})) for merge in value["merges"]
    )
    found["structure"] = tuple(
        ModuleShape(**(shape | {"overlap": tuple(shape["overlap"])}))
        for shape in value["structure"]
    )
    found["samples"] = tuple(value["samples"])
    return Point(**found)
