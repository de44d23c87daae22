"""Logistic regression on fixed features, with a strength that is cross-validated by group. Pure maths.

n videos   i inputs   k classes
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dualpath.data.manifest import Video
from dualpath.data.splits import assign_folds, count_groups

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""C of the regression, as scikit-learn has it: how much the training error counts against the size of the weights."""
NUM_FOLDS = 5


def choose_strength(
    inputs: Float[Tensor, "n i"], labels: Int64[Tensor, " n"], videos: Sequence[Video], *, classes: int, seed: int
) -> tuple[float, float | None]:
    """The C with the best accuracy over folds by group (the smaller loss among equals), and that accuracy.

    With a single group there are no folds: the middle of STRENGTHS, and None.
    """
    num_folds = min(NUM_FOLDS, count_groups(videos))
    if num_folds < 2:
        return STRENGTHS[len(STRENGTHS) // 2], None
    folds = assign_folds(videos, num_folds=num_folds, seed=seed)
    fold = torch.tensor([folds[video.name] for video in videos])
    scores = []
    for strength in STRENGTHS:
        logits = torch.empty(len(labels), classes, dtype=torch.float64)
        for number in range(1, num_folds + 1):
            out = fold == number
            weight, bias = fit_regression(inputs[~out], labels[~out], classes=classes, strength=strength)
            logits[out] = inputs[out].double() @ weight.T + bias
        top1 = float((logits.argmax(dim=1) == labels).double().mean())
        scores.append((top1, -float(F.cross_entropy(logits, labels)), strength))
    top1, _, strength = max(scores)
    return strength, top1


def fit_regression(
    inputs: Float[Tensor, "n i"], labels: Int64[Tensor, " n"], *, classes: int, strength: float
) -> tuple[Float[Tensor, "k i"], Float[Tensor, " k"]]:
    """Multinomial logistic regression on standardised inputs: the weights and biases for the inputs as they are.

    Minimises strength x (sum of the cross-entropies) + half of the squared weights, biases left free, as scikit-learn's
    LogisticRegression does. With n < i the weights lie in the span of the inputs, so there are n unknowns a class, not i.
    """
    inputs = inputs.double()
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    left, values, right = torch.linalg.svd((inputs - mean) / deviation, full_matrices=False)
    reduced = left * values
    weight = torch.zeros(classes, len(values), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = strength * F.cross_entropy(reduced @ weight.T + bias, labels, reduction="sum") + weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scaled = (weight @ right) / deviation
        return scaled, bias - scaled @ mean
