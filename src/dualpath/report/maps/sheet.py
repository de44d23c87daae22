"""The contact sheet of an explanation: a clip's frames over time, and below each what either path makes of it.

title                                    scale
          1   0.00 s  2   0.27 s  3   0.53 s ...     where frames are narrow, on two lines
frames    [       ]   [       ]   [       ]
spatial   [       ]   [  map  ]   [       ]      an empty place: the path does not look at that frame
temporal  [  map  ]   [  map  ]   [  map  ]
          as many bands as it takes
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dualpath.engine.explanation import Explanation, PathMap
from dualpath.errors import number_of
from dualpath.report.canvas import INK, LINE, QUIET, Canvas
from dualpath.report.maps.description import percent, predicted_and_explained
from dualpath.report.maps.heat import TICKS, heat_picture, place, scale_bar, soft_heat

WIDEST, NARROWEST = 1400, 1000  # pixels
_MARGIN, _LABELS, _GAP = 28, 108, 8
_HEAD, _FOOT = 108, 40
_LINE, _NUMBER = 16, 28  # height of a line over a frame; room for its number before its time
_BAR, _SHARE = 5, 22  # heights of the bar below a map, and of the line below that
_LARGEST = 200  # side of a frame
ACCENT, EMPTY = "#00639b", "#f1f3f5"


@dataclass(frozen=True)
class Layout:
    """Where the pictures lie.

    Attributes:
        count: frames of the clip.
        rows: paths.
    """

    count: int
    rows: int

    @property
    def columns(self) -> int:
        """Frames of a band: up to 10 in one, then 8 each, for long clips 16."""
        return self.count if self.count <= 10 else 8 if self.count <= 24 else 16

    @property
    def bands(self) -> int:
        return -(-self.count // self.columns)

    @property
    def side(self) -> int:
        """Of a picture."""
        return min(_LARGEST, (WIDEST - 2 * _MARGIN - _LABELS + _GAP) // self.columns - _GAP)

    @property
    def width(self) -> int:
        return max(NARROWEST, 2 * _MARGIN + _LABELS + self.columns * (self.side + _GAP) - _GAP)

    @property
    def height(self) -> int:
        return _HEAD + self.bands * self._pitch + _FOOT

    @property
    def lines(self) -> int:
        """Over a frame: its number and its time, one below the other where frames are narrow."""
        return 1 if self.columns <= 10 else 2

    @property
    def _pitch(self) -> int:
        return self.lines * _LINE + 4 + self.side + 8 + self.rows * (self.side + _BAR + _SHARE) + 14

    def left(self, frame: int) -> int:
        """Of frame number `frame`, counted from 0."""
        return _MARGIN + _LABELS + (frame % self.columns) * (self.side + _GAP)

    def top(self, frame: int, row: int) -> int:
        """Of that frame (row 0) or of the maps on it (row 1 and so on)."""
        down = 0 if row == 0 else self.side + 8 + (row - 1) * (self.side + _BAR + _SHARE)
        return _HEAD + frame // self.columns * self._pitch + self.lines * _LINE + 4 + down


def draw_sheet(explanation: Explanation) -> bytes:
    """The sheet as a PNG."""
    return sheet_canvas(explanation).png()


def sheet_canvas(explanation: Explanation) -> Canvas:
    """The sheet, drawn."""
    layout = Layout(len(explanation.clip), len(explanation.paths))
    canvas = Canvas(layout.width, layout.height)
    _draw_head(canvas, explanation)
    frames = [enlarged(frame, layout.side) for frame in explanation.clip]
    for number, frame in enumerate(frames):
        left, top = layout.left(number), layout.top(number, 0)
        across, up = (_NUMBER, 0) if layout.lines == 1 else (0, _LINE)
        canvas.text(left, top - 6 - up, str(number + 1), size=12, color=QUIET)
        canvas.text(left + across, top - 6, time_said(explanation, number), size=12, color=INK)
        canvas.paste(left, top, frame)
    for band in range(layout.bands):
        _label(canvas, layout, band, 0, "frames", f"{len(frames)} of the video")
    for row, path in enumerate(explanation.paths, 1):
        _draw_path(canvas, layout, row, path, frames)
    canvas.text(
        _MARGIN,
        layout.height - 18,
        "Bars and per cent: the frame's share of the path's map. Grey squares: frames that the path does not look at.",
        size=12,
        color=QUIET,
    )
    return canvas


def draw_scale(canvas: Canvas, left: int, top: int, width: int) -> None:
    """The colours and what they mean: the bar `width` pixels wide, 16 pixels below `top`; 44 pixels high in all."""
    canvas.text(left, top + 10, "heat of a place: 1 is an even spread", size=12, color=QUIET)
    canvas.paste(left, top + 17, scale_bar(width, 12))
    for tick, where in zip(TICKS, place(np.array(TICKS, np.float64)), strict=True):
        at = left + round(float(where) * width)
        last = tick == TICKS[-1]
        canvas.box(min(at, left + width - 1), top + 29, 1, 3, QUIET)
        ha = "right" if last else "left" if tick == 0 else "center"
        canvas.text(at, top + 44, f"{tick}+" if last else str(tick), size=12, color=INK, ha=ha)


def enlarged(frame: UInt8[np.ndarray, "s s 3"], side: int) -> UInt8[np.ndarray, "z z 3"]:
    """A frame at another size."""
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS))


def time_said(explanation: Explanation, frame: int) -> str:
    """The time of a frame; of a folder of pictures, which of them it is, counted from 1."""
    time = explanation.times[frame]
    return f"no. {explanation.indices[frame] + 1}" if math.isnan(time) else f"{time:.2f} s"


def _draw_head(canvas: Canvas, explanation: Explanation) -> None:
    scale = 340
    room = canvas.width - 2 * _MARGIN - scale - 40
    name = canvas.shortened(Path(explanation.video).name, room, size=19, weight="bold")
    canvas.text(_MARGIN, 38, name, size=19, weight="bold", color=INK)
    predicted, explained = predicted_and_explained(explanation)
    canvas.text(_MARGIN, 62, canvas.shortened_name(predicted, room, size=14), size=14, color=INK)
    canvas.text(_MARGIN, 82, canvas.shortened_name(explained, room, size=14), size=14, color=INK)
    draw_scale(canvas, canvas.width - _MARGIN - scale, 22, scale)


def _draw_path(canvas: Canvas, layout: Layout, row: int, path: PathMap, frames: list[np.ndarray]) -> None:
    side, shares = layout.side, path.by_frame
    largest, heat = float(shares.max()), soft_heat(path)
    for number, frame in enumerate(frames):
        left, top = layout.left(number), layout.top(number, row)
        if number not in path.frames:
            canvas.box(left, top, side, side, EMPTY)
            continue
        at = path.frames.index(number)
        share = float(shares[at])
        canvas.paste(left, top, heat_picture(frame, heat[at]))
        canvas.box(left, top + side + 2, side, _BAR - 1, LINE)
        canvas.box(left, top + side + 2, round(side * share / largest) if largest > 0 else 0, _BAR - 1, ACCENT)
        weight = "bold" if share == largest else "normal"
        canvas.text(left, top + side + _BAR + 13, percent(share), size=12, color=INK, weight=weight)
    for band in range(layout.bands):
        _label(canvas, layout, band, row, path.path, f"path, {number_of(len(path.frames), 'frame')}")


def _label(canvas: Canvas, layout: Layout, band: int, row: int, name: str, more: str) -> None:
    middle = layout.top(band * layout.columns, row) + layout.side // 2
    canvas.text(_MARGIN, middle, name, size=14, weight="bold", color=INK)
    canvas.text(_MARGIN, middle + 17, more, size=11, color=QUIET)
