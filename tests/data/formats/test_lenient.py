"""For `data check`: what is wrong with labels is told, and every file that is named stays to be looked into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualpath.data.manifest import DataError, read_manifest
from official import (
    DIVING48_VIDEOS,
    HMDB51_VIDEOS,
    KINETICS_VIDEOS,
    SSV2_VIDEOS,
    UCF101_VIDEOS,
    diving48,
    hmdb51,
    kinetics,
    plain_lists,
    problems,
    ssv2,
    touch,
    ucf101,
    write,
)

Files = dict[str, str | bytes]
LISTS = plain_lists() | {"classes.txt": "run\nwalk\n"}
LIST_VIDEOS = ("run/1.mp4", "walk/2.mp4", "walk/3 4.mp4", "run/5.mp4")
TABLE: Files = {"labels.csv": "path,label\na/1.mp4,x\na/2.mp4,x\nb/3.mp4,y\n"}
TABLE_VIDEOS = ("a/1.mp4", "a/2.mp4", "b/3.mp4")


def cases() -> list[tuple[str, Files, tuple[str, ...], str, str, str, str | None]]:
    """(format, files, videos, file to spoil, what to replace, by what, the video that loses its label)."""
    first, second = "something-something-v2-train.json", "annotations/Diving48_V2_train.json"
    zumba = KINETICS_VIDEOS[3]
    return [
        ("kinetics", kinetics(), KINETICS_VIDEOS, "annotations/train.csv", "zumba,aaaaaaaaaa4", ",aaaaaaaaaa4", zumba),
        ("kinetics", kinetics(), KINETICS_VIDEOS, "annotations/validate.csv", "abseiling,b", "juggling,b", None),
        ("ssv2", ssv2(), SSV2_VIDEOS, f"labels/{first}", "Opening [something]", "Closing [something]", SSV2_VIDEOS[1]),
        ("hmdb51", hmdb51(), HMDB51_VIDEOS, "splits/wave_test_split1.txt", "np1_fr_med_0.avi 1", "np1_fr_med_0.avi 7", None),
        ("ucf101", ucf101(), UCF101_VIDEOS, "ucfTrainTestlist/testlist01.txt", "Archery/", "Archer/", UCF101_VIDEOS[3]),
        ("ucf101", ucf101(), UCF101_VIDEOS, "ucfTrainTestlist/trainlist01.txt", "g02_c01.avi 1", "g02_c01.avi 2", None),
        ("diving48", diving48(), DIVING48_VIDEOS, second, '"label": 1', '"label": 48', DIVING48_VIDEOS[0]),
        ("lists", LISTS, LIST_VIDEOS, "train_list.txt", "walk/2.mp4 1", "walk/2.mp4 2", "walk/2.mp4"),
        ("lists", LISTS, LIST_VIDEOS, "train_list.txt", "walk/2.mp4 1", "walk/2.mp4 walk", "walk/2.mp4"),
        ("lists", LISTS, LIST_VIDEOS, "train_list.txt", "walk/2.mp4 1", "gone", None),
        ("table", TABLE, TABLE_VIDEOS, "labels.csv", "a/2.mp4,x", "a/2.mp4,", "a/2.mp4"),
        ("table", TABLE, TABLE_VIDEOS, "labels.csv", "a/2.mp4,x", "a/2.mp4,x\na/1.mp4,y", None),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "videos", "list_", "old", "new", "lost"), cases())
def test_a_bad_label_is_told_and_its_file_stays(
    tmp_path: Path, name: str, files: Files, videos: tuple[str, ...], list_: str, old: str, new: str, lost: str | None
) -> None:
    root = write(touch(tmp_path, *videos), files)
    whole = read_manifest(root, val_fraction=0.0, strict=False)
    assert (whole.format, whole.problems) == (name, ())
    assert whole == read_manifest(root, val_fraction=0.0)
    text = files[list_]
    assert isinstance(text, str)
    assert old in text
    write(root, {list_: text.replace(old, new, 1)})
    told = problems(root, val_fraction=0.0)
    found = read_manifest(root, val_fraction=0.0, strict=False)
    assert found.problems == told
    before = {video.name: whole.classes[video.label] for video in whole.videos}
    after = {video.name: video.label for video in found.videos}
    if lost is not None:
        assert after.keys() == before.keys()
        assert after.pop(lost) == -1
    assert {video: found.classes[label] for video, label in after.items() if label >= 0}.items() <= before.items()
    assert len(after) >= len(before) - 1
    assert list(after.values()).count(-1) <= 1


def test_labels_from_one_are_told_once(tmp_path: Path) -> None:
    files = diving48()
    for name in ("train", "test"):
        entries = json.loads(files[f"annotations/Diving48_V2_{name}.json"])
        entries = [entry | {"label": entry["label"] + 1} for entry in entries]
        files[f"annotations/Diving48_V2_{name}.json"] = json.dumps(entries)
    found = read_manifest(write(touch(tmp_path, *DIVING48_VIDEOS), files), strict=False)
    assert [problem.partition(" counts")[0] for problem in found.problems] == [
        f"Diving48_V2_{n}.json" for n in ("test", "train")
    ]
    assert [video.label for video in found.videos] == [-1] * 4


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/c/3.mp4")
    (tmp_path / "train/d").mkdir()
    assert len(problems(tmp_path)) == 2
    found = read_manifest(tmp_path, val_fraction=0.0, strict=False)
    assert (found.problems, found.classes) == ((), ("a", "b", "c", "d"))  # `data check` finds empty classes by itself
    touch(tmp_path / "other", "a/1.mp4")
    told = ("holds one class only ('a'); a classifier needs at least two",)
    assert read_manifest(tmp_path / "other", strict=False).problems == told


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"labels.csv": b"path,label\n\xff\xfe\x00"}, "is not UTF-8 text"),
        ({"labels.csv": ""}, "is empty"),
        ({"labels.csv": "a,b\nc,d\n"}, "has no column path"),
        ({"train.txt": "a/1.mp4 0\nb/3.mp4 1\n", "test.txt": b"a/2.mp4 0\nb/\x00 1\n"}, "test.txt is damaged or not text"),
        ({"notes.txt": "nothing"}, "no class folders"),
    ],
)
def test_what_is_no_list_is_an_error_all_the_same(tmp_path: Path, files: Files, expected: str) -> None:
    data = write(tmp_path, files) if "notes.txt" in files else touch(write(tmp_path, files), "a/1.mp4", "a/2.mp4", "b/3.mp4")
    if "notes.txt" in files:
        touch(data, "1.mp4")
    with pytest.raises(DataError, match=expected):
        read_manifest(data, strict=False)
