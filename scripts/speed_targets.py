"""The numbers that were asked of speed and memory, as data, and whether a machine's results reach them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualpath.errors import DualPathError
from dualpath.report.speed import is_ceiling, measured_from, share_of_ceiling
from dualpath.speed.turns import Measured, ratio

FP32, AUTOCAST = "the authors' way, fp32", "the authors' way, autocast"


@dataclass(frozen=True)
class Target:
    """A number to reach.

    Attributes:
        device: where: cpu or cuda.
        what: in words.
        figure: speed over `over`; share of the ceiling; memory in GB a clip; leaner: memory of `over` over its own.
        row: the candidate's label, or several of which the first that was measured counts.
        asked: at least, of memory at most.
        over: the other candidate's, in the same way.
        dtype: the type in which `over`, or the row where nothing is over it, is to compute; empty for any.
    """

    device: Literal["cpu", "cuda"]
    what: str
    figure: Literal["speed", "share", "memory", "leaner"]
    row: str | tuple[str, ...]
    asked: float
    over: str | tuple[str, ...] = ""
    dtype: str = ""


INFER, TRAIN = "dualpath, inference", "dualpath, training"
INT8, BF16 = "dualpath, int8, inference", "dualpath, bf16, inference"
AGAIN, BF16_AGAIN = "dualpath, checkpointing, training", "dualpath, bf16, checkpointing, training"
PEERS = ("VideoMAE-B, 16 frames", "TimeSformer-B, 8 frames", "V-JEPA 2 L, 16 frames")
TARGETS = (
    Target("cpu", "inference over the authors' way in fp32", "speed", INFER, 4.2, f"{FP32}, inference"),
    Target("cpu", "inference over the authors' way in autocast", "speed", INFER, 12, f"{AUTOCAST}, inference"),
    Target("cpu", "inference, of the ceiling", "share", INFER, 0.80),
    Target("cpu", "a training step over the authors' way in autocast", "speed", TRAIN, 1.8, f"{AUTOCAST}, training"),
    Target("cpu", "a training step, of the ceiling", "share", TRAIN, 0.65),
    Target("cpu", "training memory a clip, in bf16", "memory", ("dualpath, bf16, training", TRAIN), 0.42, dtype="bfloat16"),
    Target("cpu", "training memory a clip with checkpointing, in bf16", "memory", (BF16_AGAIN, AGAIN), 0.12, dtype="bfloat16"),
    Target("cpu", "training memory a clip, as it is by default", "memory", TRAIN, 0.42),
    Target("cpu", "training memory a clip with checkpointing, as it is by default", "memory", AGAIN, 0.12),
    Target("cpu", "inference in int8 over ours in bf16", "speed", INT8, 1.4, (BF16, INFER), dtype="bfloat16"),
    Target("cpu", "inference in int8 over ours as it is by default", "speed", INT8, 1.4, INFER),
    Target("cpu", "inference in int8 over the authors' way in fp32", "speed", INT8, 4.2, f"{FP32}, inference"),
    Target("cpu", "inference in int8 over the authors' way in autocast", "speed", INT8, 12, f"{AUTOCAST}, inference"),
    *(Target("cpu", f"inference over {peer}", "speed", INFER, 1, f"{peer}, inference") for peer in PEERS),
    Target("cuda", "inference over the authors' way in autocast", "speed", INFER, 2, f"{AUTOCAST}, inference"),
    Target("cuda", "inference, of the ceiling", "share", INFER, 0.60),
    Target("cuda", "a training step over the authors' way in autocast", "speed", TRAIN, 1.6, f"{AUTOCAST}, training"),
    Target("cuda", "a training step, of the ceiling", "share", TRAIN, 0.45),
    Target("cuda", "training memory of the authors' way over ours", "leaner", TRAIN, 2, f"{AUTOCAST}, training"),
    *(Target("cuda", f"inference over {peer}", "speed", INFER, 1, f"{peer}, inference") for peer in PEERS),
)


@dataclass(frozen=True)
class Machine:
    """The results of one folder.

    Attributes:
        name: of the folder.
        told: models.json.
        rows: all that was measured, by label.
        growth: scaling.json; None where it is not there.
    """

    name: str
    told: Mapping[str, Any]
    rows: Mapping[str, Measured]
    growth: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """cpu or cuda, in the candidates' words."""
        return next((one.device.split(":")[0] for one in self.rows.values() if one.device), "cpu")

    def good(self, label: str | tuple[str, ...], dtype: str = "") -> Measured | None:
        """What was measured under a label, or the first of several, in this type or in any, if it was."""
        rows = [self.rows[one] for one in ((label,) if isinstance(label, str) else label) if one in self.rows]
        return next((row for row in rows if not row.problem and dtype in ("", row.dtype)), None)

    def shown(self, group: str) -> list[Measured]:
        """The rows of a table."""
        return [one for one in self.rows.values() if one.candidate.group == group and not is_ceiling(one)]


def read_machine(folder: Path) -> Machine:
    """Reads a folder of results.

    Raises:
        DualPathError: a file is not what the benchmarks write.
    """
    told = _read(folder / "models.json")
    try:
        found = measured_from(told)
    except DualPathError as problem:
        raise DualPathError(f"{folder / 'models.json'}: {problem}") from problem
    growth = folder / "scaling.json"
    rows = {one.candidate.label: one for one in found}
    return Machine(folder.name, told, rows, _read(growth) if growth.is_file() else None)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise DualPathError(f"{path} cannot be read ({problem}); make it anew with the benchmark that writes it") from problem


def times(slow: Measured | None, fast: Measured | None) -> float | None:
    """How many times faster, round by round; None where they did not take turns."""
    if slow is None or fast is None or len(slow.rounds) != len(fast.rounds):
        return None
    return ratio(slow, fast)


def value_of(target: Target, machine: Machine) -> float | None:
    """What was reached; None where it was not measured."""
    one, other = machine.good(target.row, "" if target.over else target.dtype), machine.good(target.over, target.dtype)
    if one is None:
        return None
    if target.figure == "speed":
        return times(other, one)
    if target.figure == "share":
        return share_of_ceiling(one, dict(machine.rows))
    if target.figure == "memory":
        return one.clip_gb
    return other.clip_gb / one.clip_gb if other is not None and other.clip_gb and one.clip_gb else None


def sentence(target: Target, machine: Machine) -> str:
    """Whether a target is reached, with both numbers."""
    value = value_of(target, machine)
    least = "at most" if target.figure == "memory" else "at least"
    asked = f"{least} {_number(target, target.asked)}"
    if value is None:
        return f"- not measured: {target.what} (asked: {asked})"
    reached = value <= target.asked if target.figure == "memory" else value >= target.asked
    return f"- {'reached' if reached else '**not reached**'}: {target.what}: {_number(target, value)} (asked: {asked})"


def _number(target: Target, value: float) -> str:
    if target.figure == "share":
        return f"{100 * value:.0f} %"
    return f"{value:.2f} GB" if target.figure == "memory" else f"{value:.2f} x"
