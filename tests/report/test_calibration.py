"""Calibration equals its literal oracle, and its diagram shows its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.report.pages.calibration import calibrate, calibration_of, reliability
from evaluations import made
from oracles import calibration as oracle

# Eighths lie on no edge of 15 bins, fifths on three: each of them is the nearest number to what is meant.
VALUES = st.sampled_from([0.0, 0.125, 0.2, 0.25, 0.4, 0.5, 0.6, 0.625, 0.8, 0.875, 1.0]) | st.floats(0, 1, width=32)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(VALUES, st.booleans()), min_size=1, max_size=30), st.sampled_from([1, 2, 4, 8, 15]))
def test_it_equals_the_oracle(predictions: list[tuple[float, bool]], count: int) -> None:
    confidences, right = [one for one, _ in predictions], [hit for _, hit in predictions]
    found = calibrate(np.array(confidences), np.array(right), bins=count)
    assert sum(one.count for one in found.bins) == len(predictions)
    if count == 15 and any(abs(15 * one - round(15 * one)) < 1e-6 and one not in (0.0, 1.0) for one in confidences):
        return  # m / 15 is no number that a computer has: which bin such a one belongs to is for nobody to say
    assert found.ece == pytest.approx(oracle.expected_calibration_error(confidences, right, count), abs=1e-12)
    assert [one.count for one in found.bins] == [len(inside) for inside in oracle.bins_of(confidences, count)]


def test_figures_by_hand() -> None:
    found = calibrate(np.array([0.9, 0.9, 0.3, 0.3]), np.array([True, False, False, False]), bins=2)
    assert [(one.count, one.accuracy) for one in found.bins] == [(2, 0.0), (2, 0.5)]
    assert [one.confidence for one in found.bins] == pytest.approx([0.3, 0.9])
    assert found.ece == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)
    assert (found.confidence, found.accuracy, found.count) == (pytest.approx(0.6), 0.25, 4)


def test_edges_belong_to_the_bin_below() -> None:
    found = calibrate(np.array([0.0, 0.5, 0.50001, 1.0]), np.ones(4, bool), bins=2)
    assert [one.count for one in found.bins] == [2, 2]


def test_undecodable_videos_have_no_confidence() -> None:
    found = calibration_of(made([0, 1, 1], [[0.75, 0.25], None, [0.625, 0.375]], ("a", "b")))
    assert found is not None
    assert (found.count, found.accuracy, found.confidence) == (2, 0.5, 0.6875)
    assert calibration_of(made([0], [None], ("a", "b"))) is None


def test_the_diagram_shows_accuracy_and_gap() -> None:
    found = calibrate(np.array([0.9, 0.9, 0.3, 0.3]), np.array([True, False, False, False]), bins=2)
    low, high = reliability(found)["bars"]
    assert (low["height"], low["gap_y"], low["gap_height"]) == (0, pytest.approx(700), pytest.approx(300))
    assert (high["y"], high["height"], high["gap_y"], high["gap_height"]) == (500, 500, pytest.approx(100), pytest.approx(400))
    assert (low["share"], high["share"]) == (100, 100)
