"""One folder an epoch, from which a run goes on: weights, AdamW's moments, what was run.

    epoch-03/  PEFT's two files, or a whole model
               optimizer.safetensors   <name>/exp_avg, <name>/exp_avg_sq
               state.json              epoch, steps, losses, and the run's fingerprint

A folder is written beside and renamed: it is whole or it is not there. Random numbers need no
saving, since every epoch seeds its own. Only the newest epoch keeps its moments.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainer.shared.failure import Failure
from trainer.shared.io import read_json, write_json

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class State:
    epoch: int
    steps: int  # of the optimizer, so far
    losses: list[float]  # mean training loss of each epoch
    seconds: list[float]
    fingerprint: dict[str, Any]  # recipe, seed, data and base: a resumed run must agree


def folder_of(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:02d}"


def save(
    folder: Path,
    state: State,
    save_weights: Callable[[Path], None],
    moments: dict[str, Tensor],
) -> Path:
    final = folder_of(folder, state.epoch)
    partial = folder / f".{final.name}.partial"
    with room_on_disk(folder, state.epoch - 1):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_weights(partial)
        save_file(moments, partial / "optimizer.safetensors")
        write_json(partial / "state.json", asdict(state))
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
    (folder_of(folder, state.epoch - 1) / "optimizer.safetensors").unlink(missing_ok=True)
    return final


@contextmanager
def room_on_disk(folder: Path, last_epoch: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # safetensors wraps the system's error in one of its own.
        is_full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if not is_full:
            raise
        last = folder_of(folder, last_epoch)
        kept = f"{last} is whole" if last_epoch else "there was none before"
        raise Failure(
            f"the disk that holds {folder} is full; no checkpoint was written after epoch "
            f"{last_epoch}, {kept}; free some space and run the same command with --resume"
        ) from error


def newest(folder: Path) -> State | None:
    """What the last whole checkpoint says."""
    found = sorted(
        (int(m[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (m := re.fullmatch(r"epoch-(\d+)", path.name))
        and (path / "optimizer.safetensors").is_file()
    )
    return State(**read_json(found[-1][1] / "state.json")) if found else None


def check_same_run(state: State, fingerprint: dict[str, Any], folder: Path) -> None:
    for name, value in fingerprint.items():
        before = state.fingerprint.get(name)
        if before != value:
            raise Failure(
                f"--resume must go on with the run in {folder}; its {name} was {before}, now it is "
                f"{value}; give the same values, or leave --resume out to start again"
            )


def clear(folder: Path) -> None:
    """Removes the epochs of an earlier run; nothing else that lies there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(r"epoch-\d+|\.epoch-\d+\.partial", path.name):
            shutil.rmtree(path)


# --- AdamW's moments by parameter name ------------------------------------------------------------


def moments_of(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    return {
        f"{name}/{moment}": optimizer.state[p][moment].detach().cpu().contiguous()
        for name, p in parameters.items()
        for moment in MOMENTS
    }


def restore_moments(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    path: Path,
    steps: int,
) -> None:
    saved = load_file(path)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {"step": torch.tensor(float(steps))} | {
            moment: saved[f"{name}/{moment}"].to(parameter.device) for moment in MOMENTS
        }


def load_weights(folder: Path, parameters: dict[str, nn.Parameter]) -> None:
    """The weights of one epoch's folder, PEFT's or a whole model's, into `parameters`."""
    saved: dict[str, Tensor] = {}
    for path in folder.glob("*model*.safetensors"):
        saved |= load_file(path)
    restore_weights(parameters, saved)


def restore_weights(parameters: dict[str, nn.Parameter], saved: dict[str, Tensor]) -> None:
    """`saved` may name a LoRA tensor as PEFT's file does, without the adapter's name."""
    for name, parameter in parameters.items():
        key = name if name in saved else name.replace(".default.", ".")
        with torch.no_grad():
            parameter.copy_(saved[key])
