"""The errors that a user can cause and mend. The command line prints their one sentence and exits with code 2."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class DualPathError(ValueError):
    """Something given cannot be used. The message says what was given, what is allowed and what to do."""


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


class FetchError(DualPathError):
    """Data that cannot be fetched from where it lies: no fault of a video, so no video is skipped for it."""

    def __init__(self, place: str | Path, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = str(place)
        self.reason = reason

    def __reduce__(self) -> tuple[type[FetchError], tuple[str, str]]:
        return FetchError, (self.place, self.reason)


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM) and has left its state behind.

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


def check_fields(config: Any) -> None:
    """Raises DualPathError if a field of a dataclass has a value of another type than it is declared with."""
    kinds = _kinds(type(config))
    for field in fields(config):
        value, kind = getattr(config, field.name), kinds[field.name]
        if not _fits(value, kind):
            raise DualPathError(f"{field.name} is {value!r}, but it must be {_words(kind)}")


@lru_cache(maxsize=64)
def _kinds(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def _fits(value: Any, kind: Any) -> bool:
    inner = get_args(kind)
    match get_origin(kind):
        case origin if origin in (Union, UnionType):
            return any(_fits(value, one) for one in inner)
        case origin if origin is Literal:
            return any(type(value) is type(one) and value == one for one in inner)
        case origin if origin is tuple:
            many = len(inner) == 2 and inner[1] is Ellipsis
            kinds = inner[:1] * len(value) if many and isinstance(value, tuple) else inner
            return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
        case origin if origin is dict:
            return isinstance(value, dict) and all(_fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items())
        case _:
            if kind is Any:
                return True
            number = {int: Integral, float: Real}.get(kind)
            return isinstance(value, number) and not isinstance(value, bool) if number else isinstance(value, kind)


def _words(kind: Any) -> str:
    inner = get_args(kind)
    match get_origin(kind):
        case origin if origin in (Union, UnionType):
            return " or ".join(_words(one) for one in inner)
        case origin if origin is Literal:
            return f"one of {', '.join(map(str, inner))}"
        case origin if origin is tuple:
            each = _words(inner[0]).removeprefix("a ")
            return f"a tuple of {f'{each}s' if inner[-1] is Ellipsis else f'{len(inner)} {each}s'}"
        case origin if origin is dict:
            return "a dictionary with names as keys"
        case _:
            plain = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
            return plain.get(kind, getattr(kind, "__name__", str(kind)))


def nearest(word: str, known: Iterable[str]) -> str:
    """A question after the known name that is most like a word, if one is."""
    names = {name.replace("-", "_"): name for name in known}
    near = get_close_matches(word.replace("-", "_"), names, n=1, cutoff=0.6)
    return f" (did you mean {names[near[0]]}?)" if near else ""
