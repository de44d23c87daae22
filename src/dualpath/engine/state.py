"""Where a run stands, in one file: trained tensors, optimizer moments and counters. Written whole, never pickled.

Everything random is a pure function of (seed, epoch, sample), so there is no generator to save, and a resumed run
equals one that was never interrupted, also from the middle of an epoch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from dualpath.engine.checkpoint import load_trained
from dualpath.errors import DualPathError
from dualpath.files import write_whole
from dualpath.methods import trained_state

STATE = "training_state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Position:
    """Counters of a run.

    Attributes:
        step: optimizer steps done.
        epoch: epoch that the next step belongs to, from 0.
        batch: loader batches of that epoch already used.
        best: best validation top-1 so far; -1 before the first.
        seconds: time spent in training so far, over all sessions.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = -1.0
    seconds: float = 0.0


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, run: str) -> None:
    """Writes training_state.safetensors; `run` is a text that must be equal on resuming (the run's settings)."""
    tensors = {}
    for name, value in trained_state(model).items():
        tensors[f"model.{name}"] = value
    for name, parameter in _trained(model).items():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    metadata = {"position": json.dumps(asdict(position)), "run": run}
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(folder / STATE, tensors_to_bytes(flat, metadata=metadata))


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: str) -> Position:
    """Brings model and optimizer back to where they were.

    Raises:
        DualPathError: no state, a damaged one, or one of a run with other settings.
    """
    path = folder / STATE
    if not path.is_file():
        raise DualPathError(f"nothing to resume: {path} is missing; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        position = Position(**json.loads(metadata["position"]))
        saved_run = json.loads(metadata["run"])
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as problem:
        raise DualPathError(f"{path} is damaged ({problem}); train again into another folder") from problem
    wanted_run = json.loads(run)
    if saved_run != wanted_run:
        changed = [key for key in wanted_run if saved_run.get(key) != wanted_run[key]]
        detail = ", ".join(f"{key} was {saved_run.get(key)!r}, now {wanted_run[key]!r}" for key in changed[:3])
        raise DualPathError(
            f"{folder} holds a run with other settings ({detail}); resume with the same ones, or train into another folder"
        )
    load_trained(
        model,
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")},
        source=str(path),
    )
    for name, parameter in _trained(model).items():
        if position.step and f"{_MOMENTS[0]}.{name}" in tensors:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(position.step)),
                **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS},
            }
    return position


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
