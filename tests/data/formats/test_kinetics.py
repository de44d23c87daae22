"""Kinetics: both forms, both file names, the class order, and what can be wrong."""

import json

import pytest

from dualpath.data.manifest import read_manifest
from official import HEADER, KINETICS_VIDEOS, counts, kinetics, labels, problems, touch, write


@pytest.fixture
def root(tmp_path):
    return touch(write(tmp_path, kinetics()), *KINETICS_VIDEOS)


def test_found_missing_extra_and_unlabelled(root):
    manifest = read_manifest(root)
    assert (manifest.format, manifest.fold, manifest.root) == ("kinetics", None, root)
    assert manifest.classes == ("abseiling", "riding a bike", "zumba")
    assert labels(manifest) == {
        "train/riding a bike/aaaaaaaaaa1_000010_000020.mp4": ("train", "riding a bike"),
        "train/abseiling/-aaaaaaaaa2_000000_000010.mp4": ("train", "abseiling"),
        "train/zumba/aaaaaaaaaa3_000100_000110.mp4": ("train", "zumba"),
        "train/zumba/aaaaaaaaaa4_000007_000017.mp4": ("train", "zumba"),
        "val/zumba/bbbbbbbbbb1_000003_000013.mp4": ("val", "zumba"),
    }
    assert counts(manifest) == {"train": (5, 4, 1, 0, None), "val": (2, 1, 1, 0, None), "test": (2, 0, 0, 2, None)}
    assert manifest.extra == 1  # other.mp4; the unlabelled test video is listed
    assert manifest.warnings == ("the lists name 3 classes; Kinetics has 400, 600 or 700",)
    assert manifest.census_words() == "train 4 of 5 listed; val 1 of 2 listed; test 0 of 2 listed, 2 without label; 1 extra"


def test_an_annotation_file_or_its_folder_stands_for_all(root):
    whole = read_manifest(root)
    for data in (root / "annotations/validate.csv", root / "annotations"):
        assert read_manifest(data).videos == whole.videos


def test_official_totals_belong_to_400_classes(tmp_path):
    rows = "".join(f"class {i:03d},id{i:09d},0,10,train\n" for i in range(400))
    write(tmp_path, {"train.csv": "label,youtube_id,time_start,time_end,split\n" + rows})
    touch(tmp_path, *(f"class_{i:03d}/id{i:09d}_000000_000010.mp4" for i in range(300)))
    manifest = read_manifest(tmp_path)
    assert counts(manifest) == {"train": (400, 300, 100, 0, 246_535)}
    assert str(manifest.listed["train"]) == "300 of 400 listed, official 246,535"
    assert manifest.warnings == ()
    assert {v.label for v in manifest.videos} == set(range(300))


def test_json_and_trimmed_mirrors(tmp_path):
    table = {
        "aaaaaaaaaa1": {"annotations": {"label": "zumba", "segment": [3.0, 13.0]}, "duration": 10.0, "subset": "train"},
        "aaaaaaaaaa2": {"annotations": {"label": "abseiling", "segment": [0.0, 10.0]}, "subset": "validate", "url": "x"},
        "aaaaaaaaaa3": {"annotations": {"segment": [0.0, 10.0]}, "subset": "test"},
        "aaaaaaaaaa4": {"annotations": {"label": "abseiling", "segment": [0.0, 10.0]}, "subset": "train"},
    }
    write(tmp_path, {"kinetics_train.json": json.dumps(table)})
    touch(tmp_path, "aaaaaaaaaa1.mp4", "aaaaaaaaaa2.webm", "aaaaaaaaaa4_000000_000010.mkv")
    manifest = read_manifest(tmp_path, val_fraction=0.0)
    assert labels(manifest) == {
        "aaaaaaaaaa1.mp4": ("train", "zumba"),
        "aaaaaaaaaa2.webm": ("val", "abseiling"),
        "aaaaaaaaaa4_000000_000010.mkv": ("train", "abseiling"),
    }
    assert counts(manifest)["test"] == (1, 0, 0, 1, None)


def test_csv_goes_before_json_of_the_same_split(root):
    entry = {"x": {"annotations": {"label": "sit", "segment": [0, 1]}, "subset": "train"}}
    write(root, {"annotations/train.json": json.dumps(entry)})
    assert counts(read_manifest(root))["train"] == (5, 4, 1, 0, None)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends(root, start, end):
    before = read_manifest(root)
    for name, text in kinetics().items():
        assert isinstance(text, str)
        write(root, {name: start + text.replace("\n", end)})
    assert read_manifest(root) == before


def change(root, line: str, name: str = "train") -> None:
    old = (root / f"annotations/{name}.csv").read_text()
    write(root, {f"annotations/{name}.csv": old + line + "\n"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zumba,aaaaaaaaaa9,1", "train.csv line 7 has 3 fields, the header has 6"),
        ("zumba", "train.csv line 7 has 1 field, the header has 6"),
        (
            "zumba,aaaaaaaaaa4,7,17,train,0",
            "train.csv line 7 repeats aaaaaaaaaa4_000007_000017 of train.csv line 5; remove one of the two lines",
        ),
        (
            "abseiling,aaaaaaaaaa4,7,17,train,0",
            "train.csv line 7 gives aaaaaaaaaa4_000007_000017 the class 'abseiling', train.csv line 5 'zumba'; remove one of "
            "the two lines",
        ),
        ("zumba,x,20,10,train,0", "train.csv line 7 goes from '20' to '10' s; the end must come after the start"),
        ("zumba,x,-5,10,train,0", "train.csv line 7 goes from '-5' to '10' s; the end must come after the start"),
        ("zumba,x,nan,1e999,train,0", "train.csv line 7 goes from 'nan' to '1e999' s; the end must come after the start"),
        (",x,1,2,train,0", "train.csv line 7 has no label"),
        ("zumba,,1,2,train,0", "train.csv line 7 has no YouTube id but ''"),
        ("zumba,x,1,2,holdout,0",
         "train.csv line 7 has the split 'holdout'; allowed are train, training, val, valid, validation, test, validate"),
        ('"zumba,x,1,2', "train.csv line 7 is not CSV (unexpected end of data)"),
    ],
)  # fmt: skip
def test_a_bad_line(root, line, expected):
    change(root, line)
    assert expected in problems(root)


def test_all_problems_at_once(root):
    change(root, "zumba,x,20,10,train,0")
    change(root, "dancing,y,1,2,val,0", "validate")
    touch(root, "copies/aaaaaaaaaa1_000010_000020.mkv")
    found = problems(root)
    assert found[:2] == (
        "train.csv line 7 goes from '20' to '10' s; the end must come after the start",
        "validate.csv line 4 has the class 'dancing', which the training list does not have",
    )
    assert len(found) == 3
    assert found[2].startswith("train.csv line 2: two files for aaaaaaaaaa1_000010_000020: ")
    assert all(f"{name}/aaaaaaaaaa1_000010_000020." in found[2] for name in ("train/riding a bike", "copies"))


def test_a_list_that_is_damaged_from_its_first_line_on_is_not_passed_over(root):
    write(root, {"annotations/validate.csv": "label;id\nzumba;bbbbbbbbbb1\n"})
    assert problems(root) == ("validate.csv has no column youtube_id and no time_start and no time_end; it has 'label, id'",)


def test_two_rows_of_one_video_in_a_mirror_that_kept_one(tmp_path):
    write(tmp_path, {"train.csv": HEADER + "a,x,0,10,train,0\nb,x,10,20,train,0\n"})
    touch(tmp_path, "x.mp4")
    assert problems(tmp_path) == ("the same video has two labels: x.mp4 'a', x.mp4 'b'",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x".encode("utf-16"), "train.csv is UTF-16 text; save it as UTF-8: iconv -f UTF-16 -t UTF-8 train.csv > new.csv"),
        (
            (HEADER + "zumbä,x,1,2,train,0\n").encode("latin-1"),
            "train.csv is not UTF-8 text (byte 53); save it as UTF-8",
        ),
        ((HEADER + "a,b\0c,1,2,train,0\n").encode(), "train.csv is damaged or not text: byte 52 is zero; fetch it again"),
    ],
)
def test_encodings(root, content, expected):
    write(root, {"annotations/train.csv": content})
    assert expected in problems(root / "annotations/train.csv", format="kinetics")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"subset": 1,\n "segment"', "train.json is not JSON: line 2 column 11 (cut short); fetch it again"),
        ('["subset", "segment"]', "train.json is no table of video ids but a list; it is no Kinetics list"),
        ('{"a": {"subset": "train", "segment": 3}}',
         'train.json entry \'a\' has no "annotations" with a "segment" of two times'),
        ('{"a": {"subset": 7, "annotations": {"label": "x", "segment": [1, 2]}}}',
         'train.json entry \'a\' has a "label" or "subset" that is no name'),
        ('{"a": {"subset": "train", "annotations": {"label": "x", "segment": [null, 2]}}}',
         "train.json entry 'a' goes from None to 2 s; the end must come after the start"),
    ],
)  # fmt: skip
def test_json_of_another_structure(tmp_path, text, expected):
    write(tmp_path, {"train.json": text})
    assert expected in problems(tmp_path)


def test_no_video_is_there(tmp_path):
    write(tmp_path, kinetics())
    touch(tmp_path, "videos/other.mp4")
    assert problems(tmp_path) == (
        "none of the 7 videos of test.csv, train.csv, validate.csv is there: looked for aaaaaaaaaa1_000010_000020.* and the "
        f"others in {tmp_path} and all folders below, which hold 1 other video; put or link the videos there, or give the "
        "folder that holds both lists and videos",
    )


def test_fewer_than_half_are_warned_of(root):
    for name in KINETICS_VIDEOS[:2]:
        (root / name).unlink()
    assert read_manifest(root).warnings[1:] == (
        "only 2 of the 5 train videos of test.csv, train.csv, validate.csv are there; the first missing is "
        "aaaaaaaaaa1_000010_000020",
    )
