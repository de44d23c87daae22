"""Tables of one's own: which columns count, parts of videos, Hugging Face's metadata, paths of Windows, odd classes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dualpath.data.formats.table import COLUMNS
from dualpath.data.manifest import UNTIMED, DataError, Manifest, read_manifest


def table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    """A table whose files are there."""
    (root / "v").mkdir(parents=True, exist_ok=True)
    for number in range(4):
        (root / f"v/{number}.mp4").touch()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("\n".join(lines))
    return root / name


def read(path: Path, **asked: object) -> Manifest:
    return read_manifest(path, val_fraction=0.0, **asked)  # pyright: ignore[reportArgumentType]


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        read(path)
    return caught.value.problems


@pytest.mark.parametrize("path", [*COLUMNS["path"], "Video Path", '"File-Name"'])
@pytest.mark.parametrize("label", ["label", "action", "Class Name"])
def test_names_of_columns(tmp_path, path, label):
    manifest = read(table(tmp_path, f"{path},{label}", "v/0.mp4,b", "v/1.mp4,a", name="list.csv"))
    assert manifest.classes == ("a", "b")
    assert [(video.name, video.label) for video in manifest.videos] == [("v/0.mp4", 1), ("v/1.mp4", 0)]
    assert manifest.notes == ()


def test_two_candidates_are_told_and_unused_columns_are_named(tmp_path):
    both = table(tmp_path, "path,video_name,label", "v/0.mp4,0,a", "v/1.mp4,1,b")
    assert problems(both) == (
        "labels.csv has the columns path and video_name, which both may be the path; rename or remove one of them",
    )
    more = table(tmp_path, "path,label,FPS,note", "v/0.mp4,a,25,x", "v/1.mp4,b,25,y")
    assert read(more).notes == ("labels.csv has columns that are not used: FPS, note",)


def test_seconds_and_frames_by_the_name_of_the_column(tmp_path):
    seconds = read(table(tmp_path, "path,label,start,end", "v/0.mp4,a,0.5,5", "v/0.mp4,b,00:01:07.5,", "v/1.mp4,a,,"))
    assert [(v.name, v.seconds, v.end) for v in seconds.videos] == [
        ("v/0.mp4[0.5s:5s]", (0.5, 5.0), UNTIMED),
        ("v/0.mp4[67.5s:]", (67.5, None), UNTIMED),
        ("v/1.mp4", None, None),
    ]
    assert [v.file for v in seconds.videos] == ["v/0.mp4", "v/0.mp4", "v/1.mp4"]
    assert "start and end are read as seconds" in seconds.notes[0]
    frames = read(table(tmp_path, "path,label,start_frame,end_frame", "v/0.mp4,a,3,9", "v/1.mp4,b,2.0,"))
    assert [(v.name, v.start, v.end, v.seconds) for v in frames.videos] == [("v/0.mp4", 3, 9, None), ("v/1.mp4", 2, None, None)]
    both = table(tmp_path, "path,label,start,end,start_frame,end_frame", "v/0.mp4,a,1,2,25,50", "v/1.mp4,b,1,2,25,50")
    assert [(v.start, v.end, v.seconds) for v in read(both).videos] == [(25, 50, None)] * 2
    assert "not used: start, end" in read(both).notes[1]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("5,3", "goes from 5 to 3; the end must come after the start, for v/0.mp4"),
        ("3,3", "goes from 3 to 3; the end must come after the start, for v/0.mp4"),
        ("nan,3", "has the start 'nan'; it must be a time in seconds (7.25) or as 00:01:07.25, not negative, or empty for the "
         "start of the video, for v/0.mp4"),
        ("0,inf", "has the end 'inf'; it must be a time in seconds (7.25) or as 00:01:07.25, not negative, or empty for the "
         "end of the video, for v/0.mp4"),
        ("-1,3", "has the start '-1'; it must be a time in seconds (7.25) or as 00:01:07.25, not negative, or empty for the "
         "start of the video, for v/0.mp4"),
    ],
)  # fmt: skip
def test_segments_that_cannot_be(tmp_path, cells, told):
    path = table(tmp_path, "path,label,start,end", f"v/0.mp4,a,{cells}", "v/1.mp4,b,0,1", "v/2.mp4,a,0,1")
    assert problems(path) == (f"labels.csv line 2 {told}",)
    lenient = read(path, strict=False)
    assert next((v.name, v.label) for v in lenient.videos) == ("v/0.mp4", -1)


def test_half_a_pair_in_frames_and_half_in_seconds(tmp_path):
    path = table(tmp_path, "path,label,start_frame,end", "v/0.mp4,a,3,9", "v/1.mp4,b,3,9")
    assert problems(path) == ("labels.csv has the columns end and start_frame: give both ends in seconds, or both in frames",)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_hugging_face_with_folders_for_splits(tmp_path, name):
    for split, labels in (("train", "abab"), ("test", "ab")):
        (tmp_path / split).mkdir()
        rows = [{"file_name": f"{number}.mp4", "label": label, "frames": 3} for number, label in enumerate(labels)]
        for row in rows:
            (tmp_path / split / row["file_name"]).touch()
        lines = [json.dumps(row) for row in rows] if name.endswith("l") else ["file_name,label,frames"]
        lines += [] if name.endswith("l") else [",".join(map(str, row.values())) for row in rows]
        (tmp_path / split / name).write_text("\n".join(lines) + "\n")
    manifest = read(tmp_path)
    assert manifest.classes == ("a", "b")
    assert [(v.name, v.split) for v in manifest.videos] == [
        *((f"test/{n}.mp4", "test") for n in range(2)), *((f"train/{n}.mp4", "train") for n in range(4))
    ]  # fmt: skip
    assert manifest.notes == (
        f"train/{name} has columns that are not used: frames", f"test/{name} has columns that are not used: frames",
    ) or set(manifest.notes) == {f"{s}/{name} has columns that are not used: frames" for s in ("test", "train")}  # fmt: skip
    assert [v.split for v in read(tmp_path / "train" / name).videos] == ["train"] * 4


def test_hugging_face_in_one_file(tmp_path):
    rows = [{"file_name": f"v/{n}.mp4", "label": n % 2, "text": None, "tags": ["x"]} for n in range(4)]
    path = table(tmp_path, *map(json.dumps, rows), name="metadata.jsonl")
    for data in (tmp_path, path):
        assert read(data).classes == ("0", "1")
    table(tmp_path, "file_name,label", "v/0.mp4,a", "v/1.mp4,b", name="metadata.csv")
    assert problems(tmp_path) == ("holds both metadata.csv and metadata.jsonl; leave one of them",)


def test_json_lines_that_cannot_be_used(tmp_path):
    path = table(tmp_path, '{"file_name": "v/0.mp4", "label": "a"}', "oops", name="metadata.jsonl")
    assert problems(path) == ('metadata.jsonl line 2 is \'oops\'; it must be JSON such as {"file_name": ..., "label": ...}',)
    rows = [{"file_name": "v/0.mp4", "label": ["a", "b"]}, {"file_name": "v/1.mp4", "label": "a"}]
    path = table(tmp_path, *map(json.dumps, rows), name="metadata.jsonl")
    assert problems(path) == ('metadata.jsonl line 1 has the label \'["a", "b"]\' for v/0.mp4; it must be one name or number',)


def test_captions_beside_class_folders_are_no_labels(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.mp4").touch()
    (tmp_path / "metadata.csv").write_text("file_name,text\na/1.mp4,one\nb/1.mp4,two\n")
    assert read(tmp_path).source == "class folders"


def test_splits_are_no_classes(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.mp4").touch()
    (problem,) = problems(tmp_path)
    assert problem.startswith("holds test/ and train/, which are names of splits, but no class folders in them; put each video")


def test_paths_of_windows(tmp_path):
    path = table(tmp_path, "path,label", "v\\0.mp4,a", "v\\1.mp4,b", name="list.csv")
    manifest = read(path)
    assert [v.name for v in manifest.videos] == ["v/0.mp4", "v/1.mp4"]
    assert manifest.notes == ("list.csv has paths with the backslashes of Windows (v\\0.mp4); they are read as slashes",)
    path = table(tmp_path, "path,label", "C:\\data\\0.mp4,a", "v/1.mp4,b", name="list.csv")
    assert problems(path) == (
        f"list.csv line 2 names a file that is not there: {tmp_path}/C:\\data\\0.mp4; that is a path of Windows: write it "
        "with slashes, relative to the table, such as videos/1.mp4",
    )


def test_classes_that_differ_in_capitals_only(tmp_path):
    manifest = read(table(tmp_path, "path,label", "v/0.mp4,run", "v/1.mp4,Run", "v/2.mp4,jump"))
    assert manifest.classes == ("Run", "jump", "run")
    assert manifest.notes == (
        "the classes 'Run' and 'run' differ in capitals or spaces only; if they are one, write them alike",
    )


def test_a_name_that_no_file_can_have_is_told(tmp_path):
    path = table(tmp_path, "path,label", "v/0.mp4,a", "v/1.mp4,b", f"{'x' * 5000}.mp4,b")
    assert "names a file that is not there" in problems(path)[0]
    assert os.sep in problems(path)[0]
