"""`dualpath bench`: methods of the library on one backbone, at inference and in training, beside the chip's ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dualpath.errors import DualPathError
from dualpath.hardware import Precision
from dualpath.settings import MOST_WORKERS, check_fields
from dualpath.speed.turns import Candidate

Mode = Literal["inference", "training", "both"]


@dataclass(frozen=True)
class SpeedConfig:
    """What is measured, and how long.

    Attributes:
        mode: inference, training or both.
        batch_size: clips at a time.
        num_classes: outputs of the classifier.
        precision: auto, bf16, fp32 or int8: how frozen weights are stored and the model computes.
        compiled: torch.compile beside the plain way, at inference.
        rounds: each candidate has so many turns.
        seconds: a turn takes about so long.
        threads: of each process; 0 leaves it to torch.
    """

    mode: Mode = "both"
    batch_size: int = 1
    num_classes: int = 400
    precision: Precision = "auto"
    compiled: bool = False
    rounds: int = 3
    seconds: float = 3.0
    threads: int = 0

    def __post_init__(self) -> None:
        check_fields(self, threads=MOST_WORKERS)
        for name, least in (("batch_size", 1), ("num_classes", 2), ("rounds", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be at least {least}")
        if self.seconds <= 0:
            raise DualPathError(f"seconds is {self.seconds}, but it must be a number above 0")
        if self.compiled and self.mode == "training":
            raise DualPathError("compiled has no effect on a training; leave it out, or measure inference too")


def candidates_of(entries: Mapping[str, Mapping[str, Any]], config: SpeedConfig) -> list[Candidate]:
    """A candidate for each entry and each way of computing it.

    Args:
        entries: {"method": name, any setting that a run can be told} by label.
        config: which ways.
    """
    common = {"num_classes": config.num_classes, "batch_size": config.batch_size, "precision": config.precision}
    found = []
    for mode in ("inference", "training"):
        if config.mode not in (mode, "both"):
            continue
        for label, settings in entries.items():
            given = common | {"settings": dict(settings)}
            name = f"{label}, {mode}" if config.mode == "both" else label
            mixed = config.precision == "int8" and mode == "training"  # its products have no type in common, so no ceiling
            found.append(Candidate(name, f"dualpath.speed.ours:{mode}", given, group=mode, ceiling=not mixed))
            if config.compiled and mode == "inference":
                given = given | {"compiled": True}
                found.append(Candidate(f"{name}, compiled", "dualpath.speed.ours:inference", given, group=mode))
    return found
