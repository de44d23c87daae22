"""An explanation as a video, in real time: the clip's frames as they are, and beside them what each path makes of them.

[ frame ]         [ spatial map ]          [ temporal map ]
frame 3 of 8      its nearest frame, 2     this frame
0.53 s            ▁ ▄ ▁  12 % of its map   ▁▂▄█▅▂▁▁  30 % of its map
scale
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from dualpath.engine.explanation import Explanation, PathMap
from dualpath.report.canvas import INK, LINE, QUIET, Canvas
from dualpath.report.maps.description import percent, predicted_and_explained
from dualpath.report.maps.heat import heat_picture, soft_heat
from dualpath.report.maps.sheet import ACCENT, draw_scale, enlarged, time_said
from dualpath.video.mp4 import Quality, write_pictures

RATE = 4
"""Frames a second where a clip tells no times."""
_SMALLEST = 224  # side of a frame
_MARGIN, _GAP, _MARK = 16, 16, 4
_HEAD, _CAPTION, _CURVE, _FOOT = 34, 46, 30, 66  # heights above the frames and of what is below them


def write_overlay(path: Path, explanation: Explanation) -> None:
    """Writes the video: H.264 in MP4, a picture for each frame of the clip, held until the next one's time.

    Raises:
        OutputError: it cannot be written.
    """
    times, last = play_times(explanation.times)
    # Flat colours and small letters: finer than for photographs.
    write_pictures(path, overlay_pictures(explanation), times, last=last, quality=Quality(crf=16))


def play_times(times: Float64[np.ndarray, " t"]) -> tuple[Float64[np.ndarray, " t"], float]:
    """When each frame is shown, from 0 on, and for how long the last one is, in seconds.

    A frame that is there once more, as the last one of short videos is, comes as long after its first time as frames
    come after each other elsewhere.
    """
    steps = np.diff(times)
    usual = float(np.median(steps[steps > 0])) if bool((steps > 0).any()) else 1 / RATE
    # NaN is not above 0: without times, frames come at their usual distance.
    return np.concatenate([[0.0], np.cumsum(np.where(steps > 0, steps, usual))]), usual


def overlay_pictures(explanation: Explanation) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The video's pictures, with even sides."""
    look = _Look.of(explanation)
    times, _ = play_times(explanation.times)
    frames = [enlarged(frame, look.side) for frame in explanation.clip]
    still = Canvas(look.width, look.height)
    _draw_still(still, look, explanation)
    background = still.pixels()
    # Each map is drawn once, however long its frame stays the nearest.
    maps = [
        [heat_picture(frames[frame], heat) for frame, heat in zip(path.frames, soft_heat(path), strict=True)]
        for path in explanation.paths
    ]
    for number, frame in enumerate(frames):
        canvas = Canvas(look.width, look.height)
        canvas.paste(0, 0, background)
        canvas.paste(_MARGIN, _HEAD, frame)
        _caption(canvas, look, 0, f"frame {number + 1} of {len(frames)}", time_said(explanation, number))
        for column, path in enumerate(explanation.paths, 1):
            at = int(np.abs(times[list(path.frames)] - times[number]).argmin())
            own = path.frames[at] == number
            if own:  # a frame round it
                canvas.box(look.left(column) - _MARK, _HEAD - _MARK, look.side + 2 * _MARK, look.side + 2 * _MARK, ACCENT)
            canvas.paste(look.left(column), _HEAD, maps[column - 1][at])
            shown = path.frames[at]
            said = "this frame" if own else f"nearest: frame {shown + 1}, {time_said(explanation, shown)}"
            _caption(canvas, look, column, said, f"{percent(float(path.by_frame[at]))} of its map")
            _draw_curve(canvas, look, column, path, len(frames), at)
        yield canvas.pixels()


@dataclass(frozen=True)
class _Look:
    """Where things lie.

    Attributes:
        side: of a frame in pixels.
        panels: side by side.
    """

    side: int
    panels: int

    @classmethod
    def of(cls, explanation: Explanation) -> _Look:
        side = explanation.clip.shape[1]
        side *= max(1, -(-_SMALLEST // side))
        return cls(side + side % 2, 1 + len(explanation.paths))

    @property
    def width(self) -> int:
        return 2 * _MARGIN + self.panels * (self.side + _GAP) - _GAP

    @property
    def height(self) -> int:
        height = _HEAD + self.side + _CAPTION + _CURVE + _FOOT
        return height + height % 2

    def left(self, column: int) -> int:
        return _MARGIN + column * (self.side + _GAP)


def _draw_still(canvas: Canvas, look: _Look, explanation: Explanation) -> None:
    """What stays the same: names above, the scale and the class below."""
    for column, name in enumerate(["frames", *(f"{path.path} path" for path in explanation.paths)]):
        canvas.text(look.left(column), _HEAD - 12, name, size=15, weight="bold", color=INK)
    top = look.height - _FOOT + 12
    scale = min(340, (look.width - 3 * _MARGIN) // 2)
    draw_scale(canvas, look.width - _MARGIN - scale, top, scale)
    room = look.width - 3 * _MARGIN - scale
    for line, words in enumerate(predicted_and_explained(explanation)):
        canvas.text(_MARGIN, top + 14 + 20 * line, canvas.shortened_name(words, room, size=13), size=13, color=INK)


def _caption(canvas: Canvas, look: _Look, column: int, first: str, second: str) -> None:
    top = _HEAD + look.side
    canvas.text(look.left(column), top + 21, first, size=13, color=INK)
    canvas.text(look.left(column), top + 39, second, size=13, color=QUIET)


def _draw_curve(canvas: Canvas, look: _Look, column: int, path: PathMap, count: int, at: int) -> None:
    """The share of each frame of the clip as a bar, the one that is shown in colour."""
    base = _HEAD + look.side + _CAPTION + _CURVE
    largest = float(path.by_frame.max())
    edges = [look.left(column) + round(look.side * number / count) for number in range(count + 1)]
    canvas.box(look.left(column), base, look.side, 1, LINE)
    for place, (frame, share) in enumerate(zip(path.frames, path.by_frame, strict=True)):
        height = round((_CURVE - 6) * float(share) / largest) if largest > 0 else 0
        left, width = edges[frame], max(1, edges[frame + 1] - edges[frame] - 1)
        canvas.box(left, base - height, width, height, ACCENT if place == at else "#b8c0c8")
