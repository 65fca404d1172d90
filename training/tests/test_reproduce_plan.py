"""Which jobs follow from which points: sweep, final, samples; and what decides a job's key."""

from dataclasses import replace

from made_up import SETTINGS, all_points, point

from trainer.reproduce.jobs import plan
from trainer.reproduce.jobs.grid import CONFIGURATIONS, chosen_configurations, chosen_figures
from trainer.reproduce.jobs.job import EpochPoint, point_of

UP, FULL = CONFIGURATIONS["up-r1"], CONFIGURATIONS["full"]


def done(points, jobs):
    return points | {job.key: point(job) for job in jobs}


def kinds(jobs):
    return [(job.kind, job.configuration) for job in jobs]


def test_a_fresh_grid_begins_with_the_base_its_samples_and_the_sweeps_on_the_first_seed():
    jobs = plan.open_jobs([UP, FULL], SETTINGS, {})
    sweeps = [("sweep", "up-r1")] * 3 + [("sweep", "full")] * 3
    assert kinds(jobs) == [("base", "base"), ("sample", "base"), *sweeps]
    assert {job.seed for job in jobs if job.kind == "sweep"} == {1}
    assert [job.recipe.learning_rate for job in jobs[2:5]] == [3e-4, 1e-3, 3e-3]


def test_finals_wait_for_the_whole_sweep_and_samples_for_all_finals():
    points = done({}, plan.open_jobs([UP], SETTINGS, {}))
    # All three rates are within the tolerance: the choice is on the edge, one more rate is swept.
    (beyond,) = plan.open_jobs([UP], SETTINGS, points)
    assert (beyond.kind, beyond.recipe.learning_rate) == ("sweep", 1e-4)
    points = done(points, [beyond])
    finals = plan.open_jobs([UP], SETTINGS, points)
    assert [(job.kind, job.seed) for job in finals] == [("final", 1), ("final", 2), ("final", 3)]
    assert {job.recipe.learning_rate for job in finals} == {1e-4}
    assert kinds(plan.open_jobs([UP], SETTINGS, done(points, finals[:2]))) == [("final", "up-r1")]
    samples = plan.open_jobs([UP], SETTINGS, done(points, finals))
    assert {job.kind for job in samples} == {"sample"}
    assert {job.seed for job in samples} == {1, 2, 3}
    assert plan.open_jobs([UP], SETTINGS, all_points([UP])) == []


def test_only_frontier_epochs_are_sampled():
    points = all_points([UP])
    finals = [points[job.key] for job in plan.final_jobs(UP, SETTINGS, points)]
    # Safety rises over the epochs and reasoning falls: all three are on the frontier.
    assert plan.frontier_epochs(finals) == [1, 2, 3]
    flat = [
        replace(run, epochs=tuple(replace(e, exam=run.epochs[-1].exam) for e in run.epochs))
        for run in finals
    ]
    assert plan.frontier_epochs(flat) == [1]


def test_a_seed_that_failed_is_not_sampled():
    points = all_points([UP])
    finals = plan.final_jobs(UP, SETTINGS, points)
    points[finals[1].key] = point_of(finals[1], seconds={}, failed="the loss is nan")
    assert {job.seed for job in plan.sample_jobs(UP, SETTINGS, points)} == {1, 3}


def test_a_sweep_whose_runs_all_failed_goes_on_at_the_lowest_rate():
    jobs = [job for job in plan.open_jobs([UP], SETTINGS, {}) if job.kind == "sweep"]
    points = {job.key: point_of(job, seconds={}, failed="the loss is nan") for job in jobs}
    assert plan.rate_of(UP, SETTINGS, points) is None  # one below the edge is still to come
    (beyond,) = [job for job in plan.open_jobs([UP], SETTINGS, points) if job.kind == "sweep"]
    points[beyond.key] = point_of(beyond, seconds={}, failed="the loss is nan")
    assert plan.rate_of(UP, SETTINGS, points) == 1e-4


def test_the_tolerance_changes_the_choice_and_no_sweep_point():
    points = all_points([UP])
    strict = replace(SETTINGS, tolerance=0.0)
    (beyond,) = [j for j in plan.open_jobs([UP], strict, points) if j.kind == "sweep"]
    assert beyond.recipe.learning_rate == 1e-2
    points = done(points, [beyond])
    assert plan.rate_of(UP, strict, points) == 1e-2
    assert plan.rate_of(UP, SETTINGS, points) == 1e-4


def test_configurations_that_figures_share_are_trained_once():
    figures = chosen_figures(("fig2", "fig3", "fig4", "fig5"))
    jobs = plan.open_jobs(chosen_configurations(figures), SETTINGS, {})
    assert len({job.key for job in jobs}) == len(jobs)
    assert sum(job.configuration == "mlp-r1" for job in jobs) == SETTINGS.rates


def test_the_last_epoch_sits_the_exam_though_the_settings_do_not_name_it():
    final = plan.training_job("final", UP, 1e-3, 1, SETTINGS)
    assert final.evaluated == (1, 2, 3)
    assert plan.training_job("sweep", UP, 1e-3, 1, SETTINGS).evaluated == (3,)


def test_orthomerge_is_measured_on_finals_of_the_configurations_that_have_it():
    assert plan.training_job("final", UP, 1e-3, 1, SETTINGS).merges == SETTINGS.merges
    assert plan.training_job("sweep", UP, 1e-3, 1, SETTINGS).merges == ()
    assert plan.training_job("final", FULL, 1e-3, 1, SETTINGS).merges == ()


def test_a_key_depends_on_all_that_decides_the_numbers_and_not_on_the_name():
    job = plan.training_job("final", UP, 1e-3, 1, SETTINGS)
    assert replace(job, configuration="another name").key == job.key
    changes = {
        "kind": "sweep",
        "recipe": UP.recipe(3e-3),
        "retain": 0.5,
        "seed": 2,
        "refusals": 7,
        "validation": 7,
        "evaluated": (1,),
        "exam": (("fact", 3),),
        "exam_seed": 7,
        "samples": 1,
        "merges": (),
        "base_digest": "another",
    }
    keys = {replace(job, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {job.key}) == len(changes) + 1
    assert set(changes) == set(job.__dataclass_fields__) - {"configuration"}


def test_what_is_measured_does_not_change_which_weights_are_meant():
    job = plan.training_job("final", UP, 1e-3, 1, SETTINGS)
    assert plan.sample_job(UP, job, 2, SETTINGS).training_key == job.training_key
    assert replace(job, seed=2).training_key != job.training_key


def test_the_expected_cost_is_that_of_all_jobs_once_they_can_be_named():
    points = all_points([UP, FULL])
    total = sum(job.cost for job in plan.all_jobs([UP, FULL], SETTINGS, points))
    assert plan.expected_cost([UP, FULL], SETTINGS, points) == total
    assert plan.expected_cost([UP, FULL], SETTINGS, {}) > 0


def test_the_validation_loss_of_a_run_is_its_lowest_number():
    job = plan.training_job("sweep", UP, 1e-3, 1, SETTINGS)

    def loss(*losses, **more):
        epochs = tuple(EpochPoint(i, 1.0, value) for i, value in enumerate(losses, 1))
        return point_of(job, seconds={}, epochs=epochs, **more).validation_loss

    assert loss(0.5, 0.2, 0.3) == 0.2
    assert loss(float("nan"), 0.2) == 0.2
    assert loss(float("nan")) is None
    assert loss() is None
    assert loss(0.2, failed="the loss is nan") is None
