"""Lists of one's own: separators, labels by number or name, folders of frames, paths from anywhere."""

import pytest

from dualpath.data.manifest import read_manifest
from official import LIST_VIDEOS, counts, labels, plain_lists, problems, touch, write


def test_names_for_numbers(tmp_path):
    touch(write(tmp_path, plain_lists()), *LIST_VIDEOS)
    manifest = read_manifest(tmp_path)
    assert (manifest.format, manifest.classes) == ("lists", ("run", "walk"))
    assert labels(manifest) == {
        "videos/run/1.mp4": ("train", "run"),
        "videos/walk/2.mp4": ("train", "walk"),
        "videos/walk/3 4.mp4": ("train", "walk"),
        "videos/run/5.mp4": ("val", "run"),
    }
    assert counts(manifest) == {"train": (3, 3, 0, 0, None), "val": (1, 1, 0, 0, None)}
    assert read_manifest(tmp_path / "train_list.txt").videos == manifest.videos


@pytest.mark.parametrize("separator", [" ", ",", ";", "\t", ", "])
@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("7", "10"), ("abseiling", "zumba")])
def test_separators_and_labels(tmp_path, separator, first, second):
    write(tmp_path, {"train.csv": f"a/1.mp4{separator}{first}\r\na/2.mp4{separator}{second}\r\n"})
    touch(tmp_path, "a/1.mp4", "a/2.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == (first, second)
    assert labels(manifest) == {"a/1.mp4": ("train", first), "a/2.mp4": ("train", second)}


def test_folders_of_frames(tmp_path):
    write(tmp_path, {"train_rawframes.txt": "run/v1 3 0\nwalk/v2 2 1\n"})
    touch(tmp_path, *(f"rawframes/run/v1/img_{i:05d}.jpg" for i in range(1, 5)), "rawframes/walk/v2/img_00001.jpg")
    manifest = read_manifest(tmp_path)
    assert [(v.name, v.start, v.end) for v in manifest.videos] == [("rawframes/run/v1", 0, 3), ("rawframes/walk/v2", 0, 2)]


def test_paths_from_elsewhere(tmp_path):
    far = touch(tmp_path / "far", "x/9.mp4")
    root = touch(tmp_path / "root", "data/run/1.avi", "data/walk/2.mp4")
    write(root, {"lists/train.txt": f"../data/run/1.mp4 a\n{root}/data/walk/2.mp4 b\n{far}/x/9.mp4 b\n/gone/3.mp4 a\n"})
    manifest = read_manifest(root, val_fraction=0.0)
    assert labels(manifest) == {
        "data/run/1.avi": ("train", "a"),
        "data/walk/2.mp4": ("train", "b"),
        f"{far}/x/9.mp4": ("train", "b"),
    }
    assert counts(manifest) == {"train": (4, 3, 1, 0, None)}


def test_the_folder_named_like_the_split_decides(tmp_path):
    write(tmp_path, {"train.txt": "a/1.mp4 0\nb/1.mp4 1\n", "val.txt": "a/1x.mp4 0\na/2.mp4 0\n"})
    touch(
        tmp_path,
        "videos_train/a/1.mp4",
        "videos_train/b/1.mp4",
        "videos_val/a/1x.mp4",
        "videos_val/a/2.mp4",
        "videos_train/a/2.mp4",
    )
    assert set(labels(read_manifest(tmp_path))) == {
        "videos_train/a/1.mp4",
        "videos_train/b/1.mp4",
        "videos_val/a/1x.mp4",
        "videos_val/a/2.mp4",
    }
    assert read_manifest(tmp_path).extra == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.txt": "a/1.mp4 1\na/2.mp4 2\n", "classes.txt": "run\nwalk\n"},
         "the labels count from 1 to 2; they must count from 0"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 5\n", "classes.txt": "run\nwalk\n"},
         "train.txt line 2 has the label 5; there are 2 classes, 0 to 1"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 1\n", "val.txt": "a/1.mp4 2\n"},
         "val.txt line 1 has the class '2', which the training list does not have"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 walk\n"},
         "train.txt line 2 has the label 'walk', but others are numbers; give all labels as numbers, or all as names"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 1\na/3.mp4\n"}, "train.txt line 3 is 'a/3.mp4'; it must be a path and a label"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 1\na/1.mp4 0\n"},
         "train.txt line 3 repeats a/1 of train.txt line 1; remove one of the two lines"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 1\n", "train_videos.txt": "a/1.mp4 0\n"},
         "train.txt and train_videos.txt both list train; give one of the files instead of the folder"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 1\n", "label_map.txt": "run\nrun\n"}, "label_map.txt names a class twice"),
        ({"train.txt": "a/1.mp4 0\na/2.mp4 0\n"}, "lists one class only ('0'); a classifier needs at least two"),
    ],
)  # fmt: skip
def test_problems(tmp_path, files, expected):
    touch(write(tmp_path, files), "a/1.mp4", "a/2.mp4")
    assert problems(tmp_path)[0] == expected


def test_logs_and_notes_are_no_lists(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    write(tmp_path, {"train_log.txt": "epoch 1 loss 5\n", "test.txt": "all well\n"})
    assert read_manifest(tmp_path).format == "folders"
