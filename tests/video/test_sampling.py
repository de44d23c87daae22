"""Index maths: tables written by hand, and properties that hold for every length."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.errors import DualPathError
from dualpath.video import sampling
from dualpath.video.sampling import SamplingConfig, crop_boxes, train_indices
from oracles import protocols as oracle

SEGMENT_4 = SamplingConfig(num_frames=4)
DENSE_4x2 = SamplingConfig(num_frames=4, sampling="dense", sampling_rate=2)  # spans 7 frames

TOTALS = st.integers(1, 400)
CLIPS = st.integers(1, 10)
CONFIGS = st.builds(
    SamplingConfig,
    num_frames=st.integers(1, 40),
    sampling=st.sampled_from(["segment", "dense"]),
    sampling_rate=st.integers(1, 8),
)


@pytest.mark.parametrize(
    ("config", "total", "clips", "expected"),
    [
        (SEGMENT_4, 8, 1, [[1, 3, 5, 7]]),
        (SEGMENT_4, 10, 1, [[1, 3, 6, 8]]),
        (SEGMENT_4, 16, 2, [[1, 5, 9, 13], [3, 7, 11, 15]]),
        (SEGMENT_4, 40, 1, [[5, 15, 25, 35]]),
        (SEGMENT_4, 4, 3, [[0, 1, 2, 3]] * 3),
        (SEGMENT_4, 3, 2, [[0, 1, 2, 2]] * 2),
        (SEGMENT_4, 1, 1, [[0, 0, 0, 0]]),
        (DENSE_4x2, 7, 3, [[0, 2, 4, 6]] * 3),
        (DENSE_4x2, 12, 1, [[2, 4, 6, 8]]),
        (DENSE_4x2, 12, 3, [[0, 2, 4, 6], [2, 4, 6, 8], [5, 7, 9, 11]]),
        (DENSE_4x2, 5, 1, [[0, 2, 4, 4]]),
        (DENSE_4x2, 1, 2, [[0, 0, 0, 0]] * 2),
        (SamplingConfig(num_frames=1), 9, 1, [[4]]),
        (SamplingConfig(num_frames=1), 9, 3, [[1], [4], [7]]),
    ],
)
def test_test_clips_by_table(config: SamplingConfig, total: int, clips: int, expected: list[list[int]]) -> None:
    got = sampling.test_indices(total, config, num_clips=clips)
    assert got.dtype == np.int64
    assert got.tolist() == expected


def test_published_views_of_a_ten_second_clip() -> None:
    kinetics = SamplingConfig(num_frames=16, sampling="dense", sampling_rate=4)
    views = sampling.test_indices(300, kinetics, num_clips=3)
    assert views[:, 0].tolist() == [0, 119, 239]
    assert views[:, -1].tolist() == [60, 179, 299]
    assert set(np.diff(views, axis=1).ravel().tolist()) == {4}
    segments = sampling.test_indices(160, SamplingConfig(num_frames=16), num_clips=2)
    assert segments[:, 0].tolist() == [2, 7]
    assert set(np.diff(segments, axis=1).ravel().tolist()) == {10}


@pytest.mark.parametrize(
    ("total", "config", "expected"),
    [
        (3, SEGMENT_4, [0, 1, 2, 2]),
        (4, SEGMENT_4, [0, 1, 2, 3]),
        (7, DENSE_4x2, [0, 2, 4, 6]),
        (4, DENSE_4x2, [0, 2, 3, 3]),
        (1, SEGMENT_4, [0, 0, 0, 0]),
    ],
)
def test_training_clips_without_a_choice(total: int, config: SamplingConfig, expected: list[int]) -> None:
    for seed in range(5):
        assert train_indices(total, config, np.random.default_rng(seed)).tolist() == expected


def test_training_draws_reach_every_frame_about_equally_often() -> None:
    rng = np.random.default_rng(0)
    segment = np.stack([train_indices(10, SEGMENT_4, rng) for _ in range(3000)])
    # 10 frames in 4 segments: {0, 1}, {2, 3, 4}, {5, 6}, {7, 8, 9}
    for column, (first, count) in enumerate([(0, 2), (2, 3), (5, 2), (7, 3)]):
        shares = np.bincount(segment[:, column] - first, minlength=count) / 3000
        np.testing.assert_allclose(shares, np.full(count, 1 / count), atol=0.04)
    starts = np.stack([train_indices(10, DENSE_4x2, rng) for _ in range(2000)])[:, 0]
    np.testing.assert_allclose(np.bincount(starts) / 2000, [0.25] * 4, atol=0.04)


@settings(max_examples=200, deadline=None)
@given(total=TOTALS, config=CONFIGS, seed=st.integers(0, 2**32 - 1))
def test_training_clips_hold_for_every_length(total: int, config: SamplingConfig, seed: int) -> None:
    got = train_indices(total, config, np.random.default_rng(seed))
    again = train_indices(total, config, np.random.default_rng(seed))
    assert got.shape == (config.num_frames,)
    assert (got == again).all()
    assert got.min() >= 0
    assert got.max() < total
    assert (np.diff(got) >= 0).all()
    if config.sampling == "dense" and total >= config.span:
        assert set(np.diff(got).tolist()) <= {config.sampling_rate}
    if config.sampling == "segment" and total >= config.num_frames:
        assert (got * config.num_frames // total >= np.arange(config.num_frames) - 1).all()
        assert (np.diff(got) > 0).all()


@settings(max_examples=300, deadline=None)
@given(total=TOTALS, config=CONFIGS, clips=CLIPS)
def test_test_clips_hold_for_every_length(total: int, config: SamplingConfig, clips: int) -> None:
    got = sampling.test_indices(total, config, num_clips=clips)
    assert got.shape == (clips, config.num_frames)
    assert (got == sampling.test_indices(total, config, num_clips=clips)).all()
    assert got.min() >= 0
    assert got.max() < total
    assert (np.diff(got, axis=1) >= 0).all()
    assert (np.diff(got, axis=0) >= 0).all()
    if config.sampling == "dense" and total >= config.span:
        assert set(np.diff(got, axis=1).ravel().tolist()) <= {config.sampling_rate}
        if clips > 1:
            assert got[0, 0] == 0
            assert got[-1, -1] == total - 1
            starts = np.diff(got[:, 0])
            assert starts.max() - starts.min() <= 1
        else:
            assert abs(int(got[0, 0]) - (total - 1 - int(got[0, -1]))) <= 1
    if config.sampling == "segment" and total >= config.num_frames:
        steps = np.diff(got, axis=1)
        assert steps.size == 0 or steps.max() - steps.min() <= 1
        if total % config.num_frames == 0:
            assert set(steps.ravel().tolist()) <= {total // config.num_frames}
        if total >= clips * config.num_frames:
            assert (np.diff(got, axis=0) > 0).all()


@settings(max_examples=300, deadline=None)
@given(total=TOTALS, config=CONFIGS, clips=CLIPS)
def test_test_clips_equal_the_literal_ones(total: int, config: SamplingConfig, clips: int) -> None:
    assert sampling.test_indices(total, config, num_clips=clips).tolist() == literal(total, config, clips)


@settings(max_examples=200, deadline=None)
@given(total=TOTALS, config=CONFIGS, seed=st.integers(0, 2**32 - 1))
def test_training_clips_are_drawn_from_the_literal_choices(total: int, config: SamplingConfig, seed: int) -> None:
    got = train_indices(total, config, np.random.default_rng(seed)).tolist()
    if config.sampling == "dense":
        assert got[0] in oracle.dense_starts(total, config.num_frames, config.sampling_rate)
        assert got == [min(got[0] + step * config.sampling_rate, total - 1) for step in range(config.num_frames)]
    else:
        choices = oracle.segment_choices(total, config.num_frames)
        assert all(frame in part for frame, part in zip(got, choices, strict=True))


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 40), clips=st.integers(2, 10), more=st.integers(0, 300))
def test_segment_views_share_no_frame_once_segments_have_one_for_each(frames: int, clips: int, more: int) -> None:
    views = sampling.test_indices(frames * clips + more, SamplingConfig(frames), num_clips=clips)
    assert len(np.unique(views)) == views.size


# --- golden tables


def literal(total: int, config: SamplingConfig, clips: int) -> list[list[int]]:
    if config.sampling == "dense":
        return oracle.dense(total, config.num_frames, config.sampling_rate, clips)
    return oracle.segment(total, config.num_frames, clips)


def maker() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "make_golden_sampling.py"
    spec = importlib.util.spec_from_file_location("make_golden_sampling", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_golden_tables_are_those_of_the_library_and_of_the_oracle() -> None:
    script = maker()
    written = script.GOLDEN.read_text(encoding="utf-8")
    assert written == script.text()
    expected = {
        f"{name}, {total} frames, {clips} clips": literal(total, SamplingConfig.from_name(name), clips)
        for name in script.PROTOCOLS
        for total in script.LENGTHS
        for clips in script.CLIPS
    }
    for height, width in script.PICTURES:
        for count in script.CROPS:
            along = oracle.crops(max(height, width), script.SIZE, count)
            (across,) = oracle.crops(min(height, width), script.SIZE, 1)
            boxes = [[across, place] if width >= height else [place, across] for place in along]
            expected[f"{script.SIZE} of {height}x{width}, {count} crops"] = boxes
    assert json.loads(written) == expected


# --- crops


@pytest.mark.parametrize(
    ("height", "width", "size", "crops", "expected"),
    [
        (224, 300, 224, 3, [(0, 0), (0, 38), (0, 76)]),
        (301, 224, 224, 3, [(0, 0), (38, 0), (77, 0)]),
        (256, 340, 224, 1, [(16, 58)]),
        (224, 224, 224, 3, [(0, 0)] * 3),
        (256, 256, 224, 2, [(16, 0), (16, 32)]),
    ],
)
def test_crops_by_table(height: int, width: int, size: int, crops: int, expected: list[tuple[int, int]]) -> None:
    assert crop_boxes(height, width, size=size, num_crops=crops) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.integers(1, 9))
def test_crops_lie_inside_and_touch_both_ends(height: int, width: int, size: int, crops: int) -> None:
    size = min(size, height, width)
    boxes = crop_boxes(height, width, size=size, num_crops=crops)
    assert len(boxes) == crops
    assert all(0 <= top <= height - size and 0 <= left <= width - size for top, left in boxes)
    along = [left for _, left in boxes] if width >= height else [top for top, _ in boxes]
    assert along == oracle.crops(max(height, width), size, crops)
    if crops > 1:
        assert (along[0], along[-1]) == (0, max(height, width) - size)
        assert np.ptp(np.diff(along)) <= 1
    else:
        assert along == [(max(height, width) - size) // 2]


def test_what_is_not_allowed_is_named() -> None:
    with pytest.raises(DualPathError, match="num_frames is 0, but it must be 1 or more"):
        SamplingConfig(num_frames=0)
    with pytest.raises(DualPathError, match="sampling_rate is -1"):
        SamplingConfig(sampling_rate=-1)
    wrong = SamplingConfig()
    object.__setattr__(wrong, "sampling", "uniform")  # the tests' type checks would stop it earlier
    with pytest.raises(DualPathError, match="sampling is 'uniform', but it must be one of segment, dense"):
        wrong.__post_init__()
    with pytest.raises(DualPathError, match="total is 0"):
        train_indices(0, SEGMENT_4, np.random.default_rng(0))
    with pytest.raises(DualPathError, match="total is 0"):
        sampling.test_indices(0, SEGMENT_4, num_clips=1)
    with pytest.raises(DualPathError, match="num_clips is 0"):
        sampling.test_indices(9, SEGMENT_4, num_clips=0)
    with pytest.raises(DualPathError, match="crops of 225 pixels do not fit into a picture of 224 x 300"):
        crop_boxes(224, 300, size=225, num_crops=3)
    with pytest.raises(DualPathError, match="num_crops is 0"):
        crop_boxes(224, 300, size=224, num_crops=0)
