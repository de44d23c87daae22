from __future__ import annotations

import numpy as np
import pytest

from dualpath.engine.paired import Interval, mcnemar, paired_bootstrap
from dualpath.errors import DualPathError
from oracles import paired


def rights(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """So many videos that both, only the first, only the second and neither have right, mixed."""
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    pairs = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    both = np.random.default_rng(0).permutation(np.array(pairs))
    return both[:, 0], both[:, 1]


@pytest.mark.parametrize("counts", [(30, 12, 2, 6), (5, 20, 10, 15), (10, 0, 25, 15)])
def test_the_interval_is_that_of_drawing_videos_one_by_one(counts: tuple[int, int, int, int]) -> None:
    a, b = rights(*counts)
    found = paired_bootstrap(a, b)
    slow = paired.resampled(a.tolist(), b.tolist(), resamples=3000, seed=1)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    # Both count in steps of a video, a 50th; two draws of the same may end a step apart.
    assert found.low == pytest.approx(slow[75], abs=0.0201)
    assert found.high == pytest.approx(slow[-76], abs=0.0201)


def test_the_ends_are_quantiles_of_all_that_can_be_drawn() -> None:
    a, b = np.array([1, 1, 1, 0, 1, 0], bool), np.array([1, 0, 0, 0, 0, 1], bool)
    all_drawn = np.array(paired.every_resample(a.tolist(), b.tolist()))
    found = paired_bootstrap(a, b, resamples=50_000, seed=3)
    assert found.difference == pytest.approx(2 / 6)
    assert (found.low, found.high) == pytest.approx(np.quantile(all_drawn, [0.025, 0.975]))


def test_by_hand() -> None:
    same = np.array([True, False, True])
    assert paired_bootstrap(same, same) == Interval(0.0, 0.0, 0.0)
    assert paired_bootstrap(np.ones(4, bool), np.zeros(4, bool)) == Interval(1.0, 1.0, 1.0)
    assert paired_bootstrap(np.zeros(4, bool), np.ones(4, bool)) == Interval(-1.0, -1.0, -1.0)


def test_one_seed_one_interval_and_sides_change_places() -> None:
    a, b = rights(20, 9, 4, 7)
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert forth.difference == -back.difference
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=0.026)
    assert forth.low < forth.difference < forth.high


def test_a_pair_matters() -> None:
    """The same two accuracies, 60 and 50 %: the more their videos agree, the narrower the interval."""
    agree, differ = paired_bootstrap(*rights(50, 10, 0, 40)), paired_bootstrap(*rights(10, 50, 40, 0))
    assert agree.difference == differ.difference == pytest.approx(0.1)
    assert agree.low > 0 > differ.low


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(11, 3, 2 * (1 + 14 + 91 + 364) / 2**14), (1, 8, 2 * (1 + 9) / 2**9), (2, 4, 44 / 64), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemars_exact_test_by_hand(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, rel=1e-12)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DualPathError, match="3 and 2 videos cannot be compared in pairs; give the results of both on"):
        paired_bootstrap(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(DualPathError, match="0 and 0 videos"):
        paired_bootstrap(np.ones(0, bool), np.ones(0, bool))
    with pytest.raises(DualPathError, match="resamples is 0"):
        paired_bootstrap(np.ones(2, bool), np.ones(2, bool), resamples=0)
