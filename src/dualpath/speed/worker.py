"""One candidate in a process of its own: makes its work, and does some of it each time it is told to.

    parent  {"maker": "module:function", "folder": "", "settings": {...}, "threads": n}      {"seconds": s} ... end of input
    child   {"clips": ..., "products": ..., "warm": ..., "bytes": ...}                     {"steps": [s, s ...], "peak": ...}

One line of JSON each. Whatever else the candidate prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dualpath.engine.alive import most_alive
from dualpath.hardware import peak_ram_gb
from dualpath.speed.products import Product

WARM_STEPS = 2
FEWEST, MOST = 2, 200
"""Steps in a turn."""


@dataclass(frozen=True)
class Work:
    """What a candidate does.

    Attributes:
        step: does it once; what it returns is thrown away.
        clips: videos (views) that a step handles.
        products: its matrix products, where they are known.
        dtype: in which they are done.
        device: on which.
        facts: about the candidate, for the table.
        hidden: nothing can look into a step, as where it is compiled: what it makes is not counted.
    """

    step: Callable[[], object]
    clips: int
    products: Mapping[Product, int] = field(default_factory=dict)
    dtype: str = "bfloat16"
    device: str = "cpu"
    facts: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False


def settle(device: torch.device) -> None:
    """Waits until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve() -> None:
    """Answers the parent until it closes the pipe."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not answer in our place
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]  # nor have the last word of a failure

    def answer(told: Mapping[str, Any]) -> None:
        answers.write(json.dumps(told) + "\n")

    asked = json.loads(sys.stdin.readline())
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    if asked["folder"]:
        sys.path.insert(0, asked["folder"])
    module, _, name = asked["maker"].partition(":")
    work: Work = getattr(importlib.import_module(module), name)(**asked["settings"])
    device = torch.device(work.device)
    _mark(device)
    began = time.perf_counter()
    for _ in range(WARM_STEPS):
        work.step()
        settle(device)
    warm = time.perf_counter() - began
    counted = None if work.hidden else most_alive(work.step, device=device)  # after the first steps: what they kept is kept
    rows = [[*product[:4], int(product.weights), times] for product, times in work.products.items()]
    told = {"clips": work.clips, "products": rows, "dtype": work.dtype, "device": work.device, "facts": dict(work.facts)}
    answer(told | {"warm": warm, "bytes": counted})
    for line in sys.stdin:
        answer({"steps": _steps(work.step, device, json.loads(line)["seconds"]), "peak": _peak(device)})


def _steps(step: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Times of single steps, until so many seconds are over."""
    taken: list[float] = []
    settle(device)
    while len(taken) < FEWEST or (sum(taken) < seconds and len(taken) < MOST):
        began = time.perf_counter()
        step()
        settle(device)
        taken.append(time.perf_counter() - began)
    return taken


def _mark(device: torch.device) -> None:
    """From here on the peak is that of the steps, where the system allows that; else that of the making too.

    What is held now is no measure of what a step takes: memory that was freed and not given back is taken again.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the mark of the most memory begins anew


def _peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else peak_ram_gb()
