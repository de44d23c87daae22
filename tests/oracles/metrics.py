"""Accuracy counted video by video, in plain loops."""

from __future__ import annotations

from collections.abc import Sequence


def guess(scores: Sequence[float] | None) -> int | None:
    """The label with the highest score, the first of equals; None for a video without scores."""
    if scores is None:
        return None
    best = 0
    for label, score in enumerate(scores):
        if score > scores[best]:
            best = label
    return best


def top(k: int, labels: Sequence[int], rows: Sequence[Sequence[float] | None]) -> float:
    """A label is among the k best if fewer than k others beat it; of equals, the lower label goes first."""
    right = 0
    for label, scores in zip(labels, rows, strict=True):
        if scores is None:
            continue
        ahead = 0
        for other, score in enumerate(scores):
            if score > scores[label] or (score == scores[label] and other < label):
                ahead += 1
        right += ahead < k
    return right / len(labels)


def confusion(num_classes: int, labels: Sequence[int], rows: Sequence[Sequence[float] | None]) -> list[list[int]]:
    """Row true, column guessed, the last column for videos without scores."""
    matrix = [[0] * (num_classes + 1) for _ in range(num_classes)]
    for label, scores in zip(labels, rows, strict=True):
        found = guess(scores)
        matrix[label][num_classes if found is None else found] += 1
    return matrix


def mean_per_class(num_classes: int, labels: Sequence[int], rows: Sequence[Sequence[float] | None]) -> float:
    """The mean over the classes that occur of the share of their videos that is guessed."""
    shares = []
    for label in range(num_classes):
        mine = [scores for other, scores in zip(labels, rows, strict=True) if other == label]
        if mine:
            shares.append(sum(guess(scores) == label for scores in mine) / len(mine))
    return sum(shares) / len(shares)
