"""Where a run stands, in one file: trained tensors, optimizer moments and counters. Written whole, never pickled.

Everything random is a pure function of (seed, epoch, sample), so there is no generator to save, and a resumed run
equals one that was never interrupted, also from the middle of an epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from dualpath.engine.checkpoint import load_trained
from dualpath.engine.learner import Learner
from dualpath.errors import DualPathError, number_of
from dualpath.files import write_whole
from dualpath.methods import trained_state

STATE = "training_state.safetensors"
DATA = "data"
"""The setting that stands for the videos themselves: a hash."""
EPOCHS = "epochs"
"""The setting that may grow when a run is resumed."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
_DIGEST = "sha256"
"""Of all other metadata, among which is the hash of the tensors: so positions can be read without them."""


@dataclass(frozen=True)
class Position:
    """Counters of a run.

    Attributes:
        step: optimizer steps done.
        epoch: epoch that the next step belongs to, from 0.
        batch: loader batches of that epoch already used.
        closed: epochs whose end is done too: validated, checkpoints written, logged.
        best: best validation top-1 so far; -1 before the first.
        seconds: time spent in training so far, over all sessions.
        idle: steps that were none, because all their videos were unreadable.
        epochs: of the whole run.
        lost: reason by name of the videos that are not touched again: they ended or hung the process that read them.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    closed: int = 0
    best: float = -1.0
    seconds: float = 0.0
    idle: int = 0
    epochs: int = 0
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.closed >= self.epochs


def save_state(folder: Path, learner: Learner, position: Position, run: str) -> None:
    """Writes training_state.safetensors; `run` is a text that must be equal on resuming (the run's settings)."""
    model, optimizer, tensors = learner.model, learner.optimizer, {}
    for name, value in trained_state(model).items():
        tensors[f"model.{name}"] = value
    for name, parameter in _trained(model).items():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    metadata = {"position": json.dumps(asdict(position)), "run": run, "rates": json.dumps(learner.rates)}
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata["tensors"] = _hash_tensors(flat)
    metadata[_DIGEST] = _hash_texts(metadata)
    write_whole(folder / STATE, tensors_to_bytes(flat, metadata=metadata))


def read_position(folder: Path) -> tuple[Position, dict[str, Any]]:
    """Where the run in `folder` stands, and its settings, without its tensors.

    Raises:
        DualPathError: no state, or a damaged one.
    """
    state = read_state(folder, tensors=False)
    return state.position, state.settings


_BEFORE = {"damaged": "refuse"}
"""Settings that older runs did not know, and what they did."""


def check_settings(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises DualPathError unless the saved run has all the wanted settings; for its length see `check_epochs`."""
    changed = [key for key in wanted if key != EPOCHS and saved.get(key, _BEFORE.get(key)) != wanted[key]]
    if not changed:
        return
    detail = ", ".join(f"{key} was {saved.get(key)!r}, now {wanted[key]!r}" for key in changed[:3] if key != DATA)
    raise DualPathError(
        f"{folder} holds a run with other settings ({detail or 'other videos, labels or splits'}); "
        "resume with the same ones, or train into another folder"
    )


def check_epochs(folder: Path, position: Position, *, epochs: int) -> None:
    """Raises DualPathError unless a run that is at `position` can go on to `epochs` epochs."""
    if epochs < position.epochs:
        raise DualPathError(
            f"the run in {folder} has {number_of(position.epochs, 'epoch')}, {position.closed} of them done, and cannot be "
            f"shortened to {epochs}; give --epochs {position.epochs} to continue it, or more to make it longer"
        )
    if position.closed >= epochs:
        raise DualPathError(
            f"the run in {folder} is complete ({number_of(epochs, 'epoch')}), nothing to resume; give more "
            "--epochs to make it longer"
        )


def load_state(folder: Path, learner: Learner, run: str) -> Position:
    """Brings model, optimizer and learning rates back to where they were.

    Raises:
        DualPathError: no state, a damaged one, or one of a run with other settings.
    """
    path, model = folder / STATE, learner.model
    state = read_state(folder, tensors=True)
    position, tensors = state.position, state.tensors
    # What went through JSON is compared with what did: there are no tuples in it.
    check_settings(folder, state.settings, json.loads(run))
    if state.rates is not None:
        learner.set_rates(state.rates)
    load_trained(
        model,
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")},
        source=str(path),
    )
    names = {parameter: name for name, parameter in _trained(model).items()}
    numbered = [names[parameter] for group in learner.optimizer.param_groups for parameter in group["params"]]
    step = torch.tensor(float(position.step - position.idle))
    states = {
        number: {"step": step.clone(), **{moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}}
        for number, name in enumerate(numbered)
        if position.step and f"{_MOMENTS[0]}.{name}" in tensors
    }
    # It knows what belongs on the parameters' device: fused, on a GPU, the step too.
    learner.optimizer.load_state_dict(learner.optimizer.state_dict() | {"state": states})
    return position


@dataclass(frozen=True)
class State:
    """What the file holds; `tensors` is empty where they were not asked for."""

    position: Position
    settings: dict[str, Any]
    rates: dict[str, float] | None
    tensors: dict[str, torch.Tensor]


def read_state(folder: Path, *, tensors: bool) -> State:
    """All that the file holds; DualPathError if it is missing or not what was written."""
    path = folder / STATE
    if not path.is_file():
        raise DualPathError(f"nothing to resume: {path} is missing; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.pop(_DIGEST, None) != _hash_texts(metadata):
                raise ValueError("its texts are not those that were written")
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 (no mapping)
        if tensors and metadata["tensors"] != _hash_tensors(found):
            raise ValueError("its tensors are not those that were written")
        rates, settings = json.loads(metadata["rates"]), dict(json.loads(metadata["run"]))
        return State(Position(**json.loads(metadata["position"])), settings, rates, found)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
        raise DualPathError(
            f"{path} is damaged ({problem}) and cannot be resumed; train into another folder, with --init_from "
            f"{folder / 'last'} if that is there"
        ) from problem


def _hash_texts(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()


def _hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
