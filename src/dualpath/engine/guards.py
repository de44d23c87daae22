"""What goes wrong in silence, in a sentence each: a loss that does not fall or that rises, one class for all, few videos.

Pure maths on losses and counts; `engine.loop` says the sentences, once each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from dualpath.errors import number_of

WINDOW = 20
"""Losses that are averaged."""
PATIENCE = 40
"""Steps after the warm-up in which a loss may stay where guessing has it."""
STUCK, RISEN = 0.97, 1.25
"""A mean loss of this share of guessing's has not fallen; one this many times the least so far has risen."""
FEWEST = 8
"""With fewer videos one class for all may be chance."""
UNEVEN = 3.0
"""Classes are out of balance where the largest has so many times the videos of the smallest."""


class LossWatch:
    """Looks on at the losses of a session.

    Args:
        num_classes: chance is ln of it.
        warmup: steps in which the learning rate rises.
    """

    def __init__(self, num_classes: int, *, warmup: int) -> None:
        self._chance = math.log(num_classes)
        self._patience = warmup + PATIENCE
        self._losses: list[float] = []
        self._least = math.inf
        self._said: set[str] = set()

    def add(self, loss: float, step: int) -> str | None:
        """Takes the loss of a step, counted from 1 over the whole run; gives a sentence if there is a new thing to say."""
        self._losses = [*self._losses[1 - WINDOW :], loss]
        if len(self._losses) < WINDOW or step < self._patience:
            return None
        mean = fmean(self._losses)
        self._least = min(self._least, mean)
        if mean > STUCK * self._chance:
            return self._once(
                "stuck",
                f"after {step} steps the loss is {mean:.2f}, no better than guessing ({self._chance:.2f}); stop it and try a "
                "lower learning rate (--relative_lr 0.01, or a tenth of your --lr), and look at the labels",
            )
        if mean > RISEN * self._least:
            return self._once(
                "rising",
                f"at step {step} the loss rises: {mean:.2f}, after {self._least:.2f}; a lower learning rate (--relative_lr "
                "0.02, or a third of your --lr) is steadier",
            )
        return None

    def _once(self, what: str, sentence: str) -> str | None:
        if what in self._said:
            return None
        self._said.add(what)
        return sentence


def one_class_for_all(predicted: Sequence[int], labels: Sequence[int], classes: Sequence[str]) -> str | None:
    """A sentence if a model gives one class to all videos, which are of several."""
    answers = set(predicted)
    if len(predicted) < FEWEST or len(answers) != 1 or len(set(labels)) == 1:
        return None
    name = classes[answers.pop()]
    return (
        f"all {len(predicted)} validation videos are taken for '{name}': the model has learnt nothing yet; if this stays, "
        "lower the learning rate (--relative_lr, --lr) or train longer (--epochs)"
    )


def few_videos(count: int) -> str | None:
    """A sentence if an accuracy on so many validation videos cannot tell two epochs apart."""
    if count == 0 or count >= 100:
        return None
    half = 1.96 * math.sqrt(0.8 * 0.2 / count)
    reach = f"{100 * max(0.0, 0.8 - half):.0f} to {100 * min(1.0, 0.8 + half):.0f} %"
    return (
        f"{number_of(count, 'validation video is|validation videos are')} few: 80 % right would mean {reach} (95 % interval), "
        "so two epochs can hardly be told apart; --folds 5 judges on every video"
    )


def _largest_and_smallest(labels: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Two classes, each with its number of videos; None if they are not far apart."""
    counts = Counter(labels).most_common()
    if len(counts) < 2 or counts[0][1] < UNEVEN * counts[-1][1]:
        return None
    return counts[0], counts[-1]


def uneven_classes(labels: Sequence[int], classes: Sequence[str]) -> str | None:
    """A sentence if the largest class has far more training videos than the smallest."""
    if (found := _largest_and_smallest(labels)) is None:
        return None
    (largest, most), (smallest, least) = found
    return (
        f"'{classes[largest]}' has {most} training videos and '{classes[smallest]}' {least}: answering '{classes[largest]}' "
        f"alone would be right in {100 * most / len(labels):.0f} % of them, so look at the mean class accuracy too; "
        "--class_weights balanced or --class_sampling balanced make rare classes count as much"
    )


def uneven_evaluation(labels: Sequence[int], top1: float, mean_class: float, classes: Sequence[str]) -> str | None:
    """A sentence if an accuracy on such videos says more of the largest class than of the others."""
    if (found := _largest_and_smallest(labels)) is None:
        return None
    (largest, most), (smallest, least) = found
    return (
        f"the classes are out of balance, {most} videos of '{classes[largest]}' and {least} of '{classes[smallest]}': "
        f"answering '{classes[largest]}' alone would be right in {100 * most / len(labels):.1f} %, so the mean per class, "
        f"{100 * mean_class:.1f} %, says more than the top-1, {100 * top1:.1f} %"
    )


def is_as_good(top1: float, best: float, count: int) -> bool:
    """Whether an accuracy on `count` videos is no worse than the best so far by more than a standard error.

    The later of two such epochs has seen more. The error is that of the best, (k + 1) / (n + 2) right, and half a video is
    allowed for, as accuracies are whole videos.
    """
    if best < 0:  # the first
        return True
    share = (best * count + 1) / (count + 2)
    return top1 >= best - math.sqrt(share * (1 - share) / count) - 0.5 / count
