"""What the planner leaves out is never missed: against streams whose references are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualpath.video.decoding.leaps import Entry, leaps, order_of_presentation, reordering


@dataclass
class Stream:
    """Packets in decoding order, and what each one refers to."""

    entries: list[Entry]
    refers: list[set[int]]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Groups of pictures, open or closed: an I, then P's, each followed by b's shown before it, some referred to."""
    pts: list[int] = []
    refers: list[set[int]] = []
    starts: list[bool] = []
    clock, anchor = 0, -1
    for group in range(draw(st.integers(1, 4))):
        for place in range(draw(st.integers(1, 4))):
            between = draw(st.integers(0, 3)) if pts else 0
            closed = place == 0 and draw(st.booleans())
            between = 0 if closed else between
            number = len(pts)
            pts.append(clock + between)
            starts.append(place == 0 and (group == 0 or draw(st.booleans())))
            refers.append(set() if starts[-1] else {anchor})
            earlier: list[int] = []
            for k in range(between):
                pts.append(clock + k)
                starts.append(False)
                refers.append({anchor, number} | (draw(st.sets(st.sampled_from(earlier))) if earlier else set()))
                earlier.append(len(pts) - 1)
            clock, anchor = clock + between + 1, number
    steps = np.cumsum(draw(st.lists(st.integers(1, 9), min_size=clock, max_size=clock)))
    hidden = [draw(st.integers(0, 5)) == 0 for _ in pts]
    used = set().union(*refers)
    entries = [
        Entry(int(steps[t]), hidden=h, starts=s, needless=k not in used and not s)
        for k, (t, s, h) in enumerate(zip(pts, starts, hidden, strict=True))
    ]
    return Stream(entries, refers)


def needs(stream: Stream, packet: int) -> set[int]:
    """All that must be decoded to see one picture: itself, what it refers to, and so on."""
    return {packet}.union(*(needs(stream, other) for other in stream.refers[packet]))


@given(streams(), st.data())
def test_nothing_that_is_needed_is_left_out(stream: Stream, data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, len(stream.entries) - 1), min_size=1))
    runs = leaps(stream.entries, wanted)
    assert sorted(k for run in runs for k in run.wanted) == sorted(wanted)
    for run in runs:
        assert stream.entries[run.packets[0]].starts
        assert run.since == stream.entries[run.packets[0]].pts
        assert list(run.packets) == sorted(set(run.packets))
        for packet in run.wanted:
            assert stream.entries[packet].pts >= run.since
            assert needs(stream, packet) <= set(run.packets)
    fed = [k for run in runs for k in run.packets]
    assert fed == sorted(set(fed))
    assert fed[-1] == max(wanted)
    assert not [k for k in fed if stream.entries[k].needless and k not in wanted]


@given(streams())
def test_nothing_is_decoded_that_a_key_frame_spares(stream: Stream) -> None:
    for packet, entry in enumerate(stream.entries):
        (run,) = leaps(stream.entries, [packet])
        spared = [k for k, e in enumerate(stream.entries) if e.starts and run.packets[0] < k <= packet and e.pts <= entry.pts]
        assert not spared


@given(streams())
def test_order_and_reordering_are_what_a_player_does(stream: Stream) -> None:
    order = order_of_presentation(stream.entries)
    assert order is not None
    shown = [k for k, entry in enumerate(stream.entries) if not entry.hidden]
    assert sorted(order) == shown
    assert [stream.entries[k].pts for k in order] == sorted(stream.entries[k].pts for k in shown)
    times = [entry.pts for entry in stream.entries]
    depth = max(sum(earlier > now for earlier in times[:k]) for k, now in enumerate(times))
    assert reordering(stream.entries) == depth


def test_doubtful_orders_are_refused() -> None:
    key, p = Entry(0, starts=True), Entry(2)
    assert order_of_presentation([key, p, Entry(1, needless=True)]) == [0, 2, 1]
    assert order_of_presentation([]) is None
    assert order_of_presentation([key, p, Entry(2)]) is None
    assert order_of_presentation([p, key]) is None
    assert order_of_presentation([key, Entry(-1)]) is None


def test_a_leading_picture_is_decoded_from_the_key_frame_before() -> None:
    entries = [Entry(0, starts=True), Entry(3), Entry(1, needless=True), Entry(6, starts=True), Entry(5), Entry(8)]
    runs = leaps(entries, [5, 4])  # packet 4 is shown before key picture 3, packet 5 after it: one run from the first
    assert [run.packets for run in runs] == [(0, 1, 3, 4, 5)]
    assert [run.packets for run in leaps(entries, [2, 5])] == [(0, 1, 2), (3, 4, 5)]
    assert [run.since for run in leaps(entries, [2, 5])] == [0, 6]
