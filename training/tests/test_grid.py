"""The grid against the paper's lists, written out here a second time from its appendix."""

import pytest

from trainer.reproduce.jobs.grid import (
    CONFIGURATIONS,
    FIGURES,
    QUICK,
    chosen_configurations,
    chosen_figures,
    merge_variants,
)
from trainer.shared.failure import Failure
from trainer.shared.recipe import ATTENTION, MLP


def of(figure):
    return [CONFIGURATIONS[name] for name in FIGURES[figure].configurations]


def test_every_recipe_has_the_papers_alpha_dropout_weight_decay_and_epochs():
    for entry in CONFIGURATIONS.values():
        recipe = entry.recipe(1e-3)
        assert (recipe.alpha, recipe.dropout, recipe.weight_decay) == (16.0, 0.05, 1e-4)
        assert recipe.epochs == (5 if entry.mode == "full" else 10)
        assert recipe.beta == 1.0


def test_figures_1_and_7_compare_full_fine_tuning_with_rank_4_on_attention_and_mlp():
    for name in ("fig1", "fig7"):
        full, lora = of(name)
        assert full.mode == "full"
        assert (lora.mode, lora.rank, lora.modules) == ("lora", 4, (*ATTENTION, *MLP))


def test_figure_2_compares_full_fine_tuning_with_rank_1_on_the_mlp():
    full, lora = of("fig2")
    assert full.mode == "full"
    assert (lora.mode, lora.rank, lora.modules, lora.layers) == ("lora", 1, MLP, "all")


def test_figure_3_has_ranks_1_4_8_16_64_on_the_mlp_and_full():
    *ranks, full = of("fig3")
    assert [entry.rank for entry in ranks] == [1, 4, 8, 16, 64]
    assert {entry.modules for entry in ranks} == {MLP}
    assert full.mode == "full"


def test_figures_4_and_5_vary_the_modules_at_rank_1():
    assert [entry.modules for entry in of("fig4")] == [(*ATTENTION, *MLP), MLP]
    modules = [("gate_proj",), ("up_proj",), ("down_proj",)]
    assert [entry.modules for entry in of("fig5")] == [MLP, *modules]
    assert {entry.rank for name in ("fig4", "fig5") for entry in of(name)} == {1}


def test_figure_6_varies_the_layers_of_up_proj():
    assert [entry.layers for entry in of("fig6")] == ["early", "middle", "late", "all"]
    assert {(entry.rank, entry.modules) for entry in of("fig6")} == {(1, ("up_proj",))}


def test_figure_8_regularises_and_projects_the_best_recipe_and_the_one_of_figure_7():
    families = {(entry.rank, entry.modules) for entry in of("fig8")}
    assert families == {(1, ("up_proj",)), (4, (*ATTENTION, *MLP))}
    for family in families:
        members = [entry for entry in of("fig8") if (entry.rank, entry.modules) == family]
        assert [entry.reg for entry in members] == ["none", "col", "both"]
        assert [entry.has_merges for entry in members] == [True, False, False]


def test_orthomerge_sweeps_the_papers_strengths_at_its_share_of_the_space_and_shows_its_k():
    variants = merge_variants(2)
    both = [strength for mode, k, strength in variants if (mode, k) == ("both", 2)]
    assert both == [1.0, 1.15, 1.2, 1.25, 1.75]
    assert ("col", 2, 1.0) in variants
    assert {mode for mode, k, _ in variants if k == 64} == {"col", "both"}


def test_the_retention_figure_mixes_in_0_a_quarter_a_half_and_1():
    assert [entry.retain for entry in of("retention")] == [0.0, 0.25, 0.5, 1.0]


def test_no_two_configurations_train_the_same():
    seen = {(entry.recipe(1e-3), entry.retain) for entry in CONFIGURATIONS.values()}
    assert len(seen) == len(CONFIGURATIONS)


def test_every_figure_names_configurations_that_exist_and_every_one_is_in_a_figure():
    named = {name for figure in FIGURES.values() for name in figure.configurations}
    assert named == set(CONFIGURATIONS)


def test_a_configuration_that_two_figures_share_is_chosen_once():
    chosen = chosen_configurations(chosen_figures(QUICK))
    names = [entry.name for entry in chosen]
    assert names.count("mlp-r1") == 1
    assert set(names) == {name for figure in QUICK for name in FIGURES[figure].configurations}


def test_an_unknown_figure_is_refused_by_name():
    with pytest.raises(Failure, match="got fig12"):
        chosen_figures(("fig2", "fig12"))
