"""The run's diary: log.jsonl for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from dualpath.engine.state import Position
from dualpath.errors import DualPathError
from dualpath.files import parse_json, write_whole

LOG = "log.jsonl"
_FIGURES = ("epoch", "loss", "lr", "clips_per_s", "seconds", "waited", "val_top1")
"""What is read from it as a number."""


class Log:
    """Writes one line a step and one an epoch. On resuming, lines after the resumed position are dropped first.

    Every line is on the disk when its method returns; DualPathError if it cannot be (no space).
    """

    def __init__(self, folder: Path, *, resumed: Position) -> None:
        self._path = folder / LOG
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines(keepends=True) if _is_before(line, resumed)]
            write_whole(self._path, "".join(kept))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a")
            self._board = _Board(folder / "tensorboard", resumed_step=resumed.step)
        except OSError as problem:
            raise self._unwritable(problem) from problem
        self._last: float | None = None
        self._speed = 0.0

    def step(
        self,
        position: Position,
        *,
        loss: float,
        lr: float,
        clips: int,
        steps_an_epoch: int,
        seconds: float = 0.0,
        waited: float = 0.0,
    ) -> float:
        """Logs an optimizer step and returns the smoothed speed in clips a second.

        Args:
            position: after the step.
            loss: its mean.
            lr: its learning rate.
            clips: its effective batch.
            steps_an_epoch: of the run.
            seconds: what the step took.
            waited: how many of them it waited for clips.
        """
        now = time.monotonic()
        if self._last is not None:
            speed = clips / max(now - self._last, 1e-9)
            self._speed = speed if self._speed == 0 else 0.9 * self._speed + 0.1 * speed
        self._last = now
        epoch = 1 + (position.step - 1) // steps_an_epoch
        line = {"step": position.step, "epoch": epoch, "loss": loss, "lr": lr, "clips_per_s": round(self._speed, 2)}
        line |= {"seconds": round(seconds, 5), "waited": round(waited, 5)}
        self._write(line, {f"train/{name}": line[name] for name in ("loss", "lr", "clips_per_s")})
        return self._speed

    def skipped(self, position: Position, *, name: str, reason: str) -> None:
        """Logs a video that could not be read."""
        self._write({"step": position.step, "skipped": name, "reason": reason}, {})

    def epoch(self, position: Position, results: dict[str, Any]) -> None:
        """Logs the figures of a finished epoch."""
        told = {name: value for name, value in results.items() if name.startswith("val_") and isinstance(value, float)}
        line = {"step": position.step, "seconds": round(position.seconds, 2)} | results
        self._write(line, {f"val/{name.removeprefix('val_')}": value for name, value in told.items()})
        self._last = None  # the validation's time is not the training's

    def close(self) -> None:
        """Closes both; what could not be written was told before."""
        for file in (self._file, self._board):
            with suppress(OSError):
                file.close()

    def _write(self, line: dict[str, Any], scalars: dict[str, float]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._board.add(scalars, line["step"])
        except OSError as problem:
            raise self._unwritable(problem) from problem

    def _unwritable(self, problem: OSError) -> DualPathError:
        return DualPathError(
            f"{self._path} could not be written ({problem.strerror or problem}); make room and continue with --resume"
        )


class _Board:
    """A TensorBoard event file, written at once: torch's SummaryWriter fails in a thread of its own, too late to tell."""

    def __init__(self, folder: Path, *, resumed_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resumed_step:  # what an interrupted session wrote from there on is void
            start = SessionLog(status=SessionLog.SessionStatus.START)
            self._put(Event(wall_time=time.time(), step=resumed_step + 1, session_log=start))

    def add(self, scalars: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._put(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _put(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def read_log(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(lines of steps, lines of epochs) of a run's log; a last line that was cut off by a kill does not count.

    Raises:
        ValueError: a line that no run writes.
    """
    text = (folder / LOG).read_text()
    lines = [_line(number, line) for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1)]
    return [line for line in lines if "loss" in line], [line for line in lines if "epoch" in line and "loss" not in line]


def _line(number: int, text: str) -> dict[str, Any]:
    line = parse_json(text)
    if not isinstance(line, dict) or not isinstance(line.get("step"), int) or line["step"] < 0:
        raise ValueError(f"line {number} tells no step")
    if odd := [name for name in _FIGURES if not isinstance(line.get(name, 0), int | float)]:
        raise ValueError(f"line {number} has a {odd[0]} that is no number")
    return line


def _is_before(text: str, position: Position) -> bool:
    try:
        line = json.loads(text)
        if "skipped" in line:
            return line["step"] < position.step
        return line["step"] <= position.step if "loss" in line else line["epoch"] <= position.closed
    except (json.JSONDecodeError, KeyError):
        return False  # a line cut off by a kill
