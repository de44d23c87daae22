"""Labelled clips drawn by the project, as real H.264 files, in classes that only the order of frames tells apart.

The classes come in pairs of opposites, and a clip of the second class of a pair is a clip of the first one with its
frames in reverse order, everything included: camera, grain, speed. So no frame, and no set of frames without their
order, can tell a class from its opposite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from dualpath.video import shapes

PAIRS: tuple[tuple[str, str], ...] = (
    ("moves right", "moves left"),
    ("moves down", "moves up"),
    ("comes nearer", "goes farther"),
    ("circles clockwise", "circles counterclockwise"),
    ("appears", "disappears"),
)
CLASSES: tuple[str, ...] = tuple(sorted(name for pair in PAIRS for name in pair))
"""All class names; a class's label is its place in this order."""

_FRAME_RATES = (10, 12, 15, 24, 25, 30)


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


def _motion(name: str, rng: np.random.Generator, height: int, width: int) -> Callable[[float], Pose]:
    """The movement of the first class of a pair: s in 0..1 to a pose."""
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


def _camera(rng: np.random.Generator, frames: int, reach: int) -> np.ndarray:
    """A hand-held camera: smooth offsets in pixels, (frames, 2), at most `reach`."""
    time = np.linspace(0, 1, frames)[:, None]
    waves = sum(np.sin(2 * math.pi * (k * time + rng.random(2))) * rng.random(2) for k in (0.5, 1.3, 3.1))
    return np.clip(waves / 2, -1, 1) * reach


def render_clip(name: str, seed: int | tuple[int, ...]) -> tuple[np.ndarray, int]:
    """One clip of class `name`: a pure function of both arguments.

    Returns:
        Frames, uint8 (T, H, W, 3) RGB with T, H, W random (16-26 frames, sides 112-176), and the frame rate.
    """
    first, _ = next(pair for pair in PAIRS if name in pair)
    rng = np.random.default_rng(seed)
    height, width = (2 * int(n) for n in rng.integers(56, 73, 2))
    if rng.random() < 0.4:
        width = min(176, width + 2 * int(rng.integers(8, 17)))
    count, rate = int(rng.integers(16, 27)), int(rng.choice(_FRAME_RATES))
    pose = _motion(first, rng, height, width)
    reach = int(rng.choice([0, 1, 3]))
    ground = shapes.background(rng, height + 2 * reach, width + 2 * reach)
    colour = ground.mean(axis=(0, 1))
    look = shapes.random_look(rng, avoid=colour, distance=0.45)
    for _ in range(int(rng.integers(0, 3))):
        place = rng.random(2) * ground.shape[:2]
        other = shapes.random_look(rng, avoid=colour)
        size = min(height, width) * rng.uniform(0.03, 0.09)
        shapes.draw(ground, other, x=place[1], y=place[0], size=size, angle=rng.uniform(0, 2 * math.pi))
    camera = _camera(rng, count, reach)
    turn, spin = rng.uniform(0, 2 * math.pi), rng.uniform(-1, 1) * rng.choice([0, 1.5])
    begin, end = rng.uniform(0, 0.15), rng.uniform(0.85, 1)  # it may rest before and after
    grain = (rng.standard_normal((height + 16, width + 16, 1)) * rng.uniform(0, 0.02)).astype(np.float32)
    frames = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        s = float(np.clip((i / (count - 1) - begin) / (end - begin), 0, 1))
        at, (dy, dx) = pose(s), camera[i]
        top, left = round(reach + dy), round(reach + dx)
        canvas = ground[top : top + height, left : left + width].copy()
        x, y = at.x - (left - reach), at.y - (top - reach)
        shapes.draw(canvas, look, x=x, y=y, size=at.size, angle=turn + spin * s, opacity=at.opacity)
        gy, gx = rng.integers(0, 16, 2)
        frames[i] = shapes.to_uint8(canvas + grain[gy : gy + height, gx : gx + width])
    return (frames if name == first else frames[::-1]), rate


# Without macroblock trees and with one thread, x264 gives the same bytes for the same frames.
_X264 = {"preset": "veryfast", "crf": "25", "x264-params": "mbtree=0"}


def write_video(path: Path, frames: np.ndarray, rate: int) -> None:
    """Writes uint8 (T, H, W, 3) RGB frames with even H and W as H.264 in MP4, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(rate), options=_X264)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            stream.codec_context.thread_count = 1
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _render_file(job: tuple[str, str, tuple[int, ...]]) -> str:
    path, name, seed = job
    write_video(Path(path), *render_clip(name, seed))
    return path


def render_folder(
    folder: Path,
    clips_per_class: dict[str, int],
    *,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders `folder/<split>/<class>/<number>.mp4` for each split; no two files show the same scene.

    Args:
        folder: where to; made if needed.
        clips_per_class: how many clips of each class a split has: {"train": 200, "test": 30}.
        seed: of the scenes.
        workers: processes that draw and encode.
        progress: is told (files done, files in all).
    """
    jobs = []
    for split_number, (split, count) in enumerate(clips_per_class.items()):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = folder / split / name / f"{number:05d}.mp4"
                jobs.append((str(path), name, (seed, split_number, CLASSES.index(name), number)))
    # Spawned, not forked: the caller may hold torch's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(_render_file, jobs, chunksize=8), 1):
            if progress is not None:
                progress(done, len(jobs))
