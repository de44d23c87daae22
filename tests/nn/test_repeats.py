"""Equal rows are found, all of them and no others, and encoding the rest alone changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualpath.nn.repeats import find_repeats

CHOICES = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def rows_of(choices: list[int], shape: tuple[int, ...]) -> Tensor:
    """Random rows, of which those with equal numbers are equal."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, *shape), dtype=torch.uint8, generator=generator)[choices]


def literal(rows: Tensor, period: int) -> tuple[list[int], list[int]]:
    """Every row compared with every one before it."""
    kept: list[int] = []
    where: list[int] = []
    for i in range(len(rows)):
        equal = [k for k in range(i) if k % period == i % period and bool((rows[k] == rows[i]).all())]
        if equal:
            where.append(where[equal[0]])
        else:
            where.append(len(kept))
            kept.append(i)
    return kept, where


@settings(max_examples=60, deadline=None)
@given(choices=CHOICES, period=st.integers(1, 4), shape=st.sampled_from([(3, 4, 4), (3, 5, 5), (1,), (2, 3, 4, 4)]))
@torch.no_grad()
def test_finds_what_comparing_all_with_all_finds(choices: list[int], period: int, shape: tuple[int, ...]) -> None:
    rows = rows_of(choices, shape)
    found, (kept, where) = find_repeats(rows, period=period), literal(rows, period)
    if found is None:
        assert kept == list(range(len(rows)))
    else:
        assert (found.kept, found.where) == (kept, where)
        assert torch.equal(rows[found.kept][found.where], rows)


@pytest.mark.parametrize("size", [8, 5], ids=["words", "bytes"])
@torch.no_grad()
def test_rows_of_equal_sums_are_not_taken_for_equal(size: int) -> None:
    row = torch.arange(3 * size * size, dtype=torch.uint8).reshape(3, size, size)
    moved = row.flatten().roll(8).reshape(row.shape)  # the same words or bytes in another order
    assert find_repeats(torch.stack([row, moved])) is None
    found = find_repeats(torch.stack([row, moved, moved, row]))
    assert found is not None
    assert (found.kept, found.where) == ([0, 1], [0, 1, 1, 0])


@torch.no_grad()
def test_rows_that_lie_anywhere_in_memory() -> None:
    memory = rows_of([0, 1, 0, 2], (25,)).flatten()
    rows = memory[3:99].reshape(4, 24)  # begins in the middle of a word
    rows = torch.cat([rows, rows[1:2]])[[0, 1, 2, 3, 4]]
    found = find_repeats(rows[:, ::2])
    assert found is not None
    assert found.where[4] == 1
    offset = find_repeats(torch.cat([memory[:3], rows.flatten()])[3:].reshape(5, 24))
    assert offset is not None
    assert offset.where[4] == 1


def test_not_where_a_gradient_may_be_asked_for_or_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([0, 0], (8,))
    assert find_repeats(rows) is None
    with torch.no_grad():
        assert find_repeats(rows) is not None
        assert find_repeats(rows.to("meta")) is None
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert find_repeats(rows) is None
    monkeypatch.undo()
    with torch.inference_mode():
        assert find_repeats(rows) is not None
