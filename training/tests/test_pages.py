"""Committed pages: each is what its generator makes of the committed data, and names an adapter as
the server does."""

import json
import re
from pathlib import Path

import pytest

from trainer.guard.card import guard_card
from trainer.make_models.reasoner_card import reasoner_card
from trainer.make_models.stages import read_stages
from trainer.recipes.ship import card as real_model_card
from trainer.redteam.attacks import all_attacks
from trainer.redteam.report import page
from trainer.redteam.rows import RowFile
from trainer.shared.markdown import WIDTH, wrapped
from trainer.train_adapter.adapter_card import adapter_card
from trainer.weights.lora_folder import adapter_digest

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = sorted(path.parent for path in ROOT.glob("adapters/*/adapter_config.json"))
RED_TEAMS = sorted(ROOT.glob("docs/redteam/*/redteam.json"))
REPORTS = [ROOT / "docs" / "reproduction", ROOT / "docs" / "reproduction" / "quick"]
PAGES = [
    ROOT / "models" / "tiny-reasoner" / "README.md",
    *(folder / "README.md" for folder in (*ADAPTERS, *REPORTS)),
    *(path.parent / "README.md" for path in RED_TEAMS),
    *sorted(ROOT.glob("training/speed/results/*/latest.md")),
    ROOT / "training" / "README.md",
]
HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{12,64}(?![0-9a-f])")


def named(path):
    return path.relative_to(ROOT).as_posix()


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def command_of(card):
    """The command of a card, as it was typed."""
    (block,) = re.findall(r"^```sh\n(.*?)\n```$", card, flags=re.M | re.S)
    return re.sub(r" \\\n  ", " ", block)


def without_code(text):
    """Its prose and headings: no fenced code, tables or front matter."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [line for line in text.splitlines() if not line.startswith("|")]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_no_line_of_prose_is_longer_than_the_width(path):
    text = path.read_text(encoding="utf-8")
    assert [line for line in without_code(text) if len(line) > WIDTH] == []


@pytest.mark.parametrize("path", PAGES[:-1], ids=named)
def test_a_generated_page_is_wrapped_as_its_generator_does(path):
    text = path.read_text(encoding="utf-8")
    assert wrapped(text) == text


@pytest.mark.parametrize("folder", ADAPTERS, ids=named)
def test_an_adapters_card_is_made_of_its_manifest_and_names_the_servers_digest(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    digest, manifest = adapter_digest(folder), read(folder / "manifest.json")
    if manifest.get("kind") == "guard":
        assert guard_card(folder.name, manifest, command_of(card)) == card
        return
    made_by = real_model_card if "screened" in manifest else adapter_card
    assert made_by(folder.name, manifest, command_of(card), digest) == card
    assert f"`{digest}`" in card


def test_the_checkpoints_card_is_made_of_its_results_and_the_stages():
    folder = ROOT / "models" / "tiny-reasoner"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert reasoner_card(read(folder / "results.json"), list(read_stages().values())) == card


@pytest.mark.parametrize("path", RED_TEAMS, ids=named)
def test_a_red_teams_page_is_made_of_its_rows_and_names_the_servers_digest(path):
    file = RowFile.saved(path)
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    assert page(all_attacks(file.settings["seed"]), file) == text
    digest = adapter_digest(ROOT / file.settings["adapter"])
    assert file.settings["adapter_digest"] == digest
    assert f"adapter `{digest[:12]}`" in text
    assert (
        file.settings["base_digest"]
        == read(ROOT / file.settings["adapter"] / "manifest.json")["base_digest"]
    )


@pytest.mark.parametrize("path", RED_TEAMS, ids=named)
def test_a_red_team_of_changed_sources_says_so(path):
    file = RowFile.saved(path)
    file.about = file.about | {"commit": file.about["commit"] + "+changes"}
    assert re.search(r"commit\s+`[0-9a-f]{12}`\s+with\s+changes", page(all_attacks(1), file))


def test_whatever_stands_after_the_word_adapter_in_a_page_is_the_digest_of_one():
    """So that a reply of the server and a page can be matched, by at least 12 digits."""
    digests = {adapter_digest(folder) for folder in ADAPTERS}
    for path in PAGES:
        for found in re.finditer(r"adapter(?: digest)?[^`\n|]{0,40}[|\s]+`([0-9a-f]{12,64})`",
                                 path.read_text(encoding="utf-8")):  # fmt: skip
            name = found[1]
            assert any(digest.startswith(name) for digest in digests), f"{path.name}: {name}"


def test_no_page_names_a_tensor_files_own_hash():
    """A second name for the same adapter, which no reply of the server has."""
    from trainer.shared.gguf_folder import file_sha256

    hashes = [file_sha256(folder / "adapter_model.safetensors") for folder in ADAPTERS]
    files = [*PAGES, *RED_TEAMS, *(folder / "manifest.json" for folder in ADAPTERS)]
    for path in files:
        names = HEX.findall(path.read_text(encoding="utf-8"))
        assert not [n for n in names for found in hashes if found.startswith(n)], path.name
