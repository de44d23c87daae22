"""Candidates for test_turns.py, made in processes of their own."""

from __future__ import annotations

from pathlib import Path

import torch

from dualpath.speed.products import Product
from dualpath.speed.worker import Work


def writes(*, name: str, log: str, clips: int = 1, fails_at: int = 0) -> Work:
    """Each step writes its name; step `fails_at`, counted from 1 without the first ones, fails."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        print("a library that prints")
        with Path(log).open("a") as file:
            file.write(f"{name}\n")
        if done == fails_at + 3 and fails_at:
            raise ValueError(f"{name} has had enough")

    return Work(step, clips=clips, products={Product(1, 2, 3, 4, weights=True): 5}, dtype="float32")


def holds(*, megabytes: int) -> Work:
    """Each step holds so much memory for a moment."""
    return Work(lambda: torch.ones(megabytes * 1_000_000, dtype=torch.uint8).max(), clips=2)


def multiplies(*, rows: int) -> Work:
    """Each step is two layers in fp32, of 4 to 6 and of 6 to 2 values; much is freed before the first."""
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)), torch.ones(rows, 4)
    torch.ones(100_000_000, dtype=torch.uint8).max()

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return Work(step, clips=rows, dtype="float32")


def refuses() -> Work:
    """Cannot be made."""
    raise RuntimeError("no such chip")
