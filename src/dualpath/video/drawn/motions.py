"""Kinds of motion: how the object of a drawn clip moves, in pairs that are each other's reverse in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PAIRS: tuple[tuple[str, str], ...] = (
    ("moves right", "moves left"),
    ("moves down", "moves up"),
    ("comes nearer", "goes farther"),
    ("circles clockwise", "circles counterclockwise"),
    ("appears", "disappears"),
)


@dataclass(frozen=True)
class Pose:
    """Where the moving object is at one moment: pixels, radians, opacity 0..1."""

    x: float
    y: float
    size: float
    opacity: float = 1.0


def _across(rng: np.random.Generator, height: int, width: int, *, vertical: bool) -> Callable[[float], Pose]:
    side = min(height, width)
    size, way = side * rng.uniform(0.13, 0.25), side * rng.uniform(0.45, 0.75)
    drift, sideways = side * rng.uniform(-0.08, 0.08), side * rng.uniform(-0.22, 0.22)
    middle = side * rng.uniform(-1, 1) * (0.42 - 0.5 * way / side)
    along = (middle - way / 2, middle + way / 2)

    def pose(s: float) -> Pose:
        a, b = along[0] + (along[1] - along[0]) * s, sideways + drift * (s - 0.5)
        return Pose(width / 2 + (b if vertical else a), height / 2 + (a if vertical else b), size)

    return pose


def _nearer(rng: np.random.Generator, height: int, width: int) -> Callable[[float], Pose]:
    side = min(height, width)
    end = side * rng.uniform(0.24, 0.38)
    start = end / rng.uniform(2.0, 3.5)
    x, y = width / 2 + side * rng.uniform(-0.2, 0.2), height / 2 + side * rng.uniform(-0.2, 0.2)
    dx, dy = side * rng.uniform(-0.06, 0.06, 2)

    def pose(s: float) -> Pose:
        return Pose(x + dx * (s - 0.5), y + dy * (s - 0.5), start * (end / start) ** s)

    return pose


def _clockwise(rng: np.random.Generator, height: int, width: int) -> Callable[[float], Pose]:
    side = min(height, width)
    size, radius = side * rng.uniform(0.11, 0.19), side * rng.uniform(0.2, 0.3)
    x, y = width / 2 + side * rng.uniform(-0.1, 0.1), height / 2 + side * rng.uniform(-0.1, 0.1)
    first, turn = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(240, 400))

    def pose(s: float) -> Pose:
        angle = first + turn * s  # y points downwards, so a growing angle runs clockwise
        return Pose(x + radius * math.cos(angle), y + radius * math.sin(angle), size)

    return pose


def _appears(rng: np.random.Generator, height: int, width: int) -> Callable[[float], Pose]:
    side = min(height, width)
    size, moment, fade = side * rng.uniform(0.14, 0.28), rng.uniform(0.3, 0.7), rng.uniform(0.01, 0.2)
    x, y = width / 2 + side * rng.uniform(-0.28, 0.28), height / 2 + side * rng.uniform(-0.28, 0.28)

    def pose(s: float) -> Pose:
        return Pose(x, y, size, opacity=float(np.clip((s - moment) / fade + 0.5, 0, 1)))

    return pose


def motion_path(name: str, rng: np.random.Generator, *, height: int, width: int) -> Callable[[float], Pose]:
    """A random movement of the kind `name`, the first of a pair: s in 0..1 to a pose.

    Args:
        name: the first motion of one of PAIRS; its opposite is the same movement seen backwards.
        rng: source of all randomness.
        height: of the frames, pixels.
        width: of the frames, pixels.
    """
    match name:
        case "moves right":
            return _across(rng, height, width, vertical=False)
        case "moves down":
            return _across(rng, height, width, vertical=True)
        case "comes nearer":
            return _nearer(rng, height, width)
        case "circles clockwise":
            return _clockwise(rng, height, width)
        case _:
            return _appears(rng, height, width)
