"""Opens every video once before a run, where it can do no harm: in child processes, under a time limit.

Decoders are C code that can crash or hang on a damaged file. A child that does is noticed, the file it had in hand is
named, and another child goes on with the rest.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from dualpath.data.manifest import Video
from dualpath.errors import VideoError

FEW = 8  # so few files are counted sooner than a second child has started
START_SECONDS = 120.0  # a child imports torch; on a busy disk that takes its time


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
    """

    videos: tuple[Video, ...]
    bad: tuple[BadVideo, ...]


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
    from dualpath.video.decode import read_frames

    count = count_frames(path)
    read_frames(path, [count - 1], short_side=16, from_the_start=True)
    return count


def too_short(videos: Sequence[Video], num_frames: int) -> tuple[Video, ...]:
    """Gives the scanned videos with fewer than `num_frames` frames: their last frame will be repeated."""
    return tuple(video for video in videos if video.num_frames is not None and video.num_frames < num_frames)


def scan(
    videos: Sequence[Video],
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    seconds: float = 60.0,
    count: Callable[[Path], int] = count_frames,
) -> ScanResult:
    """Counts the frames of every video in child processes.

    A script that calls this must keep its own doings under `if __name__ == "__main__":`, because children are spawned.

    Args:
        videos: what to read.
        workers: how many children; fewer than 8 videos take one.
        progress: called with (done, total) after each video.
        seconds: time limit for one file.
        count: what to run on each file, a function that a child can import: `count_frames` or `decode_all`.

    Raises:
        RuntimeError: the children do not start, whatever the file.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a scan needs at least 1")
    answers: dict[int, int | str] = {}
    waiting = deque(range(len(videos)))
    children: list[_Child] = []
    try:
        while len(answers) < len(videos):
            while waiting and len(children) < (workers if len(videos) >= FEW else 1):
                children.append(_Child(count, seconds))
            soonest = min(child.deadline for child in children)
            ready = wait([child.pipe for child in children], timeout=max(0.0, soonest - time.monotonic()))
            for child in list(children):
                answer = child.listen(heard=child.pipe in ready)
                if answer is not None and child.job is not None:
                    answers[child.job] = answer
                    child.job = None
                    if progress is not None:
                        progress(len(answers), len(videos))
                if child.dead:
                    children.remove(child)
                elif child.started and child.job is None and waiting:
                    child.give(waiting.popleft(), videos)
                elif child.started and child.job is None:
                    child.stop()
                    children.remove(child)
    finally:
        for child in children:
            child.stop()
    return _sorted_out(videos, answers)


def _sorted_out(videos: Sequence[Video], answers: dict[int, int | str]) -> ScanResult:
    good: list[Video] = []
    bad: list[BadVideo] = []
    for index, video in enumerate(videos):
        answer = answers[index]
        try:
            if isinstance(answer, str):
                raise VideoError(video.path, answer)
            good.append(video.counted(answer))
        except VideoError as problem:
            bad.append(BadVideo(video, problem.reason))
    return ScanResult(tuple(good), tuple(bad))


class _Child:
    """One child process, the parent's end of its pipe, and the video it has in hand."""

    def __init__(self, count: Callable[[Path], int], seconds: float) -> None:
        context = multiprocessing.get_context("spawn")  # a forked child inherits locks of FFmpeg's and torch's threads
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, count), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the child does
        self.seconds = seconds
        self.started = False
        self.dead = False
        self.job: int | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, job: int, videos: Sequence[Video]) -> None:
        self.job = job
        self.deadline = time.monotonic() + self.seconds
        with suppress(BrokenPipeError):  # it died while idle: the next `listen` hears the end of the pipe
            self.pipe.send(videos[job].path)

    def listen(self, *, heard: bool) -> int | str | None:
        """Gives the count or the reason for the video in hand, None if there is no news of it."""
        if heard:
            try:
                message = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return self._lost()
            if self.started:
                return message
            self.started = True
            return None
        if time.monotonic() < self.deadline or (self.started and self.job is None):
            return None
        self.stop()
        if not self.started:
            raise RuntimeError(f"a process for reading videos did not start within {START_SECONDS:.0f} s")
        return f"took longer than {self.seconds:g} s to read"

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


def _serve(pipe: Connection, count: Callable[[Path], int]) -> None:
    """The child: answers each path with a count of frames or a reason, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its children
    pipe.send("ready")
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        try:
            answer: int | str = count(path)
        except VideoError as problem:
            answer = problem.reason
        except Exception as problem:  # not ours to judge here: the file is listed with it
            answer = f"{type(problem).__name__}: {problem}"
        pipe.send(answer)
