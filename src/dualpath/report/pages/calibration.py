"""Whether a model is as often right as it is sure: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from dualpath.engine.evaluate import Evaluation

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence is above `low` and at most `high`.

    Attributes:
        count: how many.
        confidence: their mean; None where there are none.
        accuracy: share of them that is right; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy go together.

    Attributes:
        bins: of equal width, from 0 to 1.
        ece: expected calibration error: the mean gap between confidence and accuracy of the bins, weighted by their counts
            (equation 3 of the paper).
        confidence: mean of all.
        accuracy: of all.
    """

    bins: tuple[Bin, ...]
    ece: float
    confidence: float
    accuracy: float

    @property
    def count(self) -> int:
        """Predictions in all."""
        return sum(one.count for one in self.bins)


def calibrate(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, bins: int = BINS) -> Calibration:
    """Sorts predictions by confidence.

    Args:
        confidence: score of the predicted class, within 0 and 1; at least one.
        right: whether it is the true one.
        bins: how many; bin m holds confidences in ((m - 1) / bins, m / bins], and the first one 0 too.
    """
    confidence = confidence.astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(place, minlength=bins)
    sums, hits = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    filled = tuple(
        Bin(float(edges[i]), float(edges[i + 1]), int(n), float(sums[i] / n) if n else None, float(hits[i] / n) if n else None)
        for i, n in enumerate(counts)
    )
    ece = float(np.abs(hits - sums).sum() / len(confidence))
    return Calibration(filled, ece, float(confidence.mean()), float(right.mean()))


def calibration_of(evaluation: Evaluation) -> Calibration | None:
    """Of all videos that could be decoded; None if there are none. The others have no confidence."""
    decoded = evaluation.predictions >= 0
    if not decoded.any():
        return None
    scores = evaluation.scores[decoded]
    return calibrate(np.minimum(scores.max(axis=1), 1.0), (evaluation.predictions == evaluation.labels)[decoded])


def reliability(found: Calibration) -> dict[str, Any]:
    """The diagram in a square of 1000 x 1000 with its origin at the top left: bars, gaps to the confidence, counts below."""
    most = max(one.count for one in found.bins)
    width = 1000 / len(found.bins)
    bars = []
    for place, one in enumerate(found.bins):
        if one.confidence is None or one.accuracy is None:
            continue
        low, high = sorted((one.accuracy, one.confidence))
        bars.append(
            {
                "x": place * width + 4,
                "width": width - 8,
                "y": 1000 * (1 - one.accuracy),
                "height": 1000 * one.accuracy,
                "gap_y": 1000 * (1 - high),
                "gap_height": 1000 * (high - low),
                "share": 100 * one.count / most,
                "told": one,
            }
        )
    return {"bars": bars, "found": found, "filled": [one for one in found.bins if one.count]}
