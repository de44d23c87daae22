"""Layers in int8, number by number: ranges, rounding and sums of products of whole numbers.

`int8_linear` is what oneDNN is asked for (nn/onednn.py), the others are what nn/native/int8.c computes.
"""

from __future__ import annotations

import math

import numpy as np

GROUP = 768


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


def ranged(values: np.ndarray) -> tuple[float, list[int]]:
    """A scale, and the numbers from -zero to 255 - zero that stand for values whose range, with 0 in it, has 256 steps."""
    values = values.astype(np.float32)
    below, above = max(np.float32(0), *-values), max(np.float32(0), *values)
    scale = max((below + above) / np.float32(255), np.finfo(np.float32).tiny)
    per = np.float32(1) / scale
    zero = int(np.rint(below * per))
    return float(scale), [min(int(np.rint(value * per)) + zero, 255) - zero for value in values]


def native_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """As `int8_linear`, with a range for each group of inputs."""
    found = np.zeros((len(x), len(weight)))
    weights = [whole(row) for row in weight]
    for token, values in enumerate(x):
        groups = [ranged(values[first : first + GROUP]) for first in range(0, len(values), GROUP)]
        for output, (of_weight, whole_weight) in enumerate(weights):
            total = 0.0
            for number, (of_group, whole_group) in enumerate(groups):
                meets = whole_weight[number * GROUP :]
                total += of_group * sum(a * b for a, b in zip(whole_group, meets, strict=False))
            found[token, output] = total * of_weight + float(bias[output])
    return found


def activate(value: float, kind: str) -> float:
    """SiLU, or one of GELU's kinds."""
    match kind:
        case "silu":
            return value / (1 + math.exp(-value))
        case "none":
            return value * (1 + math.erf(value / math.sqrt(2))) / 2
        case "tanh":
            return value * (1 + math.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3))) / 2
    raise AssertionError(kind)


def native_mlp(
    x: np.ndarray, enter: tuple[np.ndarray, np.ndarray], leave: tuple[np.ndarray, np.ndarray], kind: str
) -> np.ndarray:
    """Two layers, each a weight and a bias."""
    inner = native_linear(x, *enter)
    made = np.array([[activate(value, kind) for value in row] for row in inner.tolist()])
    return native_linear(made, *leave)


def native_attention(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, heads: int, scale: float) -> np.ndarray:
    """Tokens (l, i) of one picture, weights (3 h w, i), to what they find, (l, h w)."""
    tokens, width = len(x), len(weight) // (3 * heads)
    bias = bias.copy()
    bias[heads * width : 2 * heads * width] = 0  # the same for all scores of a query
    made = native_linear(x, weight, bias).reshape(tokens, 3, heads, width)
    found = np.zeros((tokens, heads, width))
    for head in range(heads):
        queries, keys, values = ([whole(made[token, part, head]) for token in range(tokens)] for part in range(3))
        for token, (of_query, query) in enumerate(queries):
            scores = [scale * of_query * of_key * sum(a * b for a, b in zip(query, key, strict=True)) for of_key, key in keys]
            weights = [math.exp(score - max(scores)) for score in scores]
            shares = [value * of_value for value, (of_value, _) in zip(weights, values, strict=True)]
            steps = [round(255 * share / max(shares)) for share in shares]
            for channel in range(width):
                total = sum(step * value[channel] for step, (_, value) in zip(steps, values, strict=True))
                found[token, head, channel] = total * max(shares) / 255 / sum(weights)
    return found.reshape(tokens, -1)
