"""Grid-like framesets: consecutive small frames laid out row by row into one picture, and where each token then is.

    b clips   t frames   g = t / (rows * columns) framesets   h, w frame size   p patch tokens of a picture

With rows = columns = 4, 16 frames of 56x56 make one picture of 224x224:

      1  2  3  4
      5  6  7  8        one frameset: time runs like text
      9 10 11 12
     13 14 15 16
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, Literal, ParamSpec

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from dualpath.errors import DualPathError, number_of

Grid = tuple[int, int]
P = ParamSpec("P")
MOST_KEPT = 32
"""Encodings that are kept at most, of each kind."""


def check_frames(num_frames: int, grid: Grid) -> None:
    """Raises DualPathError unless the frames fill whole framesets."""
    cells = grid[0] * grid[1]
    if num_frames < cells or num_frames % cells:
        raise DualPathError(
            f"{number_of(num_frames, 'frame does|frames do')} not fill framesets of {grid[0]}x{grid[1]} = {cells} frames; "
            f"take a multiple of {cells} ({cells}, {2 * cells}, {3 * cells} ...) or another grid"
        )


def cell_size(picture: int, grid: Grid, *, patch: int, aligned: bool) -> tuple[int, int]:
    """Height and width of a small frame in pixels.

    Args:
        picture: side of the backbone's pictures.
        grid: rows and columns of a frameset.
        patch: side of the backbone's patches.
        aligned: rounds up to whole patches, so that no token straddles two frames; the frameset is then larger than
            the backbone's pictures (ours, not the paper's: 64 pixels instead of 56 on a /16 backbone, 256x256 in all).
    """
    if aligned:
        return patch * -(-picture // (grid[0] * patch)), patch * -(-picture // (grid[1] * patch))
    if picture % grid[0] or picture % grid[1]:
        raise DualPathError(
            f"frames of {picture}x{picture} pixels cannot be cut into a grid of {grid[0]}x{grid[1]}; take a grid whose rows "
            "and columns divide the backbone's picture size, or --cell aligned"
        )
    return picture // grid[0], picture // grid[1]


def shrink(
    frames: UInt8[Tensor, "n c h w"], size: tuple[int, int], *, whole: bool = False, antialias: bool = True
) -> Float[Tensor, "n c y x"]:
    """Each picture to another size: bilinear; values stay 0..255.

    Antialiasing is asked for by name because the authors' result depended on the torchvision version.

    Args:
        frames: as decoded.
        size: height and width.
        whole: rounds to whole values, as an 8-bit picture has them: 7 times as fast on a CPU, which has a kernel for
            it. bf16 rounds values above 128 so anyway.
        antialias: each new pixel is a mean over all the old ones it covers, not over the four nearest.
    """
    if whole and frames.device.type == "cpu":
        return F.interpolate(frames, size=size, mode="bilinear", antialias=antialias, align_corners=False).float()
    small = F.interpolate(frames.float(), size=size, mode="bilinear", antialias=antialias, align_corners=False)
    return small.round() if whole else small


def pack(cells: Shaped[Tensor, "b t c y x"], grid: Grid) -> Shaped[Tensor, "b g c h w"]:
    """Lays t small frames of each clip out into t / (rows * columns) framesets, row by row."""
    b, t, c, y, x = cells.shape
    rows, columns = grid
    check_frames(t, grid)
    tiles = cells.reshape(b, t // (rows * columns), rows, columns, c, y, x)
    return tiles.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, -1, c, rows * y, columns * x)


def unpack(framesets: Shaped[Tensor, "b g c h w"], grid: Grid) -> Shaped[Tensor, "b t c y x"]:
    """The inverse of `pack`: the small frames, in order."""
    b, g, c, h, w = framesets.shape
    rows, columns = grid
    tiles = framesets.reshape(b, g, c, rows, h // rows, columns, w // columns)
    return tiles.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, g * rows * columns, c, h // rows, w // columns)


def share_out(tokens: Float[Tensor, "g p q"], grid: Grid, cell: tuple[int, int]) -> Float[Tensor, "t y x"]:
    """What each patch token of framesets holds, to the pixels of the frames that it covers: divided evenly over its area.

    So a token that straddles frames is divided between them by the area it covers in each, and nothing is lost.

    Args:
        tokens: of g framesets, by row and column.
        grid: rows and columns of a frameset.
        cell: height and width of a small frame in pixels.
    """
    high, wide = cell[0] * grid[0] // tokens.shape[1], cell[1] * grid[1] // tokens.shape[2]
    pixels = (tokens / (high * wide)).repeat_interleave(high, dim=1).repeat_interleave(wide, dim=2)
    return unpack(pixels[None, :, None], grid)[0, :, 0]


def _made_once(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Keeps what was made, for the next call; in compiled and exported code it is a constant."""
    kept: dict[Any, Tensor] = {}

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        key = args, tuple(sorted(kwargs.items()))
        if key not in kept:
            # Where torch exports, what is made inside is a tensor without values: it must neither be kept nor computed anew
            # in each call of what is exported. And one of the inference mode could not be used outside of it.
            modes = _disable_current_modes() if torch.compiler.is_compiling() else nullcontext()
            with modes, torch.inference_mode(False), torch.no_grad():
                made = make(*args, **kwargs)
            if type(made) is not Tensor:
                return made
            if len(kept) == MOST_KEPT:
                del kept[next(iter(kept))]
            kept[key] = made
        return kept[key]

    # What torch.compiler.assume_constant_result does after importing the whole compiler.
    get._dynamo_marked_constant = True  # pyright: ignore[reportAttributeAccessIssue]
    return get


@_made_once
def encode_positions(
    num_framesets: int,
    grid: Grid,
    patch_grid: Grid,
    width: int,
    *,
    kind: Literal["none", "time", "3d"] = "3d",
    device: torch.device | None = None,
) -> Float[Tensor, "g p d"]:
    """The fixed encoding of every patch token of every frameset: its absolute time and its place in its frame.

    With "3d" the d channels are three sine tables side by side: time (1 .. t, running on across framesets), row and
    column. Rows and columns are counted in the frame's own patches, 0 .. patch_grid, so that a place has the same code
    in every cell. A token that straddles cells gets the mean of their codes, weighted by the area it covers in each:
    it belongs to both frames, and to no frame between them. The printed form is not known (method.md); this is ours.
    "time" gives all channels to time, "none" is zero: two ablations.
    """
    rows, columns = grid
    down, across = patch_grid
    shape = (num_framesets, down, across)
    if kind == "none":
        return torch.zeros(num_framesets, down * across, width, device=device)
    per_axis = width // 6 * 2 if kind == "3d" else 0
    sizes = (width - 2 * per_axis, per_axis, per_axis)
    over_rows, row_places = _overlap(down, rows)  # (down, rows): covered share, and place within the cell's frame
    over_columns, column_places = _overlap(across, columns)
    share = torch.einsum("yr,xc->yxrc", over_rows, over_columns)
    times = 1 + torch.arange(num_framesets * rows * columns, dtype=torch.float64).reshape(-1, rows, columns)
    time = torch.einsum("yxrc,grcd->gyxd", share, _sines(times, sizes[0], extent=times.numel()))
    row = torch.einsum("yr,yrd->yd", over_rows, _sines(row_places * down, sizes[1], extent=down))
    column = torch.einsum("xc,xcd->xd", over_columns, _sines(column_places * across, sizes[2], extent=across))
    parts = [time, row[None, :, None].expand(*shape, -1), column[None, None].expand(*shape, -1)]
    return torch.cat(parts, dim=-1).reshape(num_framesets, down * across, width).float().to(device)


@_made_once
def encode_times_as_uploaded(
    num_framesets: int, patch_grid: Grid, width: int, *, antialias: bool = True, device: torch.device | None = None
) -> Float[Tensor, "g l d"]:
    """The fixed encoding of the authors' code, of [CLS] and all patches: time alone (method.md section 3, item 4).

    The frame numbers 1 .. 16 g stand in a map of 16x16, each in a block of 4x4, which is resized to the tokens: so
    tokens between frames get numbers between them, also numbers of frames far away where a row of the grid ends.
    [CLS] has time 0. Sines and cosines alternate, with frequencies 10000^(-2i/d).
    """
    numbers = 1 + torch.arange(16 * num_framesets, dtype=torch.float32).reshape(num_framesets, 1, 4, 4)
    numbers = numbers.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    times = F.interpolate(numbers, size=patch_grid, mode="bilinear", antialias=antialias, align_corners=False)
    times = torch.cat([torch.zeros(num_framesets, 1), times.reshape(num_framesets, -1)], dim=1)
    frequency = 10000 ** (-torch.arange(0, width, 2).float() / width)
    angles = times[..., None] * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(device)


def _sines(values: Float[Tensor, "*n"], size: int, *, extent: int) -> Float[Tensor, "*n s"]:
    """sin and cos interleaved, with angular frequencies extent^(-2i/s), where the values lie in 0..extent.

    So the slowest wave still turns by a radian over the axis. With the 10000 of long texts most channels hardly
    change within 4 frames or 8 patches: a constant that the frozen blocks have never seen (EXPERIMENTS.md).
    """
    if not size:
        return values.new_zeros(*values.shape, 0)
    frequency = float(extent) ** (-2 * torch.arange((size + 1) // 2, dtype=torch.float64) / size)
    angles = values[..., None] * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :size]


def _overlap(tokens: int, cells: int) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Along one axis: the share of each token that lies in each cell, and where in the cell (0..1) that part's middle is."""
    edges = torch.arange(tokens + 1, dtype=torch.float64) / tokens
    borders = torch.arange(cells + 1, dtype=torch.float64) / cells
    low = torch.maximum(edges[:-1, None], borders[None, :-1])
    high = torch.minimum(edges[1:, None], borders[None, 1:])
    share = (high - low).clamp(min=0) * tokens
    place = ((low + high) / 2 - borders[None, :-1]) * cells
    return share, place.clamp(0, 1)
