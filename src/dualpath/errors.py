"""The errors that a user can cause and mend. The command line prints their one sentence and exits with code 2."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path

from dualpath.terminal import in_line


class DualPathError(ValueError):
    """Something given cannot be used. The message says what was given, what is allowed and what to do.

    Args:
        *lines: the message, as a rule one sentence. What is no text in the names that stand in it is spelled out.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        return "\n".join(map(in_line, self.args))


class VideoError(DualPathError):
    """A video file that cannot be read.

    Attributes:
        path: the file.
        reason: why, without the path: "holds no video, only audio".
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        # Exceptions are rebuilt from `args`, which holds the joined message: say how, or a worker's error is lost.
        return VideoError, (self.path, self.reason)


@contextmanager
def blaming(path: str | Path) -> Iterator[None]:
    """Turns whatever a library raises while it is at work on a video into a VideoError: it costs no other video."""
    try:
        yield
    except DualPathError:
        raise
    except Exception as problem:
        said = getattr(problem, "strerror", None) or f"{type(problem).__name__}: {problem}"
        raise VideoError(path, f"cannot be read as a video: damaged, cut short or something else ({said})") from problem


class FetchError(DualPathError):
    """Data that cannot be fetched from where it lies: no fault of a video, so no video is skipped for it."""

    def __init__(self, place: str | Path, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = str(place)
        self.reason = reason

    def __reduce__(self) -> tuple[type[FetchError], tuple[str, str]]:
        return FetchError, (self.place, self.reason)


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM, SIGHUP) and has left its state behind.

    Attributes:
        signum: the signal; the command line's exit code is 128 + signum.
    """

    def __init__(self, signum: int, folder: Path, step: int) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"stopped by {name} after step {step}; its state is in {folder}, --resume continues it")
        self.signum = signum


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Raises DualPathError unless a value is a whole number and large enough."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise DualPathError(f"{name} is {value!r}, but it must be a whole number, at least {least}")
    if value < least:
        raise DualPathError(f"{name} {value} must be at least {least}")


def check_type(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raises DualPathError unless a value is of a type, which is called `what`: "a path"."""
    if not isinstance(value, kind):
        given = repr(value) if isinstance(value, str | int | float | type(None)) else f"a value of type {type(value).__name__}"
        raise DualPathError(f"{name} is {given[:100]}, but it must be {what}")


def number_of(number: int | float, what: str) -> str:
    """ "1 video", "2 videos", "0.5 epochs"; words may be chosen by number: "video is|videos are"."""
    one, _, many = what.partition("|")
    return f"{number:,.12g} {one if number == 1 else many or f'{one}s'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """A question after the known name that is most like a word, if one is."""
    names = {name.lstrip("-").replace("-", "_"): name for name in known}
    bare = word.lstrip("-").replace("-", "_")
    # "devices" and "views" are alike to 0.67, a slip of the finger in a word of some length to more.
    near = get_close_matches(bare, names, n=1, cutoff=0.75 if len(bare) > 4 else 0.6)
    return f" (did you mean {names[near[0]]}?)" if near else ""
