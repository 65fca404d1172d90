"""A grid worked through by a fake of training: stopped, resumed, with files on disk."""

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
from made_up import SETTINGS, all_points, point

from trainer.reproduce.jobs.grid import CONFIGURATIONS
from trainer.reproduce.jobs.points import read_points, write_point
from trainer.reproduce.jobs.runner import work_through
from trainer.shared.failure import Failure

ENTRIES = [CONFIGURATIONS["up-r1"], CONFIGURATIONS["full"]]


class Stopped(BaseException):
    """As Ctrl-C."""


class FakePool:
    """Trains at once, in this process; the call after `stop_after` ends the run."""

    def __init__(self, stop_after=None):
        self.jobs, self.stop_after = [], stop_after

    def submit(self, job):
        if len(self.jobs) == self.stop_after:
            raise Stopped
        self.jobs.append(job)
        future = Future()
        future.set_result(point(job))
        return future


def run(folder, pool, workers=1, points=None):
    known = read_points(folder) if points is None else points
    return work_through(ENTRIES, SETTINGS, known, folder, pool, workers=workers)


def test_a_run_does_every_job_once_and_leaves_every_point_on_disk(tmp_path):
    pool = FakePool()
    points = run(tmp_path, pool, workers=3)
    assert points.keys() == all_points(ENTRIES).keys()
    assert len(pool.jobs) == len(points)
    assert read_points(tmp_path) == points
    assert [path.name for path in tmp_path.iterdir()] == ["points.jsonl"]


def test_a_stopped_run_goes_on_with_what_is_missing_and_ends_with_the_same_points(tmp_path):
    stopped, resumed = FakePool(stop_after=7), FakePool()
    with pytest.raises(Stopped):
        run(tmp_path, stopped)
    assert len(read_points(tmp_path)) == 7
    points = run(tmp_path, resumed)
    assert points == all_points(ENTRIES)
    assert {job.key for job in stopped.jobs}.isdisjoint(job.key for job in resumed.jobs)
    again = FakePool()
    assert run(tmp_path, again) == points
    assert again.jobs == []


def test_the_file_is_the_same_whatever_the_order_in_which_jobs_ended(tmp_path):
    points = list(all_points(ENTRIES).values())
    for name, order in (("one", points), ("other", points[::-1])):
        for found in order:
            write_point(found, tmp_path / name)
    one, other = (tmp_path / name / "points.jsonl" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    keys = [json.loads(line)["key"] for line in one.read_text().splitlines()]
    assert sorted(keys) == sorted(point.key for point in points)


def test_points_of_other_settings_are_not_taken(tmp_path):
    for found in all_points(ENTRIES, replace(SETTINGS, base_digest="another base")).values():
        write_point(found, tmp_path)
    pool = FakePool()
    run(tmp_path, pool)
    assert {job.key for job in pool.jobs} == all_points(ENTRIES).keys()


def test_a_file_half_written_by_a_killed_run_is_no_point(tmp_path):
    run(tmp_path, FakePool())
    (tmp_path / ".points.jsonl.partial").write_text("{", encoding="utf-8")
    assert read_points(tmp_path) == all_points(ENTRIES)


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", "{}", '{"kind": "final"}'],
    ids=["empty", "cut off", "a list", "no fields", "few fields"],
)
def test_a_line_that_is_no_point_is_named(tmp_path, broken):
    run(tmp_path, FakePool())
    with (tmp_path / "points.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{broken}\n")
    number = len(all_points(ENTRIES)) + 1
    with pytest.raises(Failure, match=rf"points\.jsonl, line {number} .*delete it"):
        read_points(tmp_path)


def test_a_point_with_a_field_of_another_version_is_named(tmp_path):
    (found,) = [p for p in all_points(ENTRIES).values() if p.kind == "base"]
    write_point(found, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"judge": 1}), encoding="utf-8")
    with pytest.raises(Failure, match=r"unknown fields.*judge"):
        read_points(tmp_path)


def test_a_worker_that_dies_is_reported_with_its_job_and_loses_no_finished_point(tmp_path):
    class Dying(FakePool):
        def submit(self, job):
            if job.kind != "final":
                return super().submit(job)
            future = Future()
            future.set_exception(BrokenProcessPool("killed"))
            return future

    with pytest.raises(Failure, match=r"final of up-r1, seed 1.*run the same command again"):
        run(tmp_path, Dying())
    assert {p.kind for p in read_points(tmp_path).values()} == {"base", "sample", "sweep"}
