"""The folds of a cross-validation: every video is judged once, by a model that knows nothing of its group."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.data.formats.base import Split
from dualpath.data.manifest import DataError, HeldOutFold, Manifest, Video, read_manifest
from dualpath.data.splits import assign_folds, check_folds, choose_val, count_groups, divided_videos, hold_out
from dualpath.errors import DualPathError


def videos_of(labels_and_groups: list[tuple[int, int | None]], *, split: Split = "train") -> list[Video]:
    return [
        Video(Path(f"{split}{i}.mp4"), f"{split}{i}.mp4", label, split, None if group is None else f"g{group}")
        for i, (label, group) in enumerate(labels_and_groups)
    ]


def manifest_of(videos: list[Video], classes: int = 4) -> Manifest:
    return Manifest(Path("data"), tuple("abcd"[:classes]), tuple(sorted(videos, key=lambda video: video.name)), "test")


single = st.lists(st.tuples(st.integers(0, 3), st.none()), min_size=1, max_size=60).map(videos_of)
mixed = st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 8)), min_size=1, max_size=60).map(videos_of)
fold_counts, seeds = st.integers(2, 7), st.integers(0, 99)


@given(mixed, fold_counts, seeds)
def test_each_video_is_in_one_fold_and_no_group_in_two(videos, num_folds, seed):
    folds = assign_folds(videos, num_folds=num_folds, seed=seed)
    assert folds.keys() == {video.name for video in videos}
    assert len(set(folds.values())) == min(num_folds, count_groups(videos))  # no fold is empty for nothing
    assert set(folds.values()) <= set(range(1, num_folds + 1))
    of_group: dict[str, set[int]] = {}
    for video in videos:
        of_group.setdefault(video.group or video.name, set()).add(folds[video.name])
    assert all(len(those) == 1 for those in of_group.values())
    assert count_groups(videos) == len(of_group)
    assert assign_folds(videos[::-1], num_folds=num_folds, seed=seed) == folds


@given(single, fold_counts, seeds)
def test_single_videos_are_balanced_in_all_and_in_each_class(videos, num_folds, seed):
    folds = assign_folds(videos, num_folds=num_folds, seed=seed)
    sizes = Counter(folds.values())
    assert max(sizes.values()) - min(sizes[fold] for fold in range(1, num_folds + 1)) <= 1
    for label in range(4):
        counts = Counter(folds[video.name] for video in videos if video.label == label)
        those = [counts[fold] for fold in range(1, num_folds + 1)]
        assert max(those) - min(those) <= 1
        assert sum(those) < num_folds or min(those) >= 1  # in every fold where there are enough


@given(mixed, fold_counts, seeds)
def test_the_folds_held_out_in_turn_are_the_data_set(videos, num_folds, seed):
    tests = videos_of([(0, None), (1, None)], split="test")
    val = [replace(video, split="val") if video.group == "g0" else video for video in videos]
    manifest = manifest_of([*val, *tests])
    seen: Counter[str] = Counter()
    for fold in range(1, num_folds + 1):
        split = hold_out(manifest, HeldOutFold(num_folds, fold), seed=seed)
        assert split.split("test") == tuple(tests)
        learnt, judged = split.split("train"), split.split("val")
        assert {video.name for video in learnt + judged} == {video.name for video in videos}
        assert not {v.group for v in learnt if v.group} & {v.group for v in judged if v.group}
        seen.update(video.name for video in judged)
        assert hold_out(split, HeldOutFold(num_folds, fold), seed=seed) == split  # val is divided again, to the same
    assert seen == Counter(video.name for video in videos)


def test_groups_of_equal_size_are_balanced():
    videos = videos_of([(i % 2, i // 4) for i in range(80)])  # 20 groups of 4 clips, both classes in each
    folds = assign_folds(videos, num_folds=5, seed=3)
    assert Counter(folds.values()) == dict.fromkeys(range(1, 6), 16)
    assert Counter((folds[video.name], video.label) for video in videos) == {(k, c): 8 for k in range(1, 6) for c in (0, 1)}


def test_a_large_group_is_made_up_for():
    videos = videos_of([(0, 0)] * 6 + [(0, None)] * 6)
    folds = assign_folds(videos, num_folds=2, seed=0)
    assert {folds[video.name] for video in videos[:6]} == {1}
    assert {folds[video.name] for video in videos[6:]} == {2}


def test_two_groups_of_a_rare_class_are_parted_although_sizes_suffer():
    # By shares alone, the second group of class 1 would follow the first, away from the many of class 0.
    videos = videos_of([(0, 0)] * 10 + [(0, 1)] * 9 + [(1, 1)] + [(0, 2)] * 3 + [(1, 2)])
    folds = assign_folds(videos, num_folds=2, seed=0)
    assert {folds[video.name] for video in videos if video.label == 1} == {1, 2}
    check_folds(manifest_of(videos, 2), 2, seed=0)


def test_the_seed_decides():
    videos = videos_of([(0, None)] * 50)
    chosen = [assign_folds(videos, num_folds=5, seed=seed) for seed in range(3)]
    assert chosen[0] != chosen[1] != chosen[2]
    assert chosen[0] == assign_folds(videos, num_folds=5, seed=0)


# --- what cannot be divided


@pytest.mark.parametrize(
    ("videos", "num_folds", "problems"),
    [
        (
            [(0, 0), (0, 1), (0, 1), (1, 2), (1, 3)],
            5,
            ["5 folds, but the data has only 4 groups: give --folds 4 or less, or add videos"],
        ),
        (
            [(0, None), (0, None), (1, None), (1, None)],
            9,
            ["9 folds, but the data has only 4 videos to divide: give --folds 4 or less, or add videos"],
        ),
        (
            [(0, None), (0, None), (1, None)],
            2,
            [
                "class 'b' has only one video, so the model that holds it out cannot learn it: add videos of it, or leave the "
                "class out"
            ],
        ),
        (
            [(0, 0), (0, 0), (0, 0), (1, 1), (1, 2), (2, 1)],
            3,
            [
                "class 'a' has 3 videos that are all in one group, so the model that holds it out cannot learn it: add another "
                "group, or leave the class out",
                "class 'c' has only one video, so the model that holds it out cannot learn it: add videos of it, or leave the "
                "class out",
            ],
        ),
        (
            [(0, 0), (1, 0), (1, 1), (2, 1), (0, 2), (2, 2)],  # three groups, each two of which share a class
            2,
            [
                "class 'b' has 2 groups that all fall into one fold, so the model that holds it out cannot learn it: give "
                "another --seed or more --folds"
            ],
        ),
    ],
    ids=["groups", "videos", "one video", "one group", "one fold"],
)
def test_what_cannot_be_divided(videos, num_folds, problems):
    manifest = manifest_of(videos_of(videos))
    with pytest.raises(DataError) as caught:
        check_folds(manifest, num_folds, seed=0)
    assert list(caught.value.problems) == problems


def test_unreadable_videos_are_not_learnt_from():
    manifest = manifest_of(videos_of([(0, None)] * 4 + [(1, None)] * 2))
    check_folds(manifest, 2, seed=0)
    with pytest.raises(DataError, match="class 'b' has only one readable video, so the model"):
        check_folds(manifest, 2, seed=0, unreadable={"train5.mp4"})
    check_folds(manifest_of(list(manifest.videos), classes=4), 2, seed=0)  # c and d are listed, but have no videos here


def test_test_videos_are_no_part_of_it():
    videos = videos_of([(0, None), (0, None)])
    tests = videos_of([(0, None)] * 8, split="test")
    manifest = manifest_of([*videos, *tests], 1)
    assert divided_videos(manifest) == tuple(videos)
    with pytest.raises(DataError, match="3 folds, but the data has only 2 videos to divide"):
        check_folds(manifest, 3, seed=0)


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        ((1, 1), "folds is 1, but at least 2 are needed, as one is held out; give --folds 5"),
        ((-3, 1), "folds is -3, but at least 2 are needed"),
        ((3, 0), "held_out_fold is 0, but there are the folds 1 to 3"),
        ((3, 4), "held_out_fold is 4, but there are the folds 1 to 3"),
    ],
)
def test_a_fold_that_cannot_be(fold, said):
    with pytest.raises(DualPathError, match=said):
        HeldOutFold(*fold)


def test_reading_labels(tmp_path):
    lines = ["path,label,group", *(f"{i}.mp4,{'ab'[i % 2]},film{i // 4}" for i in range(24))]
    for i in range(24):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    judged = []
    for fold in (1, 2, 3):
        manifest = read_manifest(tmp_path, val_fraction=0.9, seed=5, held_out=HeldOutFold(3, fold))
        assert manifest.val_split_off
        assert manifest.counts() == {"train": {"a": 8, "b": 8}, "val": {"a": 4, "b": 4}, "test": {"a": 0, "b": 0}}
        again = read_manifest(tmp_path, seed=5, classes=("a", "b"), held_out=HeldOutFold(3, fold))
        assert again.videos == manifest.videos  # as a trained model reads them
        judged += manifest.split("val")
    assert sorted(video.name for video in judged) == sorted(f"{i}.mp4" for i in range(24))


def test_many_classes_take_work_that_grows_with_their_number():
    def lines_run(count: int) -> int:
        videos = [Video(Path(f"{i}.mp4"), f"{i}.mp4", i % (count // 4), "train") for i in range(count)]
        lines, before = 0, sys.gettrace()

        def trace(frame, event, arg):
            nonlocal lines
            lines += event == "line"
            return trace

        sys.settrace(trace)
        try:
            choose_val(videos, val_fraction=0.2, seed=0)
        finally:
            sys.settrace(before)
        return lines

    assert lines_run(1600) < 10 * lines_run(200)  # eight times as many; with a search through all for each, up to 64
