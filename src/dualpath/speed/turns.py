"""Candidates measured in turn, A B C A B C ..., each in a process of its own: what else the machine does meets them alike.

    [Candidate] --one process each--> warm-up --round 1: A B C, round 2: A B C ...--> [Measured]

Only one works at a time. Each process has its own peak of memory, its own compiled code and its own allocator.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import IO, Any

from dualpath.errors import DualPathError
from dualpath.processes import child_command
from dualpath.speed.products import Product, gmacs


@dataclass(frozen=True)
class Candidate:
    """Something to measure.

    Attributes:
        label: its name in the table.
        maker: "module:function", called in its process with `settings`; gives a `worker.Work`.
        settings: values that JSON knows.
        group: candidates of a group do the same; ratios are told within it.
        ceiling: whether the chip's ceiling for its products is measured too.
        folder: where the maker's module lies, if it is no part of a package.
    """

    label: str
    maker: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    ceiling: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes:
        candidate: which.
        clips: a step's.
        seconds: of each step, by round.
        gmacs: of a step, in 1e9 multiply-adds; None where they were not counted.
        step_bytes: the most bytes of tensors that a step makes and holds at once, beyond weights and what is kept from step
            to step; counted, so that no allocator has a say in it. None where a step is compiled.
        peak_gb: the most memory that the process (on a GPU, its tensors) held in a step, measured, in 1e9 bytes.
        warm_seconds: of the first steps, compiling included.
        device: torch's name of where it ran.
        dtype: in which its products were done.
        facts: from the candidate.
        problem: why there is nothing of this.
    """

    candidate: Candidate
    clips: int = 0
    seconds: tuple[tuple[float, ...], ...] = ()
    gmacs: float | None = None
    step_bytes: int | None = None
    peak_gb: float = 0.0
    warm_seconds: float = 0.0
    device: str = ""
    dtype: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def rounds(self) -> list[float]:
        """Seconds a clip: the median step of each round."""
        return [statistics.median(steps) / self.clips for steps in self.seconds]

    @property
    def clip_seconds(self) -> float:
        """Seconds a clip: the median over rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance between the slowest and the fastest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.clip_seconds

    @property
    def clip_gb(self) -> float | None:
        """What a step makes and holds at once, for each clip, in 1e9 bytes; None where it was not counted."""
        return None if self.step_bytes is None else self.step_bytes / self.clips / 1e9


def ratio(slow: Measured, fast: Measured) -> float:
    """How many times faster: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(slow.rounds, fast.rounds, strict=True))


def measure(
    candidates: Sequence[Candidate],
    *,
    rounds: int,
    seconds: float,
    threads: int = 0,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> list[Measured]:
    """Measures all; one that fails says why and does not disturb the others.

    Args:
        candidates: with labels of their own. For those with `ceiling`, "<label>: ceiling" is measured beside them.
        rounds: turns of each.
        seconds: each turn takes about so long.
        threads: of each process; 0 leaves it to torch.
        progress: is told how many of `stages` are over and what is under way.

    Raises:
        DualPathError: a label twice.
    """
    labels = [candidate.label for candidate in candidates]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DualPathError(f"the candidate {twice} is there twice")
    with ExitStack() as stack:
        ready: list[_Child] = []
        failed: dict[str, str] = {}

        done = count()

        def start(candidate: Candidate) -> None:
            progress(next(done), f"making {candidate.label}")
            child = stack.enter_context(_started(candidate, threads))
            try:
                child.begin()
                ready.append(child)
            except _Failed as problem:
                failed[candidate.label] = str(problem)

        for candidate in candidates:
            start(candidate)
            if candidate.ceiling and ready and ready[-1].candidate is candidate:
                start(_ceiling(ready[-1]))  # beside it in every round
        for number in range(rounds):
            for child in list(ready):
                progress(next(done), f"round {number + 1} of {rounds}: {child.candidate.label}")
                try:
                    child.turn(seconds)
                except _Failed as problem:
                    failed[child.candidate.label] = str(problem)
                    ready.remove(child)
    figures = {child.candidate.label: child.measured() for child in ready}
    wanted = [*candidates, *(child.candidate for child in ready if child.candidate not in candidates)]
    return [figures.get(one.label) or Measured(one, problem=failed.get(one.label, "not begun")) for one in wanted]


def stages(candidates: Sequence[Candidate], rounds: int) -> int:
    """In how many pieces the work is told to `progress`: making each, and each turn."""
    return (len(candidates) + sum(candidate.ceiling for candidate in candidates)) * (1 + rounds)


def ceiling_label(label: str) -> str:
    """The name of a candidate's ceiling."""
    return f"{label}: ceiling"


class _Failed(Exception):
    """A candidate's process ended before it answered."""


class _Child:
    """A candidate's process, seen from here."""

    def __init__(self, candidate: Candidate, process: subprocess.Popen[str], said: IO[str], threads: int) -> None:
        self.candidate, self.process, self.said, self.threads = candidate, process, said, threads
        self.told: dict[str, Any] = {}
        self.seconds: list[tuple[float, ...]] = []
        self.peak = 0.0

    def begin(self) -> None:
        """Has it make its work and warm up."""
        one = self.candidate
        told = {"maker": one.maker, "folder": one.folder, "settings": dict(one.settings), "threads": self.threads}
        self.told = self._ask(told)

    def turn(self, seconds: float) -> None:
        """One turn of it."""
        found = self._ask({"seconds": seconds})
        self.seconds.append(tuple(found["steps"]))
        self.peak = found["peak"]

    def measured(self) -> Measured:
        """All of it."""
        rows = self.told["products"]
        counted = gmacs({Product(*row[:4], weights=bool(row[4])): row[5] for row in rows}) if rows else None
        return Measured(
            self.candidate,
            clips=self.told["clips"],
            seconds=tuple(self.seconds),
            gmacs=counted,
            step_bytes=self.told["bytes"],
            peak_gb=self.peak,
            warm_seconds=self.told["warm"],
            device=self.told["device"],
            dtype=self.told["dtype"],
            facts=self.told["facts"],
        )

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            raise _Failed(self._why())
        return json.loads(line)

    def _why(self) -> str:
        """Why its process has ended: its last word, if it had one."""
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "its process was killed, as systems do where memory runs out: measure fewer candidates at a time"
        self.said.seek(0)
        lines = [line for line in self.said.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"its process ended with exit code {code}"


@contextmanager
def _started(candidate: Candidate, threads: int) -> Iterator[_Child]:
    environment = dict(os.environ)
    # What suits a training beside decoders (cli.py) would cost a model that has the machine for itself a tenth.
    environment.pop("OMP_WAIT_POLICY", None)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            child_command("dualpath.speed.worker:serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        )
        try:
            yield _Child(candidate, process, said, threads)
        finally:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # a question that an ended process never read
                    pipe.close()
            process.kill()
            process.wait()


def _ceiling(child: _Child) -> Candidate:
    told = child.told
    settings = {name: told[name] for name in ("products", "dtype", "clips", "device")}
    maker = "dualpath.speed.ceiling:products_alone"
    return Candidate(ceiling_label(child.candidate.label), maker, settings, group=child.candidate.group)
