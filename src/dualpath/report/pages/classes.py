"""Accuracy class by class, and what is taken for what: rows for tables and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualpath.engine.evaluate import Evaluation
from dualpath.report.pictures import in_pairs


def class_rows(found: Sequence[tuple[str, Evaluation]], labels: Sequence[int], *, paired: bool = False) -> list[dict[str, Any]]:
    """Accuracy of classes under several evaluations.

    Args:
        found: (series, evaluation); all of the first one's classes.
        labels: which classes, in this order.
        paired: whether each second row begins a new pair.
    """
    shares = [(series, evaluation.per_class()) for series, evaluation in found]
    names = found[0][1].classes
    return [
        {
            "name": names[label],
            "shares": [(series, by_name[names[label]]) for series, by_name in shares],
            "apart": paired and place > 0 and place % 2 == 0,
        }
        for place, label in enumerate(labels)
    ]


def confusion_rows(evaluation: Evaluation, labels: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Rows of the confusion matrix; what was taken for a class that is not shown, and the undecodable ones, apart.

    Args:
        evaluation: whose.
        labels: the classes to show, in this order; by default all, opposites side by side.
    """
    order = in_pairs(evaluation.classes) if labels is None else list(labels)
    matrix = evaluation.confusion()
    return [
        {
            "name": evaluation.classes[label],
            "cells": [
                {
                    "count": int(matrix[label, other]),
                    "share": matrix[label, other] / max(matrix[label].sum(), 1),
                    "hit": other == label,
                }
                for other in order
            ],
            "others": int(matrix[label, :-1].sum() - matrix[label, order].sum()),
            "undecodable": int(matrix[label, -1]),
        }
        for label in order
    ]


@dataclass(frozen=True)
class Pair:
    """One class taken for another.

    Attributes:
        true, taken: labels.
        count: videos of `true` that were taken for `taken`.
        videos: of `true`, in all.
        back: videos of `taken` that were taken for `true`.
        back_videos: of `taken`, in all.
    """

    true: int
    taken: int
    count: int
    videos: int
    back: int
    back_videos: int


def worst_pairs(evaluation: Evaluation, most: int) -> list[Pair]:
    """The commonest mistakes, those that are the larger share of their class first among equals."""
    matrix = evaluation.confusion()
    totals, wrong = matrix.sum(axis=1), matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    places = np.argwhere(wrong)
    places = sorted(places.tolist(), key=lambda at: (-wrong[at[0], at[1]], totals[at[0]], at))[:most]
    return [Pair(i, j, int(wrong[i, j]), int(totals[i]), int(wrong[j, i]), int(totals[j])) for i, j in places]
