"""Verdicts on classes: each p-value against counting all that could have been, each verdict from hand-made answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.engine.verdicts import ALPHA, VERDICTS, ClassWorth, holm, judge, p_better, p_told
from oracles import verdicts


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_told_counts_all_ways_to_deal_out_answers(data: st.DataObject) -> None:
    videos, others = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 6))
    hits, alarms = data.draw(st.integers(0, videos)), data.draw(st.integers(0, others))
    assert p_told(hits, videos, alarms, others) == pytest.approx(float(verdicts.told(hits, videos, alarms, others)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_better_counts_all_ways_to_swap_answers(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    first, second, inside = (data.draw(st.lists(st.booleans(), min_size=count, max_size=count)) for _ in range(3))
    inside[0] = True
    found = p_better(np.array(first), np.array(second), np.array(inside))
    assert found == pytest.approx(float(verdicts.better(first, second, inside)))


def test_p_values_by_hand() -> None:
    """Of 20 videos of a class and 40 others; McNemar's test of 9 lost and 1 won is 2 * (1 + 10) / 2**10."""
    inside = np.arange(60) < 20
    first, second = np.zeros(60, bool), np.zeros(60, bool)
    first[:15], second[[*range(6), 19]] = True, True
    assert p_better(first, second, inside) == pytest.approx(2 * (1 + 10) / 2**10)
    assert p_better(second, first, inside) == pytest.approx(2 * (1 + 10) / 2**10)
    assert p_better(first, first, inside) == 1.0
    # A class that everything is taken for loses no video and is told from nothing: alarms speak, with half the weight.
    assert p_better(inside, np.ones(60, bool), inside) == pytest.approx(2 / 2**40)
    assert p_told(2, 2, 0, 4) == pytest.approx(1 / 15)
    assert p_told(20, 20, 40, 40) == 1.0
    assert p_told(5, 5, 0, 0) == 1.0


def test_many_videos_are_no_burden() -> None:
    inside = np.arange(20_000) < 10_000
    found = p_better(np.arange(20_000) < 5100, (np.arange(20_000) >= 5000) & inside, inside)
    assert found == pytest.approx(0.3198, abs=1e-3)  # 5000 against 4900 of 9900: z is 99 / sqrt(9900)
    assert 1e-5 < p_told(60, 100, 8000, 19_900) < 2e-4  # 40.3 are expected, give or take 4.9


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    assert holm(values) == pytest.approx(verdicts.holm(values))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def judged(count: int, **answers: tuple[int, int, int]) -> ClassWorth:
    """The verdict on the first of three classes of `count` videos each.

    The answers say by row how many videos of each class are taken for the first; the others are recognised, videos of the
    first that are missed are taken for the second.
    """
    labels = np.repeat(np.arange(3), count)
    predictions = {}
    for row, taken in answers.items():
        guess = labels.copy()
        guess[:count] = 1
        for label, number in enumerate(taken):
            guess[label * count : label * count + number] = 0
        predictions[row] = guess
    return judge(labels, predictions, 4)[0]


GOOD, NONE, ALL, HALF = (20, 0, 0), (0, 0, 0), (20, 20, 20), (10, 0, 0)


@pytest.mark.parametrize(
    ("verdict", "in_order", "reverse", "shuffled", "one_frame"),
    [
        ("motion", GOOD, NONE, GOOD, NONE),
        ("motion", GOOD, GOOD, NONE, NONE),
        ("motion", GOOD, ALL, ALL, ALL),  # not one video is lost, but everything is taken for the class
        ("motion", (12, 1, 1), (1, 3, 2), (4, 6, 5), (5, 6, 7)),
        ("motion", GOOD, NONE, NONE, (9, 0, 0)),  # one frame is far above chance, but below half
        ("both", GOOD, HALF, HALF, HALF),
        ("appearance", GOOD, GOOD, GOOD, GOOD),
        ("appearance", (18, 0, 1), (17, 0, 0), (18, 1, 1), (16, 0, 1)),
        ("appearance", (13, 2, 2), (20, 0, 0), (13, 2, 2), (13, 2, 2)),  # it is better backwards, which is no worth of order
        ("frames", GOOD, GOOD, GOOD, NONE),
        ("frames", GOOD, GOOD, GOOD, HALF),  # one frame tells it, but several tell it better
        ("unrecognised", NONE, NONE, NONE, GOOD),
        ("unrecognised", ALL, GOOD, GOOD, GOOD),
        ("unrecognised", (3, 2, 3), NONE, NONE, NONE),
        ("too few", (6, 0, 0), NONE, NONE, (6, 0, 0)),  # six hits that are lost could be chance
    ],
)
def test_verdicts(verdict: str, in_order: tuple, reverse: tuple, shuffled: tuple, one_frame: tuple) -> None:
    found = judged(20, in_order=in_order, reversed=reverse, shuffled=shuffled, one_frame=one_frame)
    assert found.verdict == verdict, (found.told, found.better)
    assert found.hits["in_order"] == in_order[0]
    assert found.alarms["shuffled"] == shuffled[1] + shuffled[2]


def test_few_videos_say_nothing() -> None:
    assert judged(2, in_order=(0, 0, 0), reversed=(0, 0, 0), shuffled=(0, 0, 0), one_frame=(0, 0, 0)).verdict == "too few"
    perfect = (5, 0, 0)
    assert judged(5, in_order=perfect, reversed=perfect, shuffled=perfect, one_frame=perfect).verdict == "too few"
    # Had 12 hits been lost, that would have been shown.
    enough = (12, 0, 0)
    assert judged(12, in_order=enough, reversed=enough, shuffled=enough, one_frame=enough).verdict == "appearance"


def test_shares_and_classes_without_videos() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2])
    rows = ("in_order", "reversed", "shuffled", "one_frame")
    found = judge(labels, dict.fromkeys(rows, np.array([0, 0, 0, -1, 0, 2])), 3)
    assert (found[0].share("in_order"), found[0].index("in_order")) == (0.75, 0.25)
    assert (found[1].videos, found[1].verdict) == (0, None)
    assert (found[2].hits["reversed"], found[2].alarms["reversed"]) == (1, 0)
    assert {one.verdict for one in found} - {None} <= VERDICTS.keys()


def test_guessing_gets_no_verdict_but_now_and_then() -> None:
    """Where every row guesses, a class is told in one data set of twenty at most: over all classes together."""
    source = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 15)
    wrong = 0
    for _ in range(60):
        guesses = {row: source.integers(6, size=90) for row in ("in_order", "reversed", "shuffled", "one_frame")}
        wrong += any(one.verdict != "unrecognised" for one in judge(labels, guesses, 6))
    assert wrong <= 60 * ALPHA + 3
