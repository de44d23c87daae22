"""Looks into files where it can do no harm: in child processes, under a time limit.

    paths --ask(any function)--> (index, its answer) or (index, Refusal), as they come
    videos --scan(count)-------> ScanResult

Decoders are C code that can crash or hang on a damaged file. A child that does is noticed, the file it had in hand is
named, and another child goes on with the rest.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from dualpath.data.manifest import Video
from dualpath.errors import VideoError
from dualpath.processes import child_context
from dualpath.video.decoding.places import SECONDS, SECONDS_A_MEGABYTE, find_place

FEW = 8  # so few files are counted sooner than a second child has started
START_SECONDS = 120.0  # a child imports torch; on a busy disk that takes its time


@dataclass(frozen=True)
class Refusal:
    """A file that gave no answer.

    Attributes:
        reason: why: "took longer than 60 s to read".
        lethal: whether it ended its process or would not come to an end.
    """

    reason: str
    lethal: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class BadVideo:
    """A video that cannot be used, and why: "took longer than 60 s to read"."""

    video: Video
    reason: str


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes:
        videos: the readable ones with `num_frames` filled in, in the order given.
        bad: the others, in the order given.
        answers: what was said of each of `videos`, in the same order.
    """

    videos: tuple[Video, ...]
    bad: tuple[BadVideo, ...]
    answers: tuple[Any, ...] = ()


def count_frames(path: Path) -> int:
    """Counts the frames of a video; what `scan` runs in its children.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    from dualpath.video.decode import probe  # here, because it imports torch, which the parent does not need

    return probe(path).num_frames


def decode_all(path: Path) -> int:
    """The same, but decodes the file to its end: finds damage in its middle, at the price of reading it whole.

    Raises:
        VideoError: the file cannot be read as a video, or not up to its last frame.
    """
    from dualpath.video.inspect import inspect  # as `data check`: what that accepts, this does, with as many frames

    seen = inspect(path)
    if seen.broken is not None:
        raise VideoError(path, seen.broken)
    return seen.num_frames


class Taken(NamedTuple):
    """A file of which what can be decoded is taken: how many frames, and what is damaged."""

    num_frames: int
    damage: str | None


def take(path: Path) -> Taken:
    """Counts what can be decoded of a file.

    Raises:
        VideoError: nothing can.
    """
    from dualpath.video.decode import probe

    info = probe(path, damaged="take")
    return Taken(info.num_frames, info.damage)


def too_short(videos: Sequence[Video], num_frames: int) -> tuple[Video, ...]:
    """Gives the scanned videos with fewer than `num_frames` frames: their last frame will be repeated."""
    return tuple(video for video in videos if video.num_frames is not None and video.num_frames < num_frames)


def scan(
    videos: Sequence[Video],
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    seconds: float = SECONDS,
    count: Callable[[Path], Any] = count_frames,
) -> ScanResult:
    """Counts the frames of every video in child processes, or asks something else of them.

    A script that calls this must keep its own doings under `if __name__ == "__main__":`, because children are spawned.

    Args:
        videos: what to read; of segments of one file, the file once.
        workers: how many children; fewer than 8 videos take one.
        progress: called with (done, total) after each file.
        seconds: time limit for one file, to which comes 2 s a megabyte.
        count: what to run on each file, a function that a child can import: `count_frames`, `decode_all` or any other;
            a whole number that it gives becomes the video's `num_frames`.

    Raises:
        RuntimeError: the children do not start, whatever the file.
    """
    paths, told = list(dict.fromkeys(video.path for video in videos)), {}
    with closing(ask(paths, count, workers=workers, seconds=seconds)) as answers:
        for index, answer in answers:
            told[paths[index]] = answer
            if progress is not None:
                progress(len(told), len(paths))
    return _sorted_out(videos, {index: told[video.path] for index, video in enumerate(videos)})


def _sorted_out(videos: Sequence[Video], told: Mapping[int, Any]) -> ScanResult:
    good, bad, said = [], [], []
    for index, video in enumerate(videos):
        answer = told[index]
        try:
            if isinstance(answer, Refusal):
                raise VideoError(video.path, answer.reason)
            frames = answer.num_frames if isinstance(answer, Taken) else answer
            good.append(video.counted(frames) if isinstance(frames, int) else video)
            said.append(answer)
        except VideoError as problem:
            bad.append(BadVideo(video, problem.reason))
    return ScanResult(tuple(good), tuple(bad), tuple(said))


def ask(
    things: Sequence[Any], do: Callable[[Any], Any], *, workers: int = 2, seconds: float = SECONDS, few: int = FEW
) -> Generator[tuple[int, Any], None, None]:
    """Runs a function on every file (or anything) in child processes and yields (index, answer) as the answers come.

    One that crashes its child, or takes too long, gets a `Refusal`, as does one for which the function raises.

    Args:
        things: paths of files, or whatever `do` takes; must be picklable.
        do: a function that a child can import; what it returns must be picklable.
        workers: how many children.
        few: fewer things than this take one child.
        seconds: time limit for one, to which comes 2 s a megabyte of a file.

    Raises:
        RuntimeError: the children do not start, whatever they are given.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a scan needs at least 1")
    waiting = deque(range(len(things)))
    left = len(things)
    children: list[_Child] = []
    try:
        while left:
            while waiting and len(children) < (workers if len(things) >= few else 1):
                children.append(_Child(do, seconds))
            soonest = min(child.deadline for child in children)
            ready = wait([child.pipe for child in children], timeout=max(0.0, soonest - time.monotonic()))
            for child in list(children):
                news = child.listen(heard=child.pipe in ready)
                told = None
                if news is not None and child.job is not None:
                    told, child.job = (child.job, news[0]), None
                if child.dead:
                    children.remove(child)
                elif child.started and child.job is None and waiting:
                    child.give(waiting.popleft(), things)
                elif child.started and child.job is None:
                    child.stop()
                    children.remove(child)
                if told is not None:  # only now: the child is at work again while the answer is looked at
                    left -= 1
                    yield told
    finally:
        for child in children:
            child.stop()


class _Child:
    """One child process, the parent's end of its pipe, and the file it has in hand."""

    def __init__(self, do: Callable[[Any], Any], seconds: float) -> None:
        context = child_context()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, do), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the child does
        self.seconds = self.limit = seconds
        self.started = False
        self.dead = False
        self.job: int | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, job: int, things: Sequence[Any]) -> None:
        self.job = job
        self.limit = self.seconds + SECONDS_A_MEGABYTE * (_size(things[job]) // 10**6)
        self.deadline = time.monotonic() + self.limit
        with suppress(BrokenPipeError):  # it died while idle: the next `listen` hears the end of the pipe
            self.pipe.send(things[job])

    def listen(self, *, heard: bool) -> tuple[Any] | None:
        """Gives (the answer for the file in hand,), None if there is no news of it."""
        if heard or (time.monotonic() >= self.deadline and self.pipe.poll()):  # the asker may have been away for long
            try:
                message = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return (Refusal(self._lost(), lethal=True),)
            if self.started:
                return (message,)
            self.started = True
            return None
        if time.monotonic() < self.deadline or (self.started and self.job is None):
            return None
        self.stop()
        if not self.started:
            raise RuntimeError(f"a process for reading videos did not start within {START_SECONDS:.0f} s")
        return (Refusal(f"took longer than {self.limit:g} s to read", lethal=True),)

    def _lost(self) -> str:
        self.stop(kill=False)
        if not self.started:
            raise RuntimeError(
                "a process for reading videos ended before it read one (its error is printed above); a script that "
                "scans videos must keep its own doings under: if __name__ == '__main__':"
            )
        code = self.process.exitcode
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return f"the decoder crashed on it ({name})"

    def stop(self, *, kill: bool = True) -> None:
        if kill:
            self.process.kill()  # it holds nothing that could be lost
        self.process.join()
        self.pipe.close()
        self.dead = True


def _size(thing: Any) -> int:
    try:
        return find_place(os.fspath(thing)).length if isinstance(thing, os.PathLike) else 0
    except OSError:
        return 0


def _serve(pipe: Connection, do: Callable[[Any], Any]) -> None:
    """The child: answers for each thing, until the parent is gone."""
    pipe.send("ready")
    while True:
        try:
            thing = pipe.recv()
        except EOFError:
            return
        try:
            answer = pickle.dumps(do(thing))
        except VideoError as problem:
            answer = pickle.dumps(Refusal(problem.reason))
        except Exception as problem:  # not ours to judge here: the file is listed with it
            answer = pickle.dumps(Refusal(f"{type(problem).__name__}: {problem}"))
        with suppress(BrokenPipeError):
            pipe.send_bytes(answer)
