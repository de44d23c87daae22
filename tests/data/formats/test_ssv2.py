"""Something-Something V2: both packagings, the official indices, answers, folders of frames."""

import json

import pytest

from dualpath.data.manifest import read_manifest
from official import SSV2_VIDEOS, counts, labels, problems, ssv2, touch, write


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_both_packagings(tmp_path, prefix):
    touch(write(tmp_path, ssv2(prefix)), *SSV2_VIDEOS)
    manifest = read_manifest(tmp_path)
    assert manifest.format == "ssv2"
    assert manifest.classes == ("Opening something", "Dropping something onto something", "Moving something up")
    assert labels(manifest) == {
        "videos/11.webm": ("train", "Moving something up"),
        "videos/12.mp4": ("train", "Opening something"),
        "videos/13.webm": ("train", "Dropping something onto something"),
        "videos/21.webm": ("val", "Opening something"),
    }
    assert counts(manifest) == {
        "train": (3, 3, 0, 0, 168_913),
        "val": (1, 1, 0, 0, 24_777),
        "test": (2, 0, 0, 2, 27_157),
    }
    assert manifest.extra == 0
    assert manifest.warnings[0].endswith("names 3 classes; Something-Something V2 has 174")


def test_answers_label_the_test_videos(tmp_path):
    touch(write(tmp_path, ssv2("", answers=True)), *SSV2_VIDEOS)
    manifest = read_manifest(tmp_path)
    assert {name: told for name, told in labels(manifest).items() if told[0] == "test"} == {
        "videos/31.webm": ("test", "Opening something"),
        "videos/32.webm": ("test", "Moving something up"),
    }
    (tmp_path / "labels/test.json").unlink()
    assert read_manifest(tmp_path).videos == manifest.videos


def test_folders_of_frames(tmp_path):
    write(tmp_path, ssv2())
    touch(tmp_path, *(f"frames/{key}/{n:06d}.jpg" for key in ("11", "12", "13", "21") for n in (1, 2)), "frames/11/note.txt")
    manifest = read_manifest(tmp_path)
    assert [video.name for video in manifest.videos] == ["frames/11", "frames/12", "frames/13", "frames/21"]
    assert manifest.videos[0].path == tmp_path / "frames/11"
    assert manifest.extra == 0


def put(root, name: str, value) -> None:
    write(root, {f"labels/something-something-v2-{name}.json": value if isinstance(value, str) else json.dumps(value)})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("labels", {"A": "1", "B": "2"},
         "something-something-v2-labels.json counts the classes from 1 to 2; they must count from 0"),
        ("labels", {"A": "0", "B": "x"}, "something-something-v2-labels.json gives 'B' the number 'x', which is none"),
        ("labels", {"A": "0", "B": "0"},
         "something-something-v2-labels.json does not number its 2 classes from 0 to 1, each once"),
        ("labels", ["A"], "something-something-v2-labels.json is no table of class names with their numbers; fetch it again"),
        ("labels", '{"A": "0", "A": "1"}', "something-something-v2-labels.json has 'A' twice; remove one of the two"),
        ("train", {"id": "1"}, "something-something-v2-train.json is no list of videos but a dict; fetch it again"),
        ("train", [{"template": "Opening [something]"}], 'something-something-v2-train.json entry 1 has no "id"'),
        ("train", [{"id": "1"}], "something-something-v2-train.json entry 1 (id '1') has no \"template\""),
        ("train", [{"id": 1, "template": "Eating [something]"}],
         "something-something-v2-train.json entry 1 (id '1') has the template 'Eating [something]', which the labels do not"),
        ("train", [3], 'something-something-v2-train.json entry 1 has no "id"'),
        ("train", '[\n  {"id": "1",}\n]',
         "something-something-v2-train.json is not JSON: line 2 column 14 "
         "(Expecting property name enclosed in double quotes); fetch it again"),
        ("train", "[" * 100_000,
         "something-something-v2-train.json is not JSON that can be read (maximum recursion depth exceeded"),
        ("train", '[{"id": ' + "9" * 5000 + "}]",
         "something-something-v2-train.json is not JSON that can be read (Exceeds the limit"),
    ],
)  # fmt: skip
def test_problems(tmp_path, name, value, expected):
    touch(write(tmp_path, ssv2()), *SSV2_VIDEOS)
    put(tmp_path, name, value)
    assert any(told.startswith(expected) for told in problems(tmp_path)), problems(tmp_path)


def test_answers_that_do_not_fit(tmp_path):
    touch(write(tmp_path, ssv2("")), *SSV2_VIDEOS)
    write(
        tmp_path,
        {"labels/test-answers.csv": "31;Opening something\n31;Opening something\n77;Opening something\n32;Eating\nx\n"},
    )
    assert problems(tmp_path) == (
        "test-answers.csv line 2 answers '31' again, as line 1; remove one",
        "test-answers.csv line 4 has the class 'Eating', which the labels do not have",
        "test-answers.csv line 5 is 'x'; it must be id;label",
        "test-answers.csv has answers for 1 video that test.json does not list, 77 among them",
    )


def test_labels_are_missing(tmp_path):
    touch(write(tmp_path, ssv2()), *SSV2_VIDEOS)
    (tmp_path / "labels/something-something-v2-labels.json").unlink()
    assert problems(tmp_path)[0].startswith("holds no something-something-v2-labels.json (or labels.json)")
