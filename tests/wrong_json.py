"""What our files of JSON may hold by the time they are read: any value in the place of any other, or none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

MISSING = object()
EACH = 3
WRONG = (None, [], {}, "x", 10**400, -1, 1e308, [1], {"a": 1}, MISSING)


def spoiled(told: Any, *, depth: int = 2) -> Iterator[Any]:
    """The same with one of its values changed or left out: each down to this depth, to EACH of WRONG in turn."""
    turns = cycle(WRONG)
    for place in _places(told, depth):
        for wrong in islice(turns, EACH):
            changed = copy.deepcopy(told)
            part = changed
            for key in place[:-1]:
                part = part[key]
            if wrong is MISSING:
                del part[place[-1]]
            else:
                part[place[-1]] = wrong
            yield changed


def _places(told: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    keys = list(told) if isinstance(told, dict) else range(min(1, len(told))) if isinstance(told, list) else ()
    for key in keys if depth else ():
        yield (key,)
        yield from ((key, *rest) for rest in _places(told[key], depth - 1))
