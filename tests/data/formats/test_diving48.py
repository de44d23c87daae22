"""Diving48: versions told apart, frames respected, classes in the order of the vocabulary."""

import json

import pytest

from dualpath.data.manifest import read_manifest
from official import DIVING48_VIDEOS, counts, diving48, labels, problems, touch, write

NAMES = ("Forward 15som NoTwis PIKE", "Back 15som 05Twis FREE")


@pytest.mark.parametrize(
    ("prefix", "name", "official"),
    [("Diving48_V2_", "diving48", (15_027, 1_970)), ("Diving48_", "diving48_v1", (15_943, 2_096))],
)
def test_versions(tmp_path, prefix, name, official):
    touch(write(tmp_path, diving48(prefix)), *DIVING48_VIDEOS)
    manifest = read_manifest(tmp_path, val_fraction=0.0)
    assert manifest.format == name
    assert manifest.classes == NAMES
    assert labels(manifest) == {
        "rgb/_8Vy3dlHg2w_00000.mp4": ("train", NAMES[1]),
        "rgb/_8Vy3dlHg2w_00001.mp4": ("train", NAMES[0]),
        "rgb/x_00002.mp4": ("train", NAMES[0]),
        "rgb/y_00003.mp4": ("test", NAMES[1]),
    }
    assert [(v.start, v.end, v.group) for v in manifest.videos] == [
        (0, 48, "_8Vy3dlHg2w"),
        (10, 30, "_8Vy3dlHg2w"),
        (0, 9, "x"),
        (0, 20, "y"),
    ]
    assert counts(manifest) == {"train": (3, 3, 0, 0, official[0]), "test": (1, 1, 0, 0, official[1])}


def test_both_versions_must_be_chosen_from(tmp_path):
    touch(write(tmp_path, diving48() | diving48("Diving48_")), *DIVING48_VIDEOS)
    assert problems(tmp_path) == (
        "fits several formats (diving48, diving48_v1); choose with --format, such as --format diving48",
    )
    assert read_manifest(tmp_path, format="diving48_v1").format == "diving48_v1"
    assert read_manifest(tmp_path / "annotations/Diving48_test.json").format == "diving48_v1"
    assert read_manifest(tmp_path / "annotations/Diving48_V2_test.json").format == "diving48"


def test_segments_of_one_file_are_videos_of_their_own(tmp_path):
    touch(write(tmp_path, diving48()), *DIVING48_VIDEOS)
    entries = [{"vid_name": "x_00002", "label": i, "start_frame": 10 * i, "end_frame": 10 * i + 10} for i in (0, 1)]
    write(tmp_path, {"annotations/Diving48_V2_train.json": json.dumps(entries)})
    manifest = read_manifest(tmp_path, val_fraction=0.0)
    assert [(v.name, v.start, v.end) for v in manifest.split("train")] == [
        ("rgb/x_00002.mp4[0:10]", 0, 10),
        ("rgb/x_00002.mp4[10:20]", 10, 20),
    ]
    assert manifest.extra == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"end_frame": 0}, "goes from frame 0 to 0; the end must come after the start"),
        ({"start_frame": 9, "end_frame": 4}, "goes from frame 9 to 4; the end must come after the start"),
        ({"start_frame": -1}, "goes from frame -1 to 48; the end must come after the start"),
        ({"end_frame": "many"}, "goes from frame 0 to 'many'; the end must come after the start"),
        ({"end_frame": 10**12}, "goes from frame 0 to 1000000000000; the end must come after the start"),
        ({"label": 7}, "has the label 7; it must be within 0 and 1"),
        ({"label": "one"}, "has the label 'one'; it must be within 0 and 1"),
        ({"label": True}, "has the label True; it must be within 0 and 1"),
    ],
)
def test_absurd_numbers(tmp_path, changes, expected):
    touch(write(tmp_path, diving48()), *DIVING48_VIDEOS)
    entry = {"vid_name": "x_00002", "label": 0, "start_frame": 0, "end_frame": 48} | changes
    write(tmp_path, {"annotations/Diving48_V2_test.json": json.dumps([entry])})
    assert problems(tmp_path) == (f"Diving48_V2_test.json entry 1 ('x_00002') {expected}",)


def test_labels_from_1(tmp_path):
    touch(write(tmp_path, diving48()), *DIVING48_VIDEOS)
    entries = [{"vid_name": f"x_{i:05d}", "label": i, "start_frame": 0, "end_frame": 9} for i in (1, 2)]
    write(tmp_path, {"annotations/Diving48_V2_train.json": json.dumps(entries)})
    assert problems(tmp_path) == ("Diving48_V2_train.json counts its labels from 1 to 2; they must count from 0",)


def test_vocabulary(tmp_path):
    touch(write(tmp_path, diving48()), *DIVING48_VIDEOS)
    write(tmp_path, {"annotations/Diving48_vocab.json": '[["a", "b", "c"]]'})
    told = "Diving48_vocab.json entry 0 is ['a', 'b', 'c']; it must be four words, other than the rest"
    assert problems(tmp_path) == (told,)
    (tmp_path / "annotations/Diving48_vocab.json").unlink()
    assert problems(tmp_path) == ("Diving48_vocab.json, which names the classes, is missing; put it beside the lists",)
