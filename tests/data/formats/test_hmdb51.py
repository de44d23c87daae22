"""HMDB51: three folds of the same clips, tags, flat or by action."""

import pytest

from dualpath.data.manifest import read_manifest
from dualpath.errors import DualPathError
from official import HMDB51_VIDEOS, counts, hmdb51, labels, problems, touch, write


@pytest.fixture
def root(tmp_path):
    return touch(write(tmp_path, hmdb51()), *HMDB51_VIDEOS)


@pytest.mark.parametrize(("fold", "train", "test"), [(None, [0], [1]), (1, [0], [1]), (2, [1, 2], [0]), (3, [0, 1], [2])])
def test_folds(root, fold, train, test):
    manifest = read_manifest(root, fold=fold, val_fraction=0.0)
    assert (manifest.format, manifest.fold) == ("hmdb51", fold or 1)
    assert manifest.classes == ("brush_hair", "wave")
    expected = {
        f"videos/{action}/Film_{i}_{action}_f_cm_np1_fr_med_{i}.avi": (split, action)
        for action in ("brush_hair", "wave")
        for split, some in (("train", train), ("test", test))
        for i in some
    }
    assert labels(manifest) == expected
    assert counts(manifest)["train"] == (2 * len(train), 2 * len(train), 0, 0, 3570)
    assert counts(manifest)["test"] == (2 * len(test), 2 * len(test), 0, 0, 1530)
    assert manifest.extra == 0  # tag 0 is listed, though not used


def test_flat_and_converted(tmp_path):
    write(tmp_path, hmdb51())
    touch(tmp_path, *(name.rpartition("/")[2].replace(".avi", ".mp4") for name in HMDB51_VIDEOS))
    assert counts(read_manifest(tmp_path))["test"] == (2, 2, 0, 0, 1530)


def test_a_split_file_or_its_folder_stands_for_all(tmp_path):
    folder = "test_train_splits/testTrainMulti_7030_splits"
    write(tmp_path, {name.replace("splits", folder): text for name, text in hmdb51().items()})
    touch(tmp_path, *HMDB51_VIDEOS)
    assert read_manifest(tmp_path).format == "hmdb51"
    given = tmp_path / folder / "wave_test_split1.txt"
    assert counts(read_manifest(given)) == counts(read_manifest(tmp_path / folder)) == counts(read_manifest(tmp_path))


def test_one_film_stays_on_one_side_of_the_validation(root):
    groups = {video.name: video.group for video in read_manifest(root).videos}
    assert groups["videos/wave/Film_0_wave_f_cm_np1_fr_med_0.avi"] == "wave/Film_0"


def test_folds_that_are_not_there(root):
    assert problems(root, fold=4) == ("has no split 4: HMDB51 has the splits 1 to 3",)
    (root / "splits/wave_test_split2.txt").unlink()
    assert problems(root, fold=2) == ("wave_test_split2.txt is missing",)
    with pytest.raises(DualPathError, match="unknown format 'hmdb'; there are auto, kinetics"):
        read_manifest(root, format="hmdb")


def test_bad_lines(root):
    write(root, {"splits/wave_test_split1.txt": "a.avi 1\na.avi 1\nb.avi\nc.avi 3\n a b.avi 2\n\n"})
    assert problems(root) == (
        "wave_test_split1.txt line 3 is 'b.avi'; it must be a file name and a tag 0, 1 or 2",
        "wave_test_split1.txt line 4 is 'c.avi 3'; it must be a file name and a tag 0, 1 or 2",
        "wave_test_split1.txt line 2 repeats a of wave_test_split1.txt line 1; remove one of the two lines",
    )


def test_an_unpacked_half(tmp_path):
    write(tmp_path, hmdb51() | {"wave.rar": b"Rar!\x1a\x07"})
    assert problems(tmp_path)[0].endswith(
        "wave.rar is an archive; unpack it, unrar x wave.rar or 7z x wave.rar (one of these tools must be installed), and give "
        "the folder"
    )
