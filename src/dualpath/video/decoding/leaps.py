"""Which packets must be decoded to see some pictures: whole numbers in, whole numbers out, no files.

    packets in decoding order   I0  P1  b2  P3  I4  b5  P6  b7        I: may start here   b: no other picture needs it
    presented as                 0   2   1   3   5   4   7   6
    wanted: picture 6 (b7)       .   .   .   .   I4  .   P6  b7       one leap to I4; b5 is left out

Nothing is sought in the container: all packets are read, in order, and those that are not needed are not decoded.
Reading is a hundred times cheaper than decoding, and whatever containers get wrong about seeking cannot go wrong.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A packet as the planner sees it.

    Attributes:
        pts: presentation time, ticks.
        hidden: an edit list keeps its picture from being shown.
        starts: decoding may start here: what is presented from here on comes out exactly.
        needless: no other picture refers to it.
    """

    pts: int
    hidden: bool = False
    starts: bool = False
    needless: bool = False


@dataclass(frozen=True)
class Run:
    """Packets to decode in one go, after the decoder has forgotten all before.

    Attributes:
        packets: their numbers, ascending.
        wanted: of those, the ones whose pictures are wanted.
        since: presentation time of the first one: pictures before it lack what they refer to.
    """

    packets: tuple[int, ...]
    wanted: frozenset[int]
    since: int


def order_of_presentation(entries: Sequence[Entry]) -> list[int] | None:
    """The number of the packet that holds picture 0, 1, ..; None if packets and pictures may not be one to one.

    Then the first packet does not start a stream, is not presented first, or times are not all different.
    """
    times = [entry.pts for entry in entries]
    if not entries or len(set(times)) < len(times) or not entries[0].starts or min(times) != times[0]:
        return None
    return sorted((k for k, entry in enumerate(entries) if not entry.hidden), key=times.__getitem__)


def reordering(entries: Sequence[Entry]) -> int:
    """How many pictures a decoder must hold back at most to hand all of them over in order of presentation."""
    seen: list[int] = []
    depth = 0
    for entry in entries:
        depth = max(depth, len(seen) - bisect_right(seen, entry.pts))
        insort(seen, entry.pts)
    return depth


def leaps(entries: Sequence[Entry], wanted: Iterable[int]) -> list[Run]:
    """The packets to decode for the wanted ones, in runs.

    Args:
        entries: all packets in decoding order; the first one `starts`.
        wanted: numbers of packets.

    Returns:
        Runs in decoding order. In each, the first packet starts, and between it and the last one wanted nothing is
        left out but what is needless and not wanted.
    """
    starts = [k for k, entry in enumerate(entries) if entry.starts]
    runs: list[tuple[int, int, set[int]]] = []
    for packet in sorted(set(wanted)):
        at = bisect_right(starts, packet) - 1
        while entries[starts[at]].pts > entries[packet].pts:  # presented before the key picture: may refer past it
            at -= 1
        first, several = starts[at], {packet}
        while runs and first <= runs[-1][1]:
            earlier, _, others = runs.pop()
            first, several = min(first, earlier), several | others
        runs.append((first, packet, several))
    return [
        Run(
            tuple(k for k in range(first, last + 1) if k in several or k == first or not entries[k].needless),
            frozenset(several),
            entries[first].pts,
        )
        for first, last, several in runs
    ]
