"""UCF101: numbers from 1, Windows line ends, test lists without labels, groups."""

import pytest

from dualpath.data.manifest import read_manifest
from official import UCF101_VIDEOS, counts, labels, problems, touch, ucf101, write


@pytest.fixture
def root(tmp_path):
    return touch(write(tmp_path, ucf101()), *UCF101_VIDEOS)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_folds_in_the_official_order(root, fold):
    manifest = read_manifest(root, fold=fold, val_fraction=0.0)
    assert (manifest.format, manifest.fold) == ("ucf101", fold)
    assert manifest.classes == ("YoYo", "Archery")
    assert labels(manifest) == {
        f"{name}/v_{name}_g{group:02d}_c01.avi": ("test" if group == fold else "train", name)
        for name in ("YoYo", "Archery")
        for group in (1, 2, 3)
    }
    official = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}[fold]
    assert counts(manifest) == {"train": (4, 4, 0, 0, official[0]), "test": (2, 2, 0, 0, official[1])}
    assert {video.group for video in manifest.split("test")} == {f"v_YoYo_g{fold:02d}", f"v_Archery_g{fold:02d}"}


def test_flat_videos(tmp_path):
    write(tmp_path, ucf101())
    touch(tmp_path, *(f"all/{name.rpartition('/')[2]}" for name in UCF101_VIDEOS))
    assert len(read_manifest(tmp_path).videos) == 6


def put(root, name: str, text: str) -> None:
    write(root, {f"ucfTrainTestlist/{name}.txt": text})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classInd", "0 YoYo\n1 Archery\n", ["classInd.txt counts the classes from 0; UCF101's counts them from 1"]),
        ("classInd", "1 YoYo\n3 Archery\n", ["classInd.txt does not number its 2 classes from 1 to 2, each once"]),
        ("classInd", "YoYo\n", ["classInd.txt line 1 is 'YoYo'; it must be a number and a name, each new"]),
        ("classInd", "", ["classInd.txt is empty; fetch it again"]),
        ("trainlist01", "YoYo/v_YoYo_g02_c01.avi 0\nArchery/v_Archery_g02_c01.avi 1\n",
         ["trainlist01.txt counts its labels from 0, but classInd.txt from 1; add 1 to each"]),
        ("trainlist01", "YoYo/v_YoYo_g02_c01.avi 2\nArchery/v_Archery_g02_c01.avi\nSit/x.avi 1\n",
         ["trainlist01.txt line 2 has no label after 'Archery/v_Archery_g02_c01.avi'",
          "trainlist01.txt line 3 has the class 'Sit', which classInd.txt does not have",
          "trainlist01.txt line 1 has the label 2, but its class has the number 1 in classInd.txt"]),
        ("testlist01", "YoYo/v_YoYo_g02_c01.avi\n",
         ["testlist01.txt line 1 lists v_YoYo_g02_c01 in test, trainlist01.txt line 1 in train; remove one of the two lines",]),
    ],
)  # fmt: skip
def test_problems(root, name, text, expected):
    put(root, name, text)
    found = problems(root)
    assert set(found) == set(expected)


def test_missing_lists(root):
    (root / "ucfTrainTestlist/testlist02.txt").unlink()
    (root / "ucfTrainTestlist/trainlist02.txt").unlink()
    assert problems(root, fold=2) == ("trainlist02.txt is missing", "testlist02.txt is missing")
    assert len(read_manifest(root, fold=3).videos) == 6
