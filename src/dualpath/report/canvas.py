"""A white sheet addressed in pixels, with words in matplotlib's font. No window, no global state."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans CJK TC", "Source Han Sans", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic", "NanumGothic", "Hiragino Sans", "PingFang SC",
    "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS", "Nirmala UI", "Unifont",
)  # fmt: skip
"""Families whose letters matplotlib's own font lacks, as systems ship them."""
INK, QUIET, LINE = "#1b1f24", "#5b6470", "#dfe2e6"


class Canvas:
    """A figure addressed in pixels from its top left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
        self._agg = FigureCanvasAgg(self.figure)

    def text(
        self, x: int, y: int, words: str, *, size: int, color: str = "black", weight: str = "normal", ha: str = "left"
    ) -> None:
        """Words whose baseline is at y, `size` pixels high; nothing in them is a formula."""
        # 1 pixel is 0.72 points at 100 dots an inch.
        with all_letters():
            self.figure.text(
                x / self.width,
                1 - y / self.height,
                _plain(words),
                fontsize=0.72 * size,
                color=color,
                fontweight=weight,
                ha=ha,
                va="baseline",
                parse_math=False,
            )

    def shortened(self, words: str, room: int, *, size: int, weight: str = "normal") -> str:
        """The words, or so much of their beginning and their end that they are at most `room` pixels wide."""
        words = _plain(words)
        width = self._width(words, size=size, weight=weight)
        if width <= room:
            return words
        kept = words
        for count in range(int(len(words) * room / width), 0, -1):
            kept = f"{words[: (count + 1) // 2]}…{words[len(words) - count // 2 :]}"
            if self._width(kept, size=size, weight=weight) <= room:
                break
        return kept

    def shortened_name(self, words: str, room: int, *, size: int) -> str:
        """The words, with so much left out of the name that stands in “quotes” that they fit."""
        before, _, rest = _plain(words).partition("“")
        name, end, after = rest.rpartition("”")
        around = math.ceil(self._width(f"{before}“”{after}", size=size, weight="normal"))
        if not end or room - around < 6 * size:
            return self.shortened(words, room, size=size)
        return f"{before}“{self.shortened(name, room - around, size=size)}”{after}"

    def _width(self, words: str, *, size: int, weight: str) -> float:
        with all_letters():
            text = Text(0, 0, words, fontsize=0.72 * size, fontweight=weight, figure=self.figure, parse_math=False)
            return text.get_window_extent(self._agg.get_renderer()).width

    def picture(self, left: int, top: int, side: int, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """A square picture brought to `side` pixels."""
        box = (left / self.width, 1 - (top + side) / self.height, side / self.width, side / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(pixels, interpolation="lanczos")
        axes.set_axis_off()

    def paste(self, left: int, top: int, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """A picture as it is, pixel by pixel."""
        self.figure.figimage(pixels, left, self.height - top - len(pixels), origin="upper")

    def box(self, left: int, top: int, width: int, height: int, color: str) -> None:
        """A filled rectangle of whole pixels."""
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        if width > 0 and height > 0:
            self.paste(left, top, np.full((height, width, 3), (red, green, blue), np.uint8))

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """What has been drawn."""
        with all_letters():
            self._agg.draw()
        return np.asarray(self._agg.buffer_rgba())[..., :3].copy()

    def png(self, *, most: int | None = None) -> bytes:
        """The sheet as a file; with `most`, with as few colours as it takes to have at most so many bytes."""
        picture = Image.fromarray(self.pixels())
        content = _as_png(picture)
        for bits in (6, 5, 4) if most is not None else ():
            if most is None or len(content) <= most:
                break
            levels = np.round(np.linspace(0, 255, 2**bits))
            content = _as_png(picture.point([int(levels[round(i * (2**bits - 1) / 255)]) for i in range(256)] * 3))
        return content


def _as_png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="png", optimize=True)
    return out.getvalue()


def _plain(words: str) -> str:
    """In one line, and with a question mark for what is no text: file names may hold anything."""
    return "".join(c if c.isprintable() else " " for c in words.encode("utf-8", "replace").decode())


@contextmanager
def all_letters() -> Iterator[None]:
    """Words in every script that this machine has a font for; other letters become boxes, which nobody needs a warning of."""
    installed = set(fontManager.get_font_names())
    families = ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]
    with warnings.catch_warnings(), rc_context({"font.family": families}):
        warnings.filterwarnings("ignore", message="Glyph .* missing|Matplotlib currently does not support")
        log = logging.getLogger("matplotlib.font_manager")  # tells that a family has no bold letters
        log.disabled, before = True, log.disabled
        try:
            yield
        finally:
            log.disabled = before
