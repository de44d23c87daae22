"""A linear layer in int8, number by number: scales, rounding and the sum of products of whole numbers."""

from __future__ import annotations

import numpy as np


def int8_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Tokens (n, i), weights (o, i), bias (o,), all float32, to (n, o) in float64."""
    found = np.zeros((len(x), len(weight)))
    for output, row in enumerate(weight):
        of_weight, whole_weight = whole(row)
        for token, values in enumerate(x):
            of_token, whole_token = whole(values)
            total = sum(int(a) * int(b) for a, b in zip(whole_token, whole_weight, strict=True))
            found[token, output] = total * of_token * of_weight + float(bias[output])
    return found


def whole(values: np.ndarray) -> tuple[float, list[int]]:
    """A scale, and numbers from -127 to 127 of which each is nearest to a value over the scale."""
    scale = float(max(abs(float(value)) for value in values)) / 127
    return scale, [0 if scale == 0 else round(float(value) / scale) for value in values]
