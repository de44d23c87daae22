"""A white sheet addressed in pixels, with words in matplotlib's font. No window, no global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

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

    def _width(self, words: str, *, size: int, weight: str) -> float:
        text = Text(0, 0, words, fontsize=0.72 * size, fontweight=weight, figure=self.figure, parse_math=False)
        with _quiet():
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
        with _quiet():
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
def _quiet() -> Iterator[None]:
    """Letters that the font lacks become boxes; nobody needs to be warned of that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
