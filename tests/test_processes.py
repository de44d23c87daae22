"""Children end with their parent, and signals to the group are the parent's business alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from dualpath.cli import main
from dualpath.data.clips import KeyedClips
from dualpath.data.watched import ClipLoader, WorkersLost
from dualpath.engine.state import read_position
from dualpath.processes import STOPS, child_context
from dualpath.terminal import plain_streams
from runs import at_step, flags

TIMEOUT = 120


def hello(pipe: Any) -> None:
    pipe.send("hello")
    pipe.recv()
    pipe.send("still here")


def test_a_child_is_deaf_from_its_first_moment_on() -> None:
    context = child_context()
    ours, theirs = context.Pipe()
    child = context.Process(target=hello, args=(theirs,))
    child.start()
    assert child.pid is not None
    for stop in STOPS:  # at once, while Python is still starting
        os.kill(child.pid, stop)
    assert ours.recv() == "hello"
    for stop in STOPS:
        os.kill(child.pid, stop)
    ours.send("and now?")
    assert ours.recv() == "still here"
    child.join()
    assert child.exitcode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(STOPS)


def test_what_others_call_to_end_a_child_ends_it() -> None:
    context = child_context()
    _, theirs = context.Pipe()
    child = context.Process(target=hello, args=(theirs,))
    child.start()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGKILL


ORPHANS = """
import os, signal, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor

from dualpath.processes import ChildProcess, child_command, child_context

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def starting_worker():
    import numpy, torch
    from dualpath.data.watched import ClipLoader
    original = ChildProcess.start
    def start(self):
        original(self)
        die()
    ChildProcess.start = start
    data = torch.zeros(64, 8)
    next(iter(ClipLoader(data, batches=[[0], [1]], collate=len, workers=1, pin_memory=False, persistent=False, stall=60.0)))

def waiting_pool():
    with ProcessPoolExecutor(1, mp_context=child_context()) as pool:
        assert pool.submit(int, 3).result() == 3
        die()

def hanging_child():
    ours, theirs = child_context().Pipe()
    child_context().Process(target=hang, args=(theirs,)).start()
    ours.recv()
    die()

def hang(pipe):
    import re
    pipe.send("now")
    re.match("(a+)+$", "a" * 60 + "!")  # for years, in which no other thread runs, as in some decoders

class Endless:
    def __reduce__(self):
        return time.sleep, (1000,)

def importing_for_ever():
    child_context().Process(target=print, args=(Endless(),)).start()
    die()

def starting_command():
    subprocess.Popen(child_command("endless:main"), cwd=os.path.dirname(__file__))
    die()

if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("kind", ["starting_worker", "waiting_pool", "hanging_child", "importing_for_ever", "starting_command"])
def test_kill_9_of_the_parent_leaves_nobody(tmp_path: Path, kind: str) -> None:
    """All descendants hold the pipes that `run` reads to their end: it returns when the last one is gone."""
    if kind not in ("starting_worker", "waiting_pool") and sys.platform != "linux":
        pytest.skip("only Linux ends a process that lets no thread run")
    (tmp_path / "parent.py").write_text(ORPHANS)
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(1000)  # a module that takes long to import\n")
    told = subprocess.run([sys.executable, tmp_path / "parent.py", kind], capture_output=True, timeout=TIMEOUT)
    assert told.returncode == -signal.SIGKILL, told.stderr.decode()


class _Unreadable(KeyedClips):
    def __getitems__(self, keys: list[Any]) -> Any:
        raise OSError(28, "No space left on device")


def loader(workers: int) -> Any:
    return ClipLoader(
        _Unreadable(), batches=[[0]], collate=len, workers=workers, pin_memory=False, persistent=False, stall=60.0
    )


class _Child:
    killed = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize("problem", [EOFError(), ConnectionResetError(104, "reset"), FileNotFoundError(2, "no socket")])
def test_what_cannot_be_fetched_from_an_ended_worker_is_its_loss(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    def fetch(self: Any) -> Iterator[Any]:
        yield "a batch"
        raise problem

    monkeypatch.setattr(DataLoader, "__iter__", fetch)
    loading = loader(0)
    with pytest.raises(type(problem)):  # without workers it is an error of this process
        list(loading)
    child = _Child()
    loading._children.add(child)
    with pytest.raises(WorkersLost, match=type(problem).__name__ if not problem.args else str(problem.args[1])):
        list(loading)
    assert child.killed


def test_what_a_worker_raises_is_no_loss_of_it() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        list(loader(1))


SIGNALLED = """
import os, signal, sys
from dualpath.cli import main
from dualpath.engine.log import Log
original = Log.step
def step(self, position, **figures):
    told = original(self, position, **figures)
    if position.step == 2:
        for stop in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):  # systemd signals a process, then all of its group
            os.killpg(0, stop)
    return told
Log.step = step
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_a_signal_to_the_group_saves_the_training(tmp_path: Path, clips: Path, weights: Path) -> None:
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    output = tmp_path / "run"
    words = ["train", str(clips), "--output", str(output), *flags(weights), "--epochs", "2", "--workers", "1"]
    line = [sys.executable, str(tmp_path / "signalled.py"), *words]
    # Whoever reads stderr, such as tee, gets the signal too: nobody is left to read what is said then.
    read, write = os.pipe()
    child = subprocess.Popen(line, stderr=write, start_new_session=True)
    os.close(write)
    os.close(read)
    assert child.wait(TIMEOUT) == 128 + signal.SIGTERM
    assert read_position(output)[0].step == 2
    assert (output / "last" / "adapter_config.json").is_file()


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path, clips: Path, weights: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with at_step(1, lambda: os.kill(os.getpid(), signal.SIGHUP)):
            assert main(["train", str(clips), "--output", str(tmp_path / "run"), *flags(weights), "--epochs", "1"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_stderr_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with plain_streams():
            print("nobody", file=sys.stderr)
            print("reads this", file=sys.stderr)
        print("and it stays usable", file=gone)
