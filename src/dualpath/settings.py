"""What all dataclasses of settings check of themselves, so that flags, files and Python are held to the same."""

from __future__ import annotations

import sys
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dualpath.errors import DualPathError

MOST = 10**6
"""No number of any use is larger, where nothing else is said."""
MOST_SEED = 2**63 - 1
"""As far as all generators go."""
MOST_FRAMES, MOST_VIEWS, MOST_PIXELS, WIDEST, MOST_WORKERS, MOST_LAYERS = 10_000, 1000, 4096, 65_536, 1024, 1000
"""Of a clip; of a video, in time and in space; of a picture's side; of what methods add; processes that decode; layers."""


def check_kinds(config: Any) -> None:
    """Raises DualPathError unless each field of a dataclass holds what its annotation says, and no NaN or infinity."""
    kinds = _kinds(type(config))
    for one in fields(config):
        value, kind = getattr(config, one.name), kinds[one.name]
        if not _fits(value, kind):
            raise DualPathError(f"{one.name} is {_short(value)}, but it must be {expected(kind)}")


def check_fields(config: Any, **most: int) -> None:
    """As `check_kinds`, and no absurd number.

    Args:
        config: the dataclass, which checks further limits itself.
        most: the largest value of numbers for which that is not MOST; of a seed it is MOST_SEED.
    """
    check_kinds(config)
    for one in fields(config):
        value = getattr(config, one.name)
        limit = most.get(one.name, MOST_SEED if one.name.endswith("seed") else MOST)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, Real) and number > limit for number in numbers):  # pyright: ignore[reportOperatorIssue]
            raise DualPathError(f"{one.name} is {_short(value)}, but it must be at most {limit}")


def check_workers(workers: int) -> None:
    """Raises DualPathError for a number of decoding processes that cannot be meant."""
    if workers < -1:
        raise DualPathError(f"workers is {workers}, but it must be 0 or more, or -1 for a choice by the machine")
    if workers > MOST_WORKERS:
        raise DualPathError(f"workers is {workers}, but it must be at most {MOST_WORKERS}")


@lru_cache
def _kinds(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def _short(value: Any) -> str:
    try:
        told = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of very many digits"
    return told if len(told) <= 60 else f"{told[:60]}..."


def _fits(value: Any, kind: Any) -> bool:
    origin, items = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in items)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in items)
    if origin is tuple:
        wanted = items[:1] * len(value) if isinstance(value, tuple) and items[-1] is Ellipsis else items
        return isinstance(value, tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    if origin is dict:
        names, values = items
        return isinstance(value, dict) and all(_fits(key, names) and _fits(one, values) for key, one in value.items())
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        number: Any = value  # no NaN, no infinity, and no whole number that would be one
        return isinstance(value, Real) and not isinstance(value, bool) and abs(number) <= sys.float_info.max
    return isinstance(value, origin or kind)


def without_none(kind: Any) -> Any:
    """The type of which an annotation is the optional one; str for one of several types."""
    if get_origin(kind) in (Union, UnionType):
        (kind, *more) = [choice for choice in get_args(kind) if choice is not type(None)]
        return kind if not more else str
    return kind


_SIMPLE = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_COUNTS = {2: "two ", 3: "three ", 4: "four "}


def expected(kind: Any) -> str:
    """A type in the words of a user: "a whole number"."""
    kind = without_none(kind)
    match get_origin(kind), get_args(kind):
        case (None, _) if kind in _SIMPLE:
            return _SIMPLE[kind]
        case (origin, choices) if origin is Literal:
            return f"one of {', '.join(map(str, choices))}"
        case (origin, (*_, last)) if origin is tuple and last is Ellipsis:
            return "whole numbers, such as 4x4"
        case (origin, items) if origin is tuple:
            return f"{_COUNTS.get(len(items), '')}whole numbers, such as {'x'.join(['4'] * len(items))}"
        case (origin, _) if origin is dict:
            return "names with whole numbers, such as depth=2,embed_dim=64"
    return "a value"
