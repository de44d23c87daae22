"""Starts one of several runs in a child, follows it, hands signals on to it, and says what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dualpath.engine.log import LOG
from dualpath.engine.one_run import Job
from dualpath.errors import DualPathError, Interrupted
from dualpath.processes import STOPS, child_command, stops_heard

LOOK_SECONDS = 0.25
TAIL = 4096  # bytes of a log or of a child's output that are looked at


def run_in_child(job: Job, output: Path, *, progress: Callable[[int, float | None], None]) -> None:
    """Returns when the run is finished.

    Args:
        job: what to do.
        output: the folder of all runs, to name it.
        progress: is told (steps done, last loss) now and then.

    Raises:
        DualPathError: the run failed for a reason that the user can mend.
        Interrupted: a signal to stop; the child has left its state behind.
        RuntimeError: an error of ours; the child's output is named.
    """
    told = job.folder.with_name(f"{job.folder.name}.txt")
    told.parent.mkdir(parents=True, exist_ok=True)
    with told.open("ab") as file:
        # In a session of its own: Ctrl-C reaches this process alone, which hands it on once.
        child = subprocess.Popen(
            child_command("dualpath.engine.one_run:main"),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            with _handing_on(child) as asked:
                assert child.stdin is not None
                child.stdin.write(job.to_json().encode() + b"\n")
                child.stdin.flush()  # and it stays open: its end would say that this process has died
                code = None
                while code is None:
                    try:
                        code = child.wait(LOOK_SECONDS)
                    except subprocess.TimeoutExpired:
                        progress(*last_step(job.folder))
        finally:
            child.kill()
            child.wait()
            if child.stdin is not None:
                child.stdin.close()
    if asked:
        raise Interrupted(asked[0], output, last_step(job.folder)[0])
    if code:
        _explain(code, job, told, output)


@contextmanager
def _handing_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Signals to stop go to the child, which finishes its step and saves its state; gives those that came."""
    asked: list[int] = []

    def hand_on(signum: int, frame: FrameType | None) -> None:
        del frame
        asked.append(signum)
        child.send_signal(signum)

    before = {number: signal.signal(number, hand_on) for number in stops_heard()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_step(folder: Path) -> tuple[int, float | None]:
    """(steps done, loss of the last) of a run that may be under way; (0, None) before the first."""
    for line in reversed(_tail(folder / LOG).splitlines()):
        try:
            found = json.loads(line)
        except json.JSONDecodeError:  # cut off at either end
            continue
        if isinstance(found, dict) and "loss" in found:
            return int(found["step"]), float(found["loss"])
    return 0, None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _explain(code: int, job: Job, told: Path, output: Path) -> None:
    if code == 2:
        raise DualPathError(
            f"{job.name}: {_tail(told).rpartition('dualpath: ')[2].strip()}; the other runs are kept in {output}"
        )
    number = -code if code < 0 else code - 128
    if number in STOPS:
        raise Interrupted(number, output, last_step(job.folder)[0])
    if code < 0:
        raise DualPathError(
            f"{job.name} was ended from outside or crashed ({signal.Signals(-code).name}); look at the memory and at {told}, "
            "--resume continues it"
        )
    raise RuntimeError(f"{job.name} failed with exit code {code}; its output is in {told}:\n{_tail(told)}")
