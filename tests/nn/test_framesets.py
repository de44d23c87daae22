"""Framesets: where each pixel goes, and where and when each token says it is."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.errors import DualPathError, number_of
from dualpath.nn.framesets import cell_size, check_frames, encode_positions, pack, share_out, shrink, unpack

GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(grid=GRIDS, batch=st.integers(1, 2), framesets=st.integers(1, 3), y=st.integers(1, 4), x=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_packing_puts_each_pixel_at_its_own_place(grid: tuple[int, int], batch: int, framesets: int, y: int, x: int) -> None:
    rows, columns = grid
    cells = torch.arange(batch * framesets * rows * columns * 2 * y * x, dtype=torch.float32)
    cells = cells.reshape(batch, framesets * rows * columns, 2, y, x)  # every pixel has its own number
    packed = pack(cells, grid)
    assert packed.shape == (batch, framesets, 2, rows * y, columns * x)
    for row in range(rows * y):
        for column in range(columns * x):
            for g in range(framesets):
                frame = g * rows * columns + (row // y) * columns + column // x
                assert torch.equal(packed[:, g, :, row, column], cells[:, frame, :, row % y, column % x])
    assert torch.equal(unpack(packed, grid), cells)
    assert torch.equal(pack(unpack(packed, grid), grid), packed)


def test_time_runs_like_text() -> None:
    cells = torch.arange(1, 17, dtype=torch.float32).reshape(1, 16, 1, 1, 1)
    assert pack(cells, (2, 4))[0, :, 0].tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 10, 11, 12], [13, 14, 15, 16]]]
    assert pack(cells, (4, 4))[0, 0, 0, 1].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("frames", [0, 1, 4, 7, 9, 12])
def test_frames_that_fill_no_whole_framesets_are_refused(frames: int) -> None:
    told = number_of(frames, "frame does|frames do")
    with pytest.raises(DualPathError, match=rf"{told} not fill framesets of 2x4 = 8 .*multiple of 8 \(8, 16, 24"):
        check_frames(frames, (2, 4))
    with pytest.raises(DualPathError):
        pack(torch.zeros(1, frames, 1, 2, 2), (2, 4))


def test_frames_that_fill_framesets_pass() -> None:
    for frames in (8, 16, 24, 80):
        check_frames(frames, (2, 4))


def test_shrinking_is_antialiased_and_keeps_the_range() -> None:
    stripes = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    stripes[..., ::4] = 255  # one column of four: without antialiasing it would vanish or fill a whole pixel
    small = shrink(stripes, (2, 2))
    assert small.shape == (1, 1, 2, 2)
    # A triangle of half-width four around 2 (and 6), in an eight pixel wide picture, in 256ths: by hand.
    weights = [max(0.0, 1 - abs(column + 0.5 - 2) / 4) for column in range(8)]
    left = 255 * (weights[0] + weights[4]) / sum(weights)
    torch.testing.assert_close(small[0, 0, 0, 0], torch.tensor(left), atol=1e-3, rtol=0)
    full = torch.full((1, 3, 8, 12), 255, dtype=torch.uint8)
    torch.testing.assert_close(shrink(full, (4, 4)), torch.full((1, 3, 4, 4), 255.0))
    picture = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    assert torch.equal(shrink(picture, (8, 8)), picture.float())


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (2, 4), (4, 4)])
def test_shrinking_to_whole_values_is_the_same_within_one_value(grid: tuple[int, int]) -> None:
    frames = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = cell_size(64, grid, patch=8, aligned=False)
    exact, whole = shrink(frames, size), shrink(frames, size, whole=True)
    assert torch.equal(whole, whole.round())
    assert (whole - exact).abs().max() <= 1.0  # the kernel's weights are rounded too
    assert (whole - exact).abs().mean() < 0.3


def test_a_grid_that_does_not_divide_the_picture_is_refused() -> None:
    for grid in ((3, 4), (4, 3)):
        with pytest.raises(DualPathError, match=rf"32x32 pixels cannot be cut into a grid of {grid[0]}x{grid[1]}"):
            cell_size(32, grid, patch=8, aligned=False)


@pytest.mark.parametrize(
    ("picture", "grid", "patch", "cell"),
    [(224, (4, 4), 16, (64, 64)), (224, (4, 4), 14, (56, 56)), (224, (2, 2), 16, (112, 112)), (128, (3, 2), 16, (48, 64))],
)
def test_aligned_cells_are_whole_patches(picture: int, grid: tuple[int, int], patch: int, cell: tuple[int, int]) -> None:
    assert cell_size(picture, grid, patch=patch, aligned=True) == cell


# The 3-D encoding


def sines(value: float, size: int, extent: int) -> list[float]:
    out = []
    for j in range(size):
        angle = value * extent ** (-(j - j % 2) / size)
        out.append(math.cos(angle) if j % 2 else math.sin(angle))
    return out


def code(time: float, row: float, column: float, width: int, extents: tuple[int, int, int]) -> list[float]:
    third = 2 * (width // 6)
    sizes = (width - 2 * third, third, third)
    return [wave for axis in zip((time, row, column), sizes, extents, strict=True) for wave in sines(*axis)]


def covered(token: int, tokens: int, cells: int) -> list[tuple[int, float, float]]:
    """(cell, share of the token, place of that part's middle in the cell's frame, in patches), exactly."""
    found = []
    for cell in range(cells):
        low = max(Fraction(token, tokens), Fraction(cell, cells))
        high = min(Fraction(token + 1, tokens), Fraction(cell + 1, cells))
        if high > low:
            place = ((low + high) / 2 - Fraction(cell, cells)) * cells * tokens
            found.append((cell, float((high - low) * tokens), float(place)))
    return found


@given(
    grid=GRIDS,
    patch_grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    framesets=st.integers(1, 3),
    width=st.sampled_from([12, 16, 18, 20, 24, 46]),
)
@settings(max_examples=30, deadline=None)
def test_positions_are_those_of_a_literal_loop(
    grid: tuple[int, int], patch_grid: tuple[int, int], framesets: int, width: int
) -> None:
    actual = encode_positions(framesets, grid, patch_grid, width)
    assert actual.dtype == torch.float32
    extents = (framesets * grid[0] * grid[1], *patch_grid)
    expected = torch.zeros(framesets, patch_grid[0] * patch_grid[1], width, dtype=torch.float64)
    for g in range(framesets):
        for y in range(patch_grid[0]):
            for x in range(patch_grid[1]):
                for r, share_y, row in covered(y, patch_grid[0], grid[0]):
                    for c, share_x, column in covered(x, patch_grid[1], grid[1]):
                        time = 1 + g * grid[0] * grid[1] + r * grid[1] + c
                        part = torch.tensor(code(time, row, column, width, extents), dtype=torch.float64)
                        expected[g, y * patch_grid[1] + x] += share_y * share_x * part
    torch.testing.assert_close(actual.double(), expected, atol=1e-6, rtol=0)


def test_tokens_within_one_cell_have_exactly_their_frames_code() -> None:
    # 8x8 tokens, 4x4 cells: each cell has 2x2 tokens, whose middles lie at 2 and 6 of 8 patches.
    codes = encode_positions(2, (4, 4), (8, 8), 24).reshape(2, 8, 8, 24)
    for g, y, x in ((0, 0, 0), (0, 1, 6), (0, 7, 7), (1, 0, 0), (1, 5, 2)):
        time = 1 + 16 * g + 4 * (y // 2) + x // 2
        expected = torch.tensor(code(time, (2, 6)[y % 2], (2, 6)[x % 2], 24, (32, 8, 8)))
        torch.testing.assert_close(codes[g, y, x], expected, atol=1e-6, rtol=0)
    # The same place in two frames differs in time alone.
    assert torch.equal(codes[0, 0, 0, 8:], codes[1, 6, 2, 8:])
    assert not torch.equal(codes[0, 0, 0, :8], codes[1, 6, 2, :8])


def test_time_runs_on_across_framesets() -> None:
    codes = encode_positions(3, (2, 2), (2, 2), 24)
    assert codes.shape == (3, 4, 24)
    # Each token is one frame: 1 .. 12 in order.
    times = torch.tensor([sines(time, 8, 12) for time in range(1, 13)]).reshape(3, 4, 8)
    torch.testing.assert_close(codes[..., :8], times, atol=1e-6, rtol=0)
    assert len({tuple(row.tolist()) for row in codes[..., :8].reshape(12, 8)}) == 12


def test_straddling_tokens_have_the_area_weighted_mean() -> None:
    # CLIP ViT-B/16: 14 tokens over 4 cells. Token 3 lies half in cell 0 and half in cell 1.
    codes = encode_positions(1, (4, 4), (14, 14), 768).reshape(14, 14, 768)
    time = 768 - 4 * 128
    torch.testing.assert_close(
        codes[0, 3, :time], torch.tensor([sines(1, time, 16), sines(2, time, 16)]).mean(0), atol=1e-6, rtol=0
    )
    four = torch.tensor([sines(frame, time, 16) for frame in (1, 2, 5, 6)]).mean(0)
    torch.testing.assert_close(codes[3, 3, :time], four, atol=1e-6, rtol=0)
    # 4 tokens over 3 cells: token 1 lies a third in cell 0 and two thirds in cell 1.
    codes = encode_positions(1, (1, 3), (1, 4), 24)[0]
    third = torch.tensor(sines(1, 8, 3)) / 3 + torch.tensor(sines(2, 8, 3)) * 2 / 3
    torch.testing.assert_close(codes[1, :8], third, atol=1e-6, rtol=0)
    # A quarter to a third of the picture: 1/12 in the first frame, at its right edge, then 2/12 at the left of the second.
    column = torch.tensor(sines(4 * 7 / 8, 8, 4)) / 3 + torch.tensor(sines(4 * 1 / 4, 8, 4)) * 2 / 3
    torch.testing.assert_close(codes[1, 16:], column, atol=1e-6, rtol=0)


def test_about_a_quarter_of_the_tokens_straddle_in_the_papers_setting() -> None:
    def straddling(tokens: int, cells: int) -> float:
        once = sum(len(covered(token, tokens, cells)) == 1 for token in range(tokens)) / tokens
        return 1 - once**2

    assert straddling(14, 4) == pytest.approx(0.265, abs=1e-3)
    assert straddling(16, 4) == straddling(14, 2) == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_shares_of_tokens_are_divided_among_the_frames_they_cover(
    framesets: int, rows: int, columns: int, side: int, seed: int
) -> None:
    tokens = torch.rand(framesets, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cell = (3 * side, 2 * side)  # pixels; a token has rows * side x columns * side of them
    found = share_out(tokens, (rows, columns), cell)
    assert found.shape == (framesets * rows * columns, *cell)
    torch.testing.assert_close(found.sum(), tokens.sum())
    high, wide = rows * side, columns * side
    wanted = torch.zeros_like(found)
    for g in range(framesets):
        for y in range(3 * high):
            for x in range(2 * wide):
                frame = (g * rows + y // cell[0]) * columns + x // cell[1]
                wanted[frame, y % cell[0], x % cell[1]] += tokens[g, y // high, x // wide] / (high * wide)
    torch.testing.assert_close(found, wanted)
