"""Two evaluations of the same videos side by side: who is right where the other is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dualpath.engine.evaluate import Evaluation
from dualpath.engine.paired import Interval, mcnemar, paired_bootstrap
from dualpath.errors import DualPathError
from dualpath.report.pages.sources import Source


@dataclass(frozen=True)
class Sides:
    """Two evaluations, video by video.

    Attributes:
        first, second: the second's videos and classes are in the order of the first's.
        interval: top-1 of the first less that of the second, with its 95 % interval.
        both, only_first, only_second, neither: how many videos they name correctly.
    """

    first: Evaluation
    second: Evaluation
    interval: Interval
    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def p(self) -> float:
        """Of McNemar's exact test that neither is better."""
        return mcnemar(self.only_first, self.only_second)

    @property
    def gaps(self) -> np.ndarray:
        """Of each video the true class's score under the first less that under the second; 0 for an undecodable one."""
        rows = np.arange(len(self.first.videos))
        labels = self.first.labels
        return np.nan_to_num(self.first.scores[rows, labels] - self.second.scores[rows, labels])

    def class_gaps(self) -> list[tuple[int, float, float]]:
        """(label, accuracy of the first, of the second) of the classes that there are videos of, widest difference first."""
        firsts, seconds = self.first.per_class(), self.second.per_class()
        told = [
            (label, a, b)
            for label, name in enumerate(self.first.classes)
            if (a := firsts[name]) is not None and (b := seconds[name]) is not None
        ]
        return sorted(told, key=lambda one: (-abs(one[1] - one[2]), one[0]))

    def differ_most(self, count: int) -> tuple[list[int], list[int]]:
        """Indices of the videos that the first knows best compared to the second, and the other way round."""
        order = np.argsort(-self.gaps, kind="stable")
        up = [int(i) for i in order[:count] if self.gaps[i] > 0]
        down = [int(i) for i in order[::-1][:count] if self.gaps[i] < 0]
        return up, down


def match(source: Source, against: Source) -> tuple[Source, Source, Sides]:
    """Two folders, each with that evaluation first which is of the same videos as the other's, and both side by side.

    Raises:
        DualPathError: one has no evaluation, or none of theirs are of the same videos and classes.
    """
    for one in (source, against):
        if not one.evaluations:
            raise DualPathError(
                f"{one.folder} holds no evaluation to compare; make one with dualpath evaluate {one.folder} DATA"
            )
    refused: list[DualPathError] = []
    pairs = [(i, j) for i in range(len(source.evaluations)) for j in range(len(against.evaluations))]
    for i, j in sorted(pairs, key=lambda pair: (sum(pair), pair)):
        ours, theirs = source.evaluations[i], against.evaluations[j]
        if ours.folder.resolve() == theirs.folder.resolve():
            refused.append(DualPathError(f"{ours.folder} would be compared with itself; give another folder with --against"))
            continue
        if (i, j) != (0, 0) and (ours.shuffled != theirs.shuffled or ours.videos != theirs.videos):
            continue
        try:
            return source.with_first(i), against.with_first(j), side_by_side(ours.read(), theirs.read())
        except DualPathError as problem:
            refused.append(problem)
    raise refused[0]


def side_by_side(first: Evaluation, second: Evaluation) -> Sides:
    """Matches videos by name and label, classes by name.

    Raises:
        DualPathError: they are not of the same classes, or not of the same videos.
    """
    ours, theirs = set(first.classes), set(second.classes)
    if ours != theirs:
        odd = sorted(ours ^ theirs)
        raise DualPathError(
            f"the two cannot be compared: they are not of the same classes ({len(first.classes)} and {len(second.classes)}, "
            f"'{odd[0]}' is in one of them only); evaluate both on the same data"
        )
    places = {_key(second, index): index for index in range(len(second.videos))}
    keys = [_key(first, index) for index in range(len(first.videos))]
    if set(keys) != places.keys() or len(keys) != len(second.videos):
        shared = len(set(keys) & places.keys())
        raise DualPathError(
            f"the two cannot be compared: they are not of the same videos ({len(keys)} and {len(second.videos)}, of which "
            f"{shared} have the same name and label); evaluate both on the same split of the same data"
        )
    order = [places[key] for key in keys]
    columns = [second.classes.index(name) for name in first.classes]
    turned = {old: new for new, old in enumerate(order)}
    second = replace(
        second,
        classes=first.classes,
        videos=first.videos,
        scores=second.scores[np.ix_(order, columns)],
        failures={turned[index]: reason for index, reason in second.failures.items()},
        damaged={turned[index]: told for index, told in second.damaged.items()},
    )
    a, b = (found.predictions == found.labels for found in (first, second))
    return Sides(
        first,
        second,
        paired_bootstrap(a, b),
        both=int((a & b).sum()),
        only_first=int((a & ~b).sum()),
        only_second=int((~a & b).sum()),
        neither=int((~a & ~b).sum()),
    )


def _key(evaluation: Evaluation, index: int) -> tuple[str, str]:
    video = evaluation.videos[index]
    return video.name, evaluation.classes[video.label]
