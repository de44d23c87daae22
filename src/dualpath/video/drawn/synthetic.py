"""Labelled clips drawn by the project, as real H.264 files, in classes told by motion, by appearance or by both.

Motions come in pairs of opposites, and a clip of the second class of a pair is a clip of the first one with its
frames in reverse order, everything included: camera, grain, speed. So no frame, and no set of frames without their
order, can tell a class from its opposite. Which classes there are, and what a classifier can reach that lacks the
order or the look, is in `label_sets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Bool, UInt8

from dualpath.files import temporary_beside
from dualpath.processes import child_context
from dualpath.video.drawn import shapes
from dualpath.video.drawn.label_sets import LABEL_SETS, LabelSet, find_label_set
from dualpath.video.drawn.motions import PAIRS, motion_path

__all__ = ["CLASSES", "LABEL_SETS", "PAIRS", "LabelSet", "Scene", "render_clip", "render_folder", "render_scene", "write_video"]

CLASSES: tuple[str, ...] = LABEL_SETS["motion"].classes
"""Class names of the label set "motion"; a class's label is its place in this order."""

_FRAME_RATES = (10, 12, 15, 24, 25, 30)
_SEEN = 0.05  # how much of a pixel's colour must be the object's for it to be one of the object's


@dataclass(frozen=True)
class Scene:
    """A drawn clip, and what is known of it because it was drawn.

    Attributes:
        frames: RGB.
        rate: frames a second.
        masks: where the object covers more than a twentieth of a pixel, its transparency counted in. A frame's mask is
            empty before the object has appeared, and after it has disappeared.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    rate: int
    masks: Bool[np.ndarray, "t h w"]


def _camera(rng: np.random.Generator, frames: int, reach: int) -> np.ndarray:
    """A hand-held camera: smooth offsets in pixels, (frames, 2), at most `reach`."""
    time = np.linspace(0, 1, frames)[:, None]
    waves = sum(np.sin(2 * math.pi * (k * time + rng.random(2))) * rng.random(2) for k in (0.5, 1.3, 3.1))
    return np.clip(waves / 2, -1, 1) * reach


def _ground(rng: np.random.Generator, height: int, width: int, *, colours: tuple[str, ...]) -> np.ndarray:
    """A background, float32 (height, width, 3), that shows none of the `colours` and from which each of them stands out.

    It does not depend on which of them the object has: or it would tell.
    """
    while True:
        ground = shapes.background(rng, height, width)
        mean = ground.mean(axis=(0, 1))
        if not _shows(ground, colours) and all(shapes.stands_out(colour, mean) for colour in colours):
            return ground


def _shows(picture: np.ndarray, colours: tuple[str, ...]) -> bool:
    return any(bool(shapes.is_colour(picture, colour).any()) for colour in colours)


def _add_clutter(rng: np.random.Generator, ground: np.ndarray, *, side: int, label_set: LabelSet) -> None:
    """Draws up to two small things into the ground; none has a colour or a shape that labels speak of."""
    colour = ground.mean(axis=(0, 1))
    colours, taken = label_set.colours, {shape for _, shape in label_set.looks}
    for _ in range(int(rng.integers(0, 3))):
        place = rng.random(2) * ground.shape[:2]
        while True:
            other = shapes.random_look(rng, avoid=colour)
            size, angle = side * rng.uniform(0.03, 0.09), rng.uniform(0, 2 * math.pi)
            if other.shape in taken:
                continue
            canvas = ground.copy()
            shapes.draw(canvas, other, x=place[1], y=place[0], size=size, angle=angle)
            # Looked at as drawn: a shade between two colours, or a soft edge, can be of a third one.
            if not _shows(canvas, colours):
                break
        ground[:] = canvas


def render_clip(name: str, seed: int | tuple[int, ...], *, label_set: str = "motion") -> tuple[np.ndarray, int]:
    """One clip of class `name`: the frames of `render_scene`, uint8 (T, H, W, 3) RGB, and their rate.

    T, H, W are random (16-26 frames, sides 112-176).
    """
    scene = render_scene(name, seed, label_set=label_set)
    return scene.frames, scene.rate


def render_scene(name: str, seed: int | tuple[int, ...], *, label_set: str = "motion") -> Scene:
    """One clip of class `name` and where its object is: a pure function of all arguments.

    With the same seed, classes that differ in their look show the same scene with another object, and opposites show
    it backwards.

    Args:
        name: the class.
        seed: of the scene.
        label_set: the set that the class belongs to, one of LABEL_SETS.

    Raises:
        DualPathError: there is no such set, or no such class in it.
    """
    labels = find_label_set(label_set)
    wanted = labels.label(name)
    rng = np.random.default_rng(seed)
    height, width = (2 * int(n) for n in rng.integers(56, 73, 2))
    if rng.random() < 0.4:
        width = min(176, width + 2 * int(rng.integers(8, 17)))
    count, rate = int(rng.integers(16, 27)), int(rng.choice(_FRAME_RATES))
    motion = wanted.motion or labels.motions[rng.integers(len(labels.motions))]
    first = next(first for first, second in PAIRS if motion in (first, second))
    pose = motion_path(first, rng, height=height, width=width)
    reach = int(rng.choice([0, 1, 3]))
    ground = _ground(rng, height + 2 * reach, width + 2 * reach, colours=labels.colours)
    if wanted.look is None:
        look = shapes.random_look(rng, avoid=ground.mean(axis=(0, 1)), distance=0.45)
    else:
        look = shapes.named_look(rng, *wanted.look)
    _add_clutter(rng, ground, side=min(height, width), label_set=labels)
    camera = _camera(rng, count, reach)
    turn, spin = rng.uniform(0, 2 * math.pi), rng.uniform(-1, 1) * rng.choice([0, 1.5])
    begin, end = rng.uniform(0, 0.15), rng.uniform(0.85, 1)  # it may rest before and after
    grain = (rng.standard_normal((height + 16, width + 16, 1)) * rng.uniform(0, 0.02)).astype(np.float32)
    frames = np.empty((count, height, width, 3), np.uint8)
    masks = np.zeros((count, height, width), np.bool_)
    for i in range(count):
        s = float(np.clip((i / (count - 1) - begin) / (end - begin), 0, 1))
        at, (dy, dx) = pose(s), camera[i]
        top, left = round(reach + dy), round(reach + dx)
        canvas = ground[top : top + height, left : left + width].copy()
        x, y = at.x - (left - reach), at.y - (top - reach)
        box, cover = shapes.draw(canvas, look, x=x, y=y, size=at.size, angle=turn + spin * s, opacity=at.opacity)
        masks[i][box] = cover > _SEEN
        gy, gx = rng.integers(0, 16, 2)
        frames[i] = shapes.to_uint8(canvas + grain[gy : gy + height, gx : gx + width])
    return Scene(frames, rate, masks) if motion == first else Scene(frames[::-1], rate, masks[::-1])


# Without macroblock trees and with one thread, x264 gives the same bytes for the same frames.
_X264 = {"preset": "veryfast", "crf": "25", "x264-params": "mbtree=0"}


def write_video(path: Path, frames: np.ndarray, rate: int) -> None:
    """Writes uint8 (T, H, W, 3) RGB frames with even H and W as H.264 in MP4, whole or not at all."""
    temporary = temporary_beside(path)
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


def _render_file(job: tuple[str, str, tuple[int, ...], str]) -> str:
    path, name, seed, label_set = job
    write_video(Path(path), *render_clip(name, seed, label_set=label_set))
    return path


def render_folder(
    folder: Path,
    clips_per_class: dict[str, int],
    *,
    seed: int = 0,
    workers: int = 2,
    label_set: str = "motion",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders `folder/<split>/<class>/<number>.mp4` for each split; no two files show the same scene.

    Args:
        folder: where to; made if needed.
        clips_per_class: how many clips of each class a split has: {"train": 200, "test": 30}.
        seed: of the scenes.
        workers: processes that draw and encode.
        label_set: which classes to draw, one of LABEL_SETS.
        progress: is told (files done, files in all).

    Raises:
        DualPathError: there is no such label set.
    """
    classes = find_label_set(label_set).classes
    jobs = []
    for split_number, (split, count) in enumerate(clips_per_class.items()):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = folder / split / name / f"{number:05d}.mp4"
                jobs.append((str(path), name, (seed, split_number, label, number), label_set))
    with ProcessPoolExecutor(workers, mp_context=child_context()) as pool:
        for done, _ in enumerate(pool.map(_render_file, jobs, chunksize=8), 1):
            if progress is not None:
                progress(done, len(jobs))
