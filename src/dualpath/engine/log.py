"""The run's diary: log.jsonl for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from dualpath.engine.state import Position
from dualpath.files import write_whole

LOG = "log.jsonl"


class Log:
    """Writes one line a step and one an epoch. On resuming, lines after the resumed step are dropped first."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        path = folder / LOG
        if path.exists():
            kept = [line for line in path.read_text().splitlines(keepends=True) if _step_of(line) <= after_step]
            write_whole(path, "".join(kept))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after_step + 1 if after_step else None)
        self._last: float | None = None
        self._speed = 0.0

    def step(self, position: Position, *, loss: float, lr: float, clips: int, steps_an_epoch: int) -> float:
        """Logs an optimizer step and returns the smoothed speed in clips a second."""
        now = time.monotonic()
        if self._last is not None:
            speed = clips / max(now - self._last, 1e-9)
            self._speed = speed if self._speed == 0 else 0.9 * self._speed + 0.1 * speed
        self._last = now
        epoch = 1 + (position.step - 1) // steps_an_epoch
        line = {"step": position.step, "epoch": epoch, "loss": loss, "lr": lr, "clips_per_s": round(self._speed, 2)}
        self._write(line)
        for name in ("loss", "lr", "clips_per_s"):
            self._board.add_scalar(f"train/{name}", line[name], position.step)
        return self._speed

    def epoch(self, position: Position, results: dict[str, Any]) -> None:
        """Logs the figures of a finished epoch."""
        self._write({"step": position.step, "seconds": round(position.seconds, 2)} | results)
        for name, value in results.items():
            if name.startswith("val_") and isinstance(value, float):
                self._board.add_scalar(f"val/{name.removeprefix('val_')}", value, position.step)
        self._last = None  # the validation's time is not the training's

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_log(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(lines of steps, lines of epochs) of a run's log."""
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "loss" not in line]


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # a line cut off by a kill
