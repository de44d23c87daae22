"""Contact sheets: which clips to show, what the model saw of them, and a picture of three of them for the README."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from dualpath.engine.evaluate import Evaluation
from dualpath.engine.predict import VideoClassifier
from dualpath.files import write_whole
from dualpath.methods.dualpath import DualPath
from dualpath.report.canvas import Canvas
from dualpath.video.decode import probe, read_frames
from dualpath.video.drawn.synthetic import CLASSES, PAIRS
from dualpath.video.sampling import test_indices
from dualpath.video.transforms import test_transform

FRAMES_SHOWN = 8
LARGEST_PICTURE = 400_000  # bytes of the README's PNG
MARGIN, GAP, FRAMESET_SIDE = 28, 8, 210  # of the picture, in pixels


@dataclass(frozen=True)
class Looks:
    """What a model sees of one clip.

    Attributes:
        frames: uint8 (T, S, S, 3), those that go into the model.
        framesets: uint8 (G, S, S, 3), what DualPath's temporal path makes of them; G is 0 for other methods.
        grid: rows and columns of a frameset.
    """

    frames: UInt8[np.ndarray, "t s s 3"]
    framesets: UInt8[np.ndarray, "g s s 3"]
    grid: tuple[int, int]

    @property
    def shown(self) -> list[int]:
        """Indices of the frames to show: at even distances, the first and the last among them."""
        return some_of(len(self.frames))


def some_of(count: int) -> list[int]:
    """At most FRAMES_SHOWN of so many indices: at even distances, the first and the last among them."""
    return [round(i) for i in np.linspace(0, count - 1, min(FRAMES_SHOWN, count)).tolist()]


def look(model: VideoClassifier, path: Path) -> Looks:
    """Reads a file exactly as for a prediction with one view.

    Raises:
        VideoError: the file cannot be read.
    """
    (indices,) = test_indices(probe(path).num_frames, model.spec.sampling, num_clips=1)
    frames = read_frames(path, indices.tolist(), short_side=model.size).frames
    return looks_of(model, test_transform(frames, size=model.size, num_crops=1)[0])


def looks_of(model: VideoClassifier, clip: UInt8[Tensor, "t c s s"]) -> Looks:
    """A clip that goes into the model, and what DualPath makes of it; the other methods have no framesets."""
    if not isinstance(model.model, DualPath):
        return Looks(_pixels(clip), np.zeros((0, *clip.shape[2:], 3), np.uint8), (0, 0))
    framesets = model.model.framesets(clip[None].to(model.device))[0].round().clamp(0, 255)
    return Looks(_pixels(clip), _pixels(framesets.cpu()), model.model.config.grid)


def _pixels(pictures: Tensor) -> np.ndarray:
    return pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def in_pairs(classes: tuple[str, ...]) -> list[int]:
    """Labels in an order that puts opposites of the synthetic clips side by side; as they are for other classes."""
    if sorted(classes) != sorted(CLASSES):
        return list(range(len(classes)))
    return [classes.index(name) for pair in PAIRS for name in pair]


def choose_right(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of the first rightly classified video of each class, at most `count`, no confidence looked at.

    One pair of opposites comes first, then one class of each other pair, then the rest.
    """
    order = in_pairs(evaluation.classes)
    order = order[:2] + order[2::2] + order[3::2]
    right = evaluation.predictions == evaluation.labels
    firsts = (np.flatnonzero(right & (evaluation.labels == label)) for label in order)
    return [int(found[0]) for found in firsts if len(found)][:count]


def choose_wrong(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of the most confident mistakes, worst first, at most `count`; undecodable videos are no mistakes here."""
    guesses = evaluation.predictions
    wrong = np.flatnonzero((guesses >= 0) & (guesses != evaluation.labels))
    confidence = evaluation.scores[wrong, guesses[wrong]]
    return [int(i) for i in wrong[np.argsort(-confidence, kind="stable")][:count]]


def inline(picture: UInt8[np.ndarray, "h w 3"], *, side: int | None = None) -> str:
    """A picture as a data URL (JPEG), scaled down to at most `side` pixels a side."""
    buffer, image = io.BytesIO(), Image.fromarray(picture)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(buffer, format="JPEG", quality=88, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_picture(path: Path, found: dict[str, Evaluation], model: VideoClassifier) -> None:
    """Three held-out clips as rows of one PNG: frames, frameset, true class, prediction; at most 1400 pixels wide.

    Args:
        path: the PNG.
        found: the evaluations; "dualpath" is looked at.
        model: the trained DualPath.
    """
    evaluation = found["dualpath"]
    right = choose_right(evaluation, len(evaluation.classes))
    candidates = [*right[:2], *right[4:5], *right[2:], *choose_wrong(evaluation, 3)]
    clips = list(dict.fromkeys(candidates))[:3]
    looks = [look(model, evaluation.videos[index].path) for index in clips]
    shown = len(looks[0].shown)
    side = min(166, (1096 + GAP) // shown - GAP)  # 166 is what a row is high enough for
    head, pitch, frames_end = 58, 244, MARGIN + shown * (side + GAP) - GAP
    width = frames_end + 38 + FRAMESET_SIDE + MARGIN
    canvas = Canvas(width, head + pitch * len(clips) + 6)
    canvas.text(MARGIN, 34, "a clip's frames", size=15, color="#5b6470")
    canvas.text(width - MARGIN, 34, "its frameset: time runs like text", size=14, ha="right", color="#5b6470")
    for row, index in enumerate(clips):
        _draw_clip(canvas, head + pitch * row, evaluation, index, looks[row], side=side, frames_end=frames_end)
    write_whole(path, canvas.png(most=LARGEST_PICTURE))


def _draw_clip(
    canvas: Canvas, top: int, evaluation: Evaluation, index: int, looks: Looks, *, side: int, frames_end: int
) -> None:
    guess = int(evaluation.predictions[index])
    truth, told = evaluation.classes[evaluation.labels[index]], evaluation.classes[guess]
    right = guess == evaluation.labels[index]
    canvas.text(MARGIN, top + 30, truth, size=21, weight="bold")
    verdict = f"predicted “{told}” ({evaluation.scores[index, guess]:.2f}), {'correct' if right else 'wrong'}"
    canvas.text(frames_end, top + 30, verdict, size=16, ha="right", color="#00639b" if right else "#b34700")
    for place, frame in enumerate(looks.shown):
        left = MARGIN + place * (side + GAP)
        canvas.picture(left, top + 48, side, looks.frames[frame])
        canvas.text(left + side // 2, top + 48 + side + 19, str(frame + 1), size=13, ha="center", color="#5b6470")
    canvas.picture(frames_end + 38, top + 4, FRAMESET_SIDE, looks.framesets[0])
