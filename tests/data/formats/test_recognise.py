"""Which format it is, archives instead of folders, links, and files that no reader may choke on."""

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpath.data.formats import FORMATS, look, recognise
from dualpath.data.formats.archives import how_to_unpack, is_archive
from dualpath.data.formats.base import stem
from dualpath.data.formats.shelf import Shelf
from dualpath.data.formats.text import seconds, whole
from dualpath.data.manifest import DataError, read_manifest
from fuzz_annotations import check, fuzz, variants
from official import ALL, counts, lay_out, problems, touch, write


@pytest.mark.parametrize("name", ALL)
def test_each_is_recognised_and_no_other(tmp_path, name):
    root = lay_out(tmp_path, name)
    assert recognise(look(root)) == [name]
    assert read_manifest(root).videos == read_manifest(root, format=name).videos


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("folders", "table")])
def test_a_forced_format_says_what_it_wants(tmp_path, name):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    assert all("missing" in told or told.startswith("holds no ") for told in problems(tmp_path, format=name))


def test_a_table_beside_an_official_set(tmp_path):
    lay_out(tmp_path, "hmdb51")
    write(tmp_path, {"labels.csv": "path,label\n", "mine.csv": "path,label\n"})
    touch(tmp_path, "x.mp4")
    assert "fits several formats (hmdb51, table)" in problems(tmp_path)[0]
    write(tmp_path, {"mine.csv": "path,label\nx.mp4,a\nvideos/wave/Film_0_wave_f_cm_np1_fr_med_0.avi,b\n"})
    assert read_manifest(tmp_path / "mine.csv").format == "table"


def test_what_a_model_was_trained_on_decides_among_several(tmp_path):
    lay_out(tmp_path, "hmdb51")
    lay_out(tmp_path, "ucf101")
    assert "fits several formats (hmdb51, ucf101)" in problems(tmp_path)[0]
    manifest = read_manifest(tmp_path, known=("ucf101", 3))
    assert (manifest.format, manifest.fold) == ("ucf101", 3)
    manifest = read_manifest(tmp_path, known=("ucf101", 3), format="hmdb51")
    assert (manifest.format, manifest.fold) == ("hmdb51", 1)
    assert read_manifest(tmp_path, known=("ucf101", 3), fold=2).fold == 2


def test_a_fold_where_there_are_none(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    assert problems(tmp_path, fold=2) == ("has no split 2: class folders has only one",)


def test_links_to_folders_and_circles(tmp_path):
    root = lay_out(tmp_path / "there", "kinetics")
    here = tmp_path / "here"
    here.mkdir()
    (here / "annotations").symlink_to(root / "annotations")
    (here / "videos").symlink_to(root / "train")
    (root / "train/circle").symlink_to(root / "train")
    (root / "train/gone.mp4").symlink_to(root / "nowhere.mp4")
    assert counts(read_manifest(here))["train"] == (5, 4, 1, 0, None)


def test_no_permission(tmp_path, monkeypatch):
    root = lay_out(tmp_path, "hmdb51")
    path, read = root / "splits/wave_test_split1.txt", Path.read_bytes

    def guarded(file: Path) -> bytes:  # whoever runs the tests may be allowed to read everything
        if file == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    assert problems(root) == (f"{path} cannot be read (Permission denied)",)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("UCF 101.zip", b"", "UCF 101.zip is an archive; unpack it, unzip 'UCF 101.zip' -d 'UCF 101', and give the folder"),
        ("k400.tar.gz", b"",
         "k400.tar.gz is an archive; unpack it, mkdir -p k400 && tar -xf k400.tar.gz -C k400, and give the folder"),
        ("x.7z", b"", "x.7z is an archive; unpack it, 7z x x.7z (that tool must be installed), and give the folder"),
        ("x.csv", b"PK\x03\x04rest", "x.csv is an archive; unpack it, unzip x.csv -d x, and give the folder"),
        ("20bn-something-something-v2-00", b"",
         "20bn-something-something-v2-00 is one part of an archive; unpack all parts together: cat "
         "20bn-something-something-v2-?? | tar -xzf -, and give the folder"),
    ],
)  # fmt: skip
def test_archives(tmp_path, name, content, expected):
    write(tmp_path, {name: content})
    assert problems(tmp_path / name) == (expected,)
    if name != "x.csv":
        assert problems(tmp_path) == (f"holds no videos: {expected}",)


def test_what_is_no_archive(tmp_path):
    write(tmp_path, {"log.gz": b"", "x.txt": b"text"})
    assert not is_archive("log.gz")
    assert how_to_unpack(tmp_path / "x.txt") is None


def test_pictures_beside_videos_are_no_video(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/thumb1.jpg", "b/img_001.jpg", "b/img_002.jpg", "cover1.png", "c/logo.png")
    assert sorted(Shelf(tmp_path).names) == ["a/1.mp4", "b"]
    touch(tmp_path, *(f"big/{i}.jpg" for i in range(200)))
    assert sorted(Shelf(tmp_path).names) == ["a/1.mp4", "b", "big"]


def test_stems():
    assert [stem(n) for n in ("a.b.avi", "a.b", ".mp4", "x/y.MP4", "v1.0")] == ["a.b", "a.b", ".mp4", "x/y", "v1.0"]


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_numbers_from_anything(value):
    assert whole(value) is None or 0 <= whole(value) <= 10**9
    assert seconds(value) is None or 0 <= seconds(value) <= 10**9
    if type(value) is int and 0 <= value <= 10**9:
        assert whole(value) == seconds(value) == whole(str(value)) == value


ANYTHING = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))


@pytest.mark.parametrize("case", variants())
def test_mutated_files_give_a_manifest_or_a_sentence(tmp_path, case):
    outcomes, wrong, _ = fuzz(tmp_path / "data", case, 40, seed=7)
    assert wrong == []
    assert outcomes["manifest"] + outcomes["DataError"] == 40


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_any_file(tmp_path, name, data):
    root = tmp_path / "data"
    if not root.exists():
        lay_out(root, name)
    files = ALL[name][0]()
    path = data.draw(st.sampled_from(sorted(files)))
    write(root, files | {path: data.draw(ANYTHING)})
    try:
        check(read_manifest(root, format=name))
    except DataError as problem:
        if not problem.problems:
            raise AssertionError("a DataError without a problem") from problem
