"""What docs/protocols.md says of other projects' sampling beside ours, checked against literal versions of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.video import sampling
from dualpath.video.sampling import SamplingConfig, crop_boxes
from oracles import protocols as oracle

Dense = Callable[[int, int, int, int], list[list[int]]]
LENGTHS = range(64, 401)
DENSE: dict[str, Dense] = {
    "SlowFast, Kinetics [2]": oracle.slowfast_dense,
    "SlowFast, Kinetics, later option [2]": oracle.slowfast_dense_offset,
    "VideoMAE, Kinetics [4]": oracle.videomae_dense,
    "DualPath's authors [5]": oracle.authors_dense,
    "AIM, Kinetics [6] (MMAction2 0.x)": oracle.aim_dense,
    "MMAction2 1.x, `SampleFrames` [7]": oracle.mmaction_dense,
    "torchcodec, `clips_at_*_indices` [8]": oracle.torchcodec_dense,
}
SEGMENT: dict[str, Callable[[int, int], list[list[int]]]] = {
    "TSN [1]": lambda total, frames: [oracle.tsn(total, frames)],
    "SlowFast, SSv2 [3]": lambda total, frames: [oracle.slowfast_segment(total, frames)],
    "VideoMAE, SSv2 [4]": oracle.videomae_segment,
    "AIM, SSv2 and Diving48 [6]": lambda total, frames: [oracle.slowfast_segment(total, frames)],
}


@cache
def table() -> dict[str, list[str]]:
    """The rows of the document's table by their first cell, without its stars."""
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| **")]
    return {row[0].replace("**", ""): row for row in rows}


def ours(total: int, name: str, clips: int) -> np.ndarray:
    return sampling.test_indices(total, SamplingConfig.from_name(name), num_clips=clips)


def most(pairs: list[tuple[np.ndarray, list[list[int]]]]) -> int:
    assert all(mine.shape == np.shape(theirs) for mine, theirs in pairs)
    return max(int(np.abs(mine - np.array(theirs)).max()) for mine, theirs in pairs)


def test_the_table_has_a_row_for_each() -> None:
    known = {"dualpath, dense", "dualpath, segment", "MMAction2 1.x, `UniformSampleFrames` [7]"}
    assert set(table()) == known | set(DENSE) | set(SEGMENT)
    assert {len(row) for row in table().values()} == {7}


@pytest.mark.parametrize("who", DENSE)
def test_dense_clips_begin_and_differ_as_the_table_says(who: str) -> None:
    *_, begins, differs = table()[who]
    assert begins == ", ".join(str(clip[0]) for clip in DENSE[who](300, 16, 4, 3))
    pairs = [
        (ours(total, f"dense-{frames}x{rate}", 3), DENSE[who](total, frames, rate, 3))
        for frames, rate in ((16, 4), (32, 2))
        for total in LENGTHS
    ]
    assert differs == str(most(pairs))


@pytest.mark.parametrize("who", SEGMENT)
def test_segment_clips_begin_and_differ_as_the_table_says(who: str) -> None:
    *_, begins, differs = table()[who]
    assert begins == "; ".join(", ".join(map(str, clip[:3])) for clip in SEGMENT[who](300, 16))
    clips = len(SEGMENT[who](300, 16))
    pairs = [
        (ours(total, f"segment-{frames}", clips), SEGMENT[who](total, frames)) for frames in (8, 16, 32) for total in LENGTHS
    ]
    assert differs == str(most(pairs))


def test_ours_begin_as_the_table_says() -> None:
    assert table()["dualpath, dense"][5] == ", ".join(map(str, ours(300, "dense-16x4", 3)[:, 0]))
    assert table()["dualpath, segment"][5] == ", ".join(map(str, ours(300, "segment-16", 1)[0, :3]))


# --- testing


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 9), st.integers(1, 10))
def test_who_takes_the_same_frames_as_we(total: int, frames: int, rate: int, clips: int) -> None:
    dense = ours(total, f"dense-{frames}x{rate}", clips)
    long = total >= (frames - 1) * rate + 1
    if long:
        assert (np.abs(dense - oracle.mmaction_dense(total, frames, rate, clips)) <= 1).all()
        if clips <= 2:
            assert dense.tolist() == oracle.mmaction_dense(total, frames, rate, clips)
        if clips > 1:
            assert dense.tolist() == oracle.torchcodec_dense(total, frames, rate, clips)
    if total >= frames:
        # Floats: where T is no power of two, theirs lose a frame now and then.
        apart = np.abs(ours(total, f"segment-{frames}", 1) - oracle.tsn(total, frames)).max()
        assert apart <= (0 if frames.bit_count() == 1 else 1)
    if total >= 2 * frames:
        assert np.abs(ours(total, f"segment-{frames}", 1) - oracle.slowfast_segment(total, frames)).max() <= 1


def steps(clips: list[list[int]]) -> set[int]:
    return {int(step) for step in np.diff(clips, axis=1).ravel()}


def test_the_steps_of_others_are_uneven_and_ours_are_not() -> None:
    assert steps(ours(300, "dense-16x4", 3).tolist()) == {4}
    assert steps(oracle.slowfast_dense(300, 16, 4, 3)) == {4, 5}
    assert steps(oracle.slowfast_dense_offset(300, 16, 4, 3)) == {4, 5}
    assert steps(oracle.videomae_dense_train(300, 16, 4)) == {4, 5}
    for even in (oracle.videomae_dense, oracle.authors_dense, oracle.aim_dense, oracle.mmaction_dense, oracle.torchcodec_dense):
        assert steps(even(300, 16, 4, 3)) == {4}


def test_which_clips_reach_the_end_of_a_video() -> None:
    unseen = {who: 299 - clips(300, 16, 4, 3)[-1][-1] for who, clips in DENSE.items()}
    assert 299 - ours(300, "dense-16x4", 3)[-1, -1] == 0
    assert list(unseen.values()) == [79, 0, 3, 83, 42, 0, 0]
    assert oracle.aim_dense(300, 16, 4, 3)[0][0] == 39  # nor the beginning


def test_what_one_clip_is() -> None:
    first = [who for who, clips in DENSE.items() if "VideoMAE" not in who and clips(300, 16, 4, 1)[0][0] == 0]
    assert first == ["SlowFast, Kinetics [2]", "DualPath's authors [5]", "torchcodec, `clips_at_*_indices` [8]"]
    assert ours(300, "dense-16x4", 1)[0, 0] == (300 - 61) // 2
    with pytest.raises(ZeroDivisionError):
        oracle.videomae_dense(300, 16, 4, 1)


def test_videomaes_two_clips_are_begins_and_centres_and_ours_lie_at_quarters() -> None:
    begins, centres = oracle.videomae_segment(160, 16)
    assert (begins[:3], centres[:3]) == ([0, 10, 20], [5, 15, 25])
    assert ours(160, "segment-16", 2)[:, :3].tolist() == [[2, 12, 22], [7, 17, 27]]
    for total in LENGTHS:
        quarter = total / 16 / 4
        assert np.abs(ours(total, "segment-16", 2) - oracle.videomae_segment(total, 16)).max() <= quarter + 1


def test_tsns_first_code_leaves_out_the_end() -> None:
    assert oracle.tsn_caffe(300, 25)[-3:] == [264, 276, 288]
    assert oracle.tsn_caffe(48, 25)[-3:] == [22, 23, 24]  # half of the video
    assert ours(48, "segment-25", 1)[0, -3:].tolist() == [43, 45, 47]


# --- too short


def test_videos_that_are_too_short() -> None:
    """31 frames for a span of 61, and 7 for 16 parts."""
    front = list(range(0, 31, 4))
    assert ours(31, "dense-16x4", 1)[0].tolist() == front + [30] * 8
    for repeating in (oracle.videomae_dense, oracle.authors_dense, oracle.torchcodec_dense):
        assert repeating(31, 16, 4, 3)[0] == front + [28] * 8
    for looping in (oracle.aim_dense, oracle.mmaction_dense):
        assert looping(31, 16, 4, 3)[0] == [*front, *range(1, 31, 4)]
    assert oracle.slowfast_dense(31, 16, 4, 3)[0] == [0, 4, 8, 12, 16, 21, 25, 29] + [30] * 8
    evenly = [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6]
    assert oracle.tsn(7, 16) == evenly
    assert oracle.slowfast_segment(7, 16) == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6]
    assert ours(7, "segment-16", 1)[0].tolist() == [0, 1, 2, 3, 4, 5] + [6] * 10
    assert oracle.videomae_segment(7, 16)[0][:6] == [0, 0, 0, 1, 1, 2]
    assert oracle.tsn_choices(7, 16) == [[0]] * 16


# --- training


@pytest.mark.parametrize(
    ("total", "frames", "rate"), [(300, 16, 4), (64, 16, 4), (61, 16, 4), (60, 16, 4), (80, 8, 8), (9, 4, 1)]
)
def test_starts_that_are_drawn_in_training(total: int, frames: int, rate: int) -> None:
    mine, theirs = oracle.dense_starts(total, frames, rate), oracle.mmaction_dense_starts(total, frames, rate)
    last = max(0, total - ((frames - 1) * rate + 1))
    assert mine == list(range(last + 1))
    assert theirs == list(range(max(0, last - (rate - 1)) + 1))


def test_uneven_steps_of_training() -> None:
    clips = oracle.videomae_dense_train(300, 16, 4)
    assert len(clips) == 300 - 64
    assert clips[0] == [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]
    assert clips[-1][-1] == 298  # the last frame is never drawn
    (short,) = oracle.videomae_dense_train(31, 16, 4)
    assert short == [0, 5, 10, 15, 20, 25] + [30] * 10


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40))
def test_parts_that_are_drawn_from_in_training(total: int, frames: int) -> None:
    mine, tsns = oracle.segment_choices(total, frames), oracle.tsn_choices(total, frames)
    if total >= frames:
        assert sorted(frame for part in mine for frame in part) == list(range(total))
        seen = sorted(frame for part in tsns for frame in part)
        assert seen == list(range(total - total % frames))
    if total >= 2 * frames:
        assert mine == oracle.mmaction_segment_choices(total, frames)
    theirs = oracle.slowfast_segment_choices(total, frames)
    assert all(before[-1] == after[0] for before, after in pairwise(theirs))
    assert (theirs[0][0], theirs[-1][-1]) == (0, total - 1)


# --- crops


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(0, 300), st.integers(1, 6))
def test_crops_of_others(size: int, more: int, count: int) -> None:
    length = size + more
    mine = [left for _, left in crop_boxes(size, length, size=size, num_crops=count)]
    if count > 1:
        assert np.abs(np.array(mine) - oracle.videomae_crops(length, size, count)).max() <= 1
    assert oracle.authors_crops(length, size, count)[-1] == int((count - 1) * (more / count))
    assert count == 1 or more == 0 or oracle.authors_crops(length, size, count)[-1] < length - size
    if count == 3:
        first, middle, last = mine
        assert oracle.slowfast_crops(length, size) == [first, middle + more % 2, last]
        assert oracle.mmaction_crops(length, size) == [first, middle, last - more % 2]


def test_crops_of_a_wide_picture() -> None:
    assert [left for _, left in crop_boxes(224, 399, size=224, num_crops=3)] == [0, 87, 175]
    assert oracle.authors_crops(399, 224, 3) == [0, 58, 116]
    assert oracle.authors_crops(399, 224, 1) == [0]
    assert oracle.mmaction_crops(399, 224) == [0, 87, 174]
    assert oracle.slowfast_crops(399, 224) == [0, 88, 175]
    with pytest.raises(ZeroDivisionError):
        oracle.videomae_crops(399, 224, 1)


def test_every_source_that_is_cited_is_named() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    cited = {number for row in table().values() for number in re.findall(r"\[(\d)\]", row[0])}
    assert cited == set(re.findall(r"^(\d)\. `\S+/\S+`", text, re.MULTILINE)) == set("12345678")
