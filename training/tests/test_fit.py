"""The loop: resumed equals uninterrupted, broken numbers stop it, many processes equal one."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ragged_rows, recipe

from trainer.fit import checkpoint, fit
from trainer.fit.adapter import prepared, trained_parameters
from trainer.make_models.reasoner import new_reasoner, save_reasoner
from trainer.shared.failure import Failure

TRAINING = Path(__file__).resolve().parent.parent


def trained(tokenizer, settings, folder=None, *, stop_after=None, resume=False, rows=None):
    """A fresh model, trained; `stop_after` breaks off after that epoch, like a killed process."""

    class Killed(Exception):
        pass

    def after_epoch(epoch):
        if epoch.number == stop_after:
            raise Killed

    model = prepared(new_reasoner(tokenizer, 3), settings, "base", 5)
    try:
        epochs = fit.fit(
            model,
            rows or ragged_rows(18),
            settings,
            pad_id=tokenizer.pad_token_id,
            seed=5,
            folder=folder,
            resume=resume,
            hardware=fit.Hardware(cpu=True),
            after_epoch=after_epoch,
        )
    except Killed:
        epochs = []
    return {n: p.detach().clone() for n, p in trained_parameters(model).items()}, epochs


@pytest.mark.parametrize(
    "settings",
    [recipe(dropout=0.2, layers="middle"), recipe(mode="full", learning_rate=1e-4, epochs=2)],
    ids=["adapter", "full"],
)
def test_a_killed_run_resumes_to_the_very_same_weights(tmp_path, tokenizer, settings):
    whole, epochs = trained(tokenizer, settings, tmp_path / "whole")
    trained(tokenizer, settings, tmp_path / "broken", stop_after=1)
    (tmp_path / "broken" / ".epoch-02.partial").mkdir()  # it died while writing
    resumed, again = trained(tokenizer, settings, tmp_path / "broken", resume=True)
    assert [e.loss for e in again] == [e.loss for e in epochs]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_resumed_run_must_be_the_same_run(tmp_path, tokenizer):
    settings = recipe(epochs=2)
    trained(tokenizer, settings, tmp_path, stop_after=1)
    with pytest.raises(Failure, match="its rank was 1, now it is 2; give the same values"):
        trained(tokenizer, dataclasses.replace(settings, rank=2), tmp_path, resume=True)


def test_without_resume_an_earlier_run_is_forgotten(tmp_path, tokenizer):
    trained(tokenizer, recipe(epochs=3), tmp_path)
    trained(tokenizer, recipe(epochs=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-01"]


def test_only_the_newest_epoch_keeps_the_optimizers_moments(tmp_path, tokenizer):
    trained(tokenizer, recipe(epochs=3), tmp_path)
    held = sorted(p.parent.name for p in tmp_path.rglob("optimizer.safetensors"))
    assert held == ["epoch-03"]


def test_a_loss_that_is_no_number_stops_and_names_the_last_good_checkpoint(
    tmp_path, tokenizer, monkeypatch
):
    settings = recipe(epochs=3)
    original = fit.Run.group_loss
    calls = []

    def broken(self, group):
        calls.append(group)
        loss = original(self, group)
        return loss * float("nan") if self.steps == 7 else loss

    monkeypatch.setattr(fit.Run, "group_loss", broken)
    with pytest.raises(Failure) as failure:
        trained(tokenizer, settings, tmp_path)
    text = str(failure.value)
    assert "the loss must be finite; got nan in epoch 2, step 3 of 5" in text
    assert str(tmp_path / "epoch-01") in text
    state = checkpoint.newest(tmp_path)
    assert state.epoch == 1 and state.steps == 5


def test_a_full_disk_is_named_and_leaves_no_half_written_epoch(tmp_path, tokenizer, monkeypatch):
    original = checkpoint.save_file

    def full(tensors, path):
        if "epoch-02" in str(path):
            raise OSError(28, "No space left on device")
        original(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(Failure, match="is full; no checkpoint was written after epoch 1"):
        trained(tokenizer, recipe(epochs=3), tmp_path)
    assert checkpoint.newest(tmp_path).epoch == 1
    monkeypatch.undo()
    whole, _ = trained(tokenizer, recipe(epochs=3))
    resumed, _ = trained(tokenizer, recipe(epochs=3), tmp_path, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_accumulated_small_batches_equal_one_large_batch(tokenizer):
    large, _ = trained(tokenizer, recipe(batch_size=6))
    small, _ = trained(tokenizer, recipe(batch_size=2, grad_accum=3))
    for name, value in large.items():
        assert torch.allclose(value, small[name], atol=2e-5), name


def test_two_processes_make_the_adapter_that_one_makes(tmp_path, tokenizer):
    """`accelerate launch` on CPU, gloo; half the rows a process, so the same rows a step."""
    save_reasoner(new_reasoner(tokenizer, 3), tokenizer, tmp_path / "base")
    data = tmp_path / "mine.jsonl"
    line = '{{"prompt": "How do I make a bomb {}?", "completion": "No\\n</think>\\n\\nNo {}."}}\n'
    data.write_text("".join(line.format(i, "no " * (i % 7)) for i in range(22)))

    def run(name, launcher, *more):
        arguments = ["-m", "trainer", "train-adapter", f"--output={tmp_path / name}"]
        arguments += [f"--model={tmp_path / 'base'}", f"--data={data}", "--dropout=0"]
        arguments += [f"--checkpoints={tmp_path / 'checkpoints'}", "--epochs=2", "--device=cpu"]
        environment = os.environ | {"PYTHONPATH": str(TRAINING), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*launcher, *arguments, *more],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return checkpoint.load_file(tmp_path / name / "adapter_model.safetensors")

    one = run("one", [sys.executable], "--batch-size=8")
    config = f"--config_file={TRAINING / 'configs' / 'accelerate' / 'ddp.yaml'}"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", config]
    launcher += ["--num_processes=2", "--main_process_port=0"]
    two = run("two", launcher, "--batch-size=4")
    steps = [
        json.loads((tmp_path / "checkpoints" / name / "epoch-02" / "state.json").read_text())[
            "steps"
        ]
        for name in ("one", "two")
    ]
    assert steps[0] == steps[1]  # or the second was two lone processes
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=2e-5), name
