"""A new run that begins with the trained tensors of a checkpoint: `train --init_from CHECKPOINT`, for other data or classes.

checkpoint --read_warm_start--> WarmStart --complete---> settings: its method, its options, its backbone
                                          --load_into--> model: all its tensors; of the last layer, the rows of those
                                                         classes that it knows by name, the others stay as drawn
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dualpath.engine.checkpoint import (
    CONFIG,
    WEIGHTS,
    ModelSpec,
    find_checkpoint,
    load_trained,
    read_config,
    read_spec,
    read_tensors,
)
from dualpath.engine.config import RunConfig
from dualpath.errors import DualPathError
from dualpath.methods import class_tensors, trained_state
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig

INIT_FROM = "init_from"
"""The setting that stands for the checkpoint: a hash."""
MOST_NAMES = 8
_ADVICE = "or train without --init_from"


@dataclass(frozen=True)
class WarmStart:
    """The checkpoint that a new run begins with.

    Attributes:
        folder: the checkpoint's.
        spec: what its model is made of.
        sha256: of the file with its trained tensors.
        backbone_sha256: of its backbone's weights, see `Backbone.hash`.
        size: side of its pictures in pixels.
        mean, std: of their colours, values 0..1.
    """

    folder: Path
    spec: ModelSpec
    sha256: str
    backbone_sha256: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def flag_defaults(self) -> dict[str, Any]:
        """What the flags stand for that are not given: the checkpoint's method options, backbone and sampling."""
        return asdict(self.spec.options) | asdict(self.spec.backbone) | asdict(self.spec.sampling)

    def check_method(self, method: str) -> None:
        """Raises DualPathError unless it is the checkpoint's."""
        if method != self.spec.method:
            raise DualPathError(
                f"{self.folder} is a checkpoint of the method {self.spec.method}, but {method} is to be trained; "
                f"leave out --method, {_ADVICE}"
            )

    def complete(self, config: RunConfig) -> RunConfig:
        """The settings with the checkpoint's method options where there are none.

        Raises:
            DualPathError: the settings have another method, other options of it, or the name or architecture of another
                backbone.
        """
        self.check_method(config.method)
        config = replace(config, options=config.options or self.spec.options)
        ours, theirs = asdict(self.spec.options), asdict(config.options)  # pyright: ignore[reportArgumentType]
        changed = [name for name in ours if ours[name] != theirs[name]]
        if changed:
            detail = ", ".join(f"{name} was {ours[name]!r}, now {theirs[name]!r}" for name in changed[:3])
            raise DualPathError(
                f"{self.folder} was trained with other options of {config.method} ({detail}); leave them out, {_ADVICE}"
            )
        before, now = (_named(backbone) for backbone in (self.spec.backbone, config.backbone))
        if before != now:
            raise DualPathError(
                f"{self.folder} was trained on the backbone {before}, now it is {now}; "
                f"leave out --backbone and --model_args, {_ADVICE}"
            )
        return config

    def check_backbone(self, backbone: Backbone) -> None:
        """Raises DualPathError unless its pictures and its weights (if it has any) are those of the checkpoint's backbone."""
        if backbone.size != self.size:
            raise DualPathError(
                f"{self.folder} was trained on {backbone.name} with pictures of {self.size} pixels, now they have "
                f"{backbone.size}; leave out --image_size, {_ADVICE}"
            )
        if backbone.hash not in ("", self.backbone_sha256):
            raise DualPathError(
                f"{self.folder} was trained on {backbone.name} with weights {self.backbone_sha256[:12]}, now it has weights "
                f"{backbone.hash[:12]}; give the original file with --weights FILE, {_ADVICE}"
            )

    def load_into(self, model: nn.Module, classes: Sequence[str]) -> None:
        """Copies the checkpoint's tensors into a fresh model of the same method, options and backbone.

        Args:
            model: on the CPU; rows of its last layer for classes that the checkpoint does not have stay as they are.
            classes: names, whose index is the label.

        Raises:
            DualPathError: a tensor is damaged, missing, left over or of another shape.
        """
        tensors, fresh = read_tensors(self.folder, self.sha256), trained_state(model)
        old_labels = {name: label for label, name in enumerate(self.spec.classes)}
        pairs = [(label, old_labels[name]) for label, name in enumerate(classes) if name in old_labels]
        labels, old = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
        for name in class_tensors(model):
            if name in tensors and tensors[name].shape == (len(old_labels), *fresh[name].shape[1:]):
                tensors[name] = fresh[name].index_copy(0, labels, tensors[name][old])
        load_trained(model, tensors, source=str(self.folder / WEIGHTS))

    def record(self, classes: Sequence[str]) -> dict[str, Any]:
        """For run.json: the checkpoint, and whose rows of the last layer are copied or new."""
        copied = [name for name in classes if name in self.spec.classes]
        fresh = [name for name in classes if name not in self.spec.classes]
        return {"path": str(self.folder), "sha256": self.sha256, "classes_copied": copied, "classes_new": fresh}

    def describe(self, classes: Sequence[str]) -> str:
        """The same as a line of text."""
        record = self.record(classes)
        copied, fresh = record["classes_copied"], record["classes_new"]
        names = ", ".join(fresh[:MOST_NAMES]) + (f" and {len(fresh) - MOST_NAMES} more" if len(fresh) > MOST_NAMES else "")
        return (
            f"init_from  {self.folder}: all trained tensors are copied, of the last layer the rows of {len(copied)} of "
            f"{len(classes)} classes" + (f"; new classes: {names}" if fresh else "")
        )


def read_warm_start(path: str | Path) -> WarmStart:
    """The checkpoint in `path`: its own folder, or a run's.

    Raises:
        DualPathError: there is none, or a damaged one.
    """
    folder = find_checkpoint(path)
    config = read_config(folder)
    pictures = config["preprocessing"]
    if not isinstance(pictures.get("size"), int) or not isinstance(config.get("sha256"), str):
        raise DualPathError(f"{folder / CONFIG} is damaged (no size or no sha256); restore it or train again")
    return WarmStart(
        folder=folder,
        spec=read_spec(folder, config),
        sha256=config["sha256"],
        backbone_sha256=config["backbone"]["sha256"],
        size=pictures["size"],
        mean=tuple(pictures["mean"]),
        std=tuple(pictures["std"]),
    )


def warm_start_settings(start: WarmStart | None) -> dict[str, str | None]:
    """What --resume compares, whatever the checkpoint's path is."""
    return {INIT_FROM: None if start is None else f"sha256 {start.sha256[:16]}"}


def _named(backbone: BackboneConfig) -> str:
    return backbone.backbone + (f" with {backbone.model_args}" if backbone.model_args else "")
