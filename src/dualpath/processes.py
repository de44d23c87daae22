"""Child processes that end with their parent and are not stopped by signals to its group.

Ctrl-C, a terminal that is closed, systemd, Slurm and containers signal whole groups of processes. The parent alone decides
what happens then: it finishes what it does and ends its children, with SIGKILL, because they hold nothing that could be lost.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import popen_spawn_posix, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from dualpath.errors import DualPathError

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a process to stop."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def stops_heard() -> tuple[signal.Signals, ...]:
    """Those of STOPS that this process may take handlers for: none outside the main thread, and under nohup no SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    return tuple(stop for stop in STOPS if stop != signal.SIGHUP or signal.getsignal(stop) != signal.SIG_IGN)


def child_context() -> ChildContext:
    """For DataLoaders, pools and processes. Spawned, not forked: a forked child inherits the locks of threads that it lacks."""
    with _blocked_stops():  # the resource tracker, which is started here, inherits this too
        return ChildContext()


class Forks:
    """What is known of this process: a fork copies data sets and models, but not the threads that torch computes with.

    Attributes:
        threads_used: what computes with torch's threads was made here.
        forked: from a process in which that was so: torch would wait for ever for threads that are not there.
    """

    threads_used = forked = False

    @classmethod
    def after_fork(cls) -> None:
        """Called in the child."""
        cls.forked = cls.forked or cls.threads_used

    @classmethod
    def check(cls) -> None:
        """Raises DualPathError in a forked process, unless it computes with one thread, as the workers of a DataLoader do."""
        import torch

        if cls.forked and torch.get_num_threads() > 1:
            raise DualPathError(
                "this process was forked after a model had been loaded or a data set of clips made, and torch's threads do not "
                'survive that; start processes (of a DataLoader too) with multiprocessing_context="spawn" and load the model '
                "there, or call torch.set_num_threads(1) in them first"
            )


os.register_at_fork(after_in_child=Forks.after_fork)


def child_command(function: str) -> list[str]:
    """The command of a child that calls "module:function" and is killed with this process, as `_be_killed_with` can."""
    return [sys.executable, "-m", "dualpath.processes", str(os.getpid()), function]


def _be_killed_with(parent: int) -> None:
    """In a child, before it imports what takes seconds: on Linux it is sent SIGKILL when its parent ends.

    That reaches a process whose code lets no thread run, too. A parent that has ended before is another one by now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_parent(parent: int) -> None:
    """In a child: it ends when a descriptor becomes readable, as one of its parent's does when that ends; on any system."""
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    wait([parent])
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _blocked_stops() -> Iterator[None]:
    """A process that is started meanwhile never receives the signals in STOPS: it inherits that they are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # starting the tracker unblocks some of them
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Popen(popen_spawn_posix.Popen):
    def _launch(self, process_obj: Any) -> None:
        with _blocked_stops():
            super()._launch(process_obj)  # pyright: ignore[reportAttributeAccessIssue]

    def terminate(self) -> None:
        """What DataLoader, pools and Python's own exit call: SIGTERM would not be received."""
        self.kill()


class ChildProcess(SpawnProcess):
    """A spawned process that ends with its parent."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        """For the child, which reads this from its front: it calls the function before it imports what its state is made of."""
        return _start_of_child, (os.getpid(),), self.__dict__

    def run(self) -> None:
        """Called in the child."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        end_with_parent(parent.sentinel)
        super().run()


def _start_of_child(parent: int) -> ChildProcess:
    _be_killed_with(parent)
    return ChildProcess.__new__(ChildProcess)


class ChildContext(SpawnContext):
    """multiprocessing's context of such processes."""

    Process = ChildProcess


if __name__ == "__main__":  # `child_command`
    _be_killed_with(int(sys.argv[1]))
    module, _, name = sys.argv[2].partition(":")
    sys.exit(getattr(importlib.import_module(module), name)())
