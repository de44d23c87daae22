"""Which classes a model tells by the order of frames and which by their look: exact tests on counts, no videos, no model.

For a class and a row (a way of showing the videos) two things are counted: hits, videos of the class that are taken for it,
and alarms, videos of other classes that are taken for it. A class that everything is taken for has all hits and all alarms,
and is not told from anything. So a row is judged by

    J = hits / videos of the class - alarms / other videos          (Youden 1950: 0 is guessing, 1 is never wrong)

Three questions, with exact tests, each corrected over all classes and rows that it is asked of (Holm 1979), at 5 %:

    told    is J of one row above 0?                   one-sided, Fisher's test of hits against alarms
    better  is J of frames in order another than J     two-sided, McNemar's test on the videos that the two rows take for the
            of a row of the same videos?               class differently: each may as well have been the other way round

and from the answers the verdict, see `verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from dualpath.engine.paired import coins

HALF = 0.5
"""What one frame must reach of J in order to be said to tell a class: to be above chance is little among many classes."""
ALPHA = 0.05
"""What is less likely by chance alone counts as shown."""

IN_ORDER, REVERSED, SHUFFLED, ONE_FRAME = "in_order", "reversed", "shuffled", "one_frame"
ASKED_TOLD = (IN_ORDER, SHUFFLED, ONE_FRAME)
ASKED_BETTER = (REVERSED, SHUFFLED, ONE_FRAME)

VERDICTS = {
    "motion": "the order of frames tells it; one frame tells it less than half as well, or not at all",
    "both": "one frame tells it at least half as well as frames in order do, but these tell it better",
    "appearance": "one frame tells it; that frames in order tell it better was not shown",
    "frames": "several frames tell it, in any order; that one frame or their order does was not shown",
    "unrecognised": "not told from the other classes, frames in order",
    "too few": "too few videos to say",
}
"""What a class can be, and what that means."""


@dataclass(frozen=True)
class ClassWorth:
    """What tells one class.

    Attributes:
        label: of the class.
        videos: of the class, undecodable ones included.
        others: videos of the other classes.
        hits: by row, how many of `videos` were taken for the class.
        alarms: by row, how many of `others` were.
        told: by row of ASKED_TOLD, the corrected p-value.
        better: by row of ASKED_BETTER, the corrected p-value of frames in order being better or worse than it.
        verdict: one of VERDICTS; None if there are no videos of the class.
    """

    label: int
    videos: int
    others: int
    hits: dict[str, int]
    alarms: dict[str, int]
    told: dict[str, float]
    better: dict[str, float]
    verdict: str | None

    def share(self, row: str) -> float:
        """Accuracy on the videos of the class."""
        return self.hits[row] / self.videos

    def index(self, row: str) -> float:
        """J, see above."""
        return self.hits[row] / self.videos - self.alarms[row] / max(1, self.others)


def judge(
    labels: Int64[np.ndarray, " n"], predictions: Mapping[str, Int64[np.ndarray, " n"]], num_classes: int
) -> list[ClassWorth]:
    """Every class with its verdict.

    Args:
        labels: of the videos.
        predictions: by row, at least those of ASKED_TOLD and ASKED_BETTER; -1 for an undecodable video.
        num_classes: how many there are.
    """
    counts, raw_told, raw_better = [], [], []
    present = [label for label in range(num_classes) if (labels == label).any()]
    for label in range(num_classes):
        inside = labels == label
        says = {row: guesses == label for row, guesses in predictions.items()}
        hits = {row: int(said[inside].sum()) for row, said in says.items()}
        alarms = {row: int(said[~inside].sum()) for row, said in says.items()}
        counts.append((int(inside.sum()), int((~inside).sum()), hits, alarms))
        if label in present:
            of_class, others = counts[-1][:2]
            raw_told += [p_told(hits[row], of_class, alarms[row], others) for row in ASKED_TOLD]
            raw_better += [p_better(says[IN_ORDER], says[row], inside) for row in ASKED_BETTER]
    told, better = _shared_out(raw_told, present, ASKED_TOLD), _shared_out(raw_better, present, ASKED_BETTER)
    found = []
    for label, (of_class, others, hits, alarms) in enumerate(counts):
        bare = ClassWorth(label, of_class, others, hits, alarms, told.get(label, {}), better.get(label, {}), None)
        name = verdict(bare, tests=len(present)) if of_class else None
        found.append(ClassWorth(label, of_class, others, hits, alarms, bare.told, bare.better, name))
    return found


def verdict(found: ClassWorth, *, tests: int) -> str:
    """The verdict on a class that has videos, by the first of these lines that holds.

        unrecognised   in order it is not told
        order counts   frames in order are better than reversed or than shuffled ones:
          both           and one frame tells it
          motion         and it does not
        too few        even if the other order had lost each hit in order, that would not have been shown
        appearance     one frame tells it, and frames in order are not better than one
        frames         shuffled frames tell it
        too few        nothing of all this is shown

    One frame tells a class if its J is shown to be above 0 and is at least half of J in order. A class that is unrecognised
    is "too few", too, if its videos, all hit and without alarms, would not have told it.

    Args:
        found: its counts and corrected p-values.
        tests: classes with videos, over which p-values were corrected.
    """
    if found.told[IN_ORDER] > ALPHA:
        could = p_told(found.videos, found.videos, 0, found.others) * tests * len(ASKED_TOLD) <= ALPHA
        return "unrecognised" if could else "too few"
    ahead = {row: found.better[row] <= ALPHA and found.index(IN_ORDER) > found.index(row) for row in ASKED_BETTER}
    still = found.told[ONE_FRAME] <= ALPHA and found.index(ONE_FRAME) >= HALF * found.index(IN_ORDER)
    if ahead[REVERSED] or ahead[SHUFFLED]:
        return "both" if still else "motion"
    if min(1.0, 2 * 0.5 ** found.hits[IN_ORDER]) * tests * len(ASKED_BETTER) > ALPHA:
        return "too few"
    if still and not ahead[ONE_FRAME]:
        return "appearance"
    return "frames" if found.told[SHUFFLED] <= ALPHA else "too few"


def p_told(hits: int, videos: int, alarms: int, others: int) -> float:
    """Fisher's exact test, one-sided: how likely so many hits are if what is taken for the class were dealt out by chance.

    P(X >= hits), where X of `videos` are among `hits + alarms` drawn from `videos + others`.
    """
    taken, count = hits + alarms, videos + others
    ways = sum(math.comb(taken, x) * math.comb(count - taken, videos - x) for x in range(hits, min(videos, taken) + 1))
    return ways / math.comb(count, videos)


def p_better(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], inside: Bool[np.ndarray, " n"]) -> float:
    """McNemar's exact test of two rows' J, two-sided.

    Only the videos that the rows differ on count, each with the weight that it has in J: 1 / videos of the class, or
    1 / other videos. If the rows were alike, each of these might as well differ the other way round; the p-value is the
    probability that sides drawn so make as great a difference of J or a greater one. Without alarms on either side it is
    McNemar's test on the videos of the class.

    Args:
        first: which videos are taken for the class in one row.
        second: in the other row.
        inside: which videos are of the class.
    """
    of_class, others = int(inside.sum()), max(1, int((~inside).sum()))
    differ = first != second
    m, k = int((differ & inside).sum()), int((differ & ~inside).sum())
    gained = 2 * int((first & differ & inside).sum()) - m
    alarmed = 2 * int((first & differ & ~inside).sum()) - k
    seen = abs(gained * others - alarmed * of_class)  # J's difference in whole numbers, times both counts
    if seen == 0:
        return 1.0
    # With i of m hits on the first row's side, at least so many of k alarms must be on the second's.
    least = -((others * (2 * np.arange(m + 1) - m) - of_class * k - seen) // (2 * of_class))
    behind = np.append(np.cumsum(coins(k)[::-1])[::-1], 0.0)
    return min(1.0, 2 * float(coins(m) @ behind[np.clip(least, 0, k + 1)]))


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: the least times n, the next times n - 1, and so on, never falling."""
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected


def _shared_out(raw: Sequence[float], labels: Sequence[int], rows: Sequence[str]) -> dict[int, dict[str, float]]:
    """Corrected p-values by class and row, from a list of them class by class."""
    corrected = holm(raw)
    return {
        label: dict(zip(rows, corrected[i * len(rows) : (i + 1) * len(rows)], strict=True)) for i, label in enumerate(labels)
    }
