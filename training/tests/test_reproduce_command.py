"""The command's flags, and a report of points that are there already."""

from pathlib import Path

import pytest
from made_up import all_points

from trainer.cli import build_parser
from trainer.reproduce import command
from trainer.reproduce.jobs import grid
from trainer.reproduce.jobs.job import Settings
from trainer.reproduce.jobs.points import write_point
from trainer.reproduce.numbers.choice import TOLERANCE
from trainer.shared.failure import Failure

MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny-reasoner"
REPRODUCE = command.reproduce  # as it is outside the fixture


@pytest.fixture
def options(monkeypatch):
    """What a command line comes to; nothing is run."""
    found = []

    def of(*flags):
        monkeypatch.setattr(command, "reproduce", found.append)
        arguments = build_parser().parse_args(["reproduce", "--model", str(MODEL), *flags])
        command.run(arguments, ["reproduce", *flags])
        return found[-1]

    return of


def test_without_flags_it_is_the_full_grid_into_docs(options):
    full = options()
    assert full.output == Path("docs/reproduction")
    assert (full.figures, full.seeds, full.tolerance) == (None, 3, TOLERANCE)
    settings = command.settings_of(full)
    assert settings == Settings(settings.base_digest, merges=grid.merge_variants(2))


def test_quick_has_fewer_of_everything_and_a_folder_of_its_own(options):
    quick = options("--quick")
    assert quick.output == Path("docs/reproduction/quick")
    assert (quick.figures, quick.seeds) == (grid.QUICK, 2)
    full, less = command.settings_of(options()), command.settings_of(quick)
    assert less.rates < full.rates
    assert len(less.seeds) < len(full.seeds)
    assert all(few < many for (_, few), (_, many) in zip(less.exam, full.exam, strict=True))


def test_a_tolerance_of_0_is_taken_and_one_that_is_no_tolerance_is_refused(options, capsys):
    assert command.settings_of(options("--tolerance", "0")).tolerance == 0
    for bad in ("-0.01", "nan", "much"):
        with pytest.raises(SystemExit):
            options(f"--tolerance={bad}")
        assert "--tolerance" in capsys.readouterr().err


def test_a_report_alone_needs_points_of_the_same_settings(options, tmp_path):
    arguments = options("--report-only", "--only", "fig1", "--output", str(tmp_path))
    with pytest.raises(Failure, match="which has none of them"):
        REPRODUCE(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_report_alone_is_written_from_the_points_and_trains_nothing(
    options, tmp_path, monkeypatch
):
    arguments = options(
        "--quick", "--report-only", "--only", "fig7", "--seeds", "1", "--output", str(tmp_path)
    )
    entries = grid.chosen_configurations(grid.chosen_figures(("fig7",)))
    for found in all_points(entries, command.settings_of(arguments)).values():
        write_point(found, tmp_path)

    def refuse(*_, **__):
        raise AssertionError("training was started")

    monkeypatch.setattr(command, "process_pool", refuse)
    REPRODUCE(arguments)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    # One seed has no interval in what no prompts are involved in.
    assert "**undecided**" in text
