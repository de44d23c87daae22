"""What a data check knows is taken, as long as the files are the same."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dualpath.data.checking.check import CHECK, QUARANTINE
from dualpath.data.checking.known import VIDEOS, Known, read_checked, read_known, write_known
from dualpath.data.checking.records import Record, appending, stamp_of
from dualpath.data.manifest import Manifest, Video
from dualpath.errors import DualPathError, VideoError
from dualpath.video.inspect import inspect
from videos import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished check of a, b (bad) and c (breaks off)."""
    out = tmp_path / "check"
    seen = inspect(write_video(tmp_path / "a.mp4", 9))
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "c.mp4").write_bytes(b"c")
    with appending(out) as file:
        file.write(Record("a.mp4", stamp_of(tmp_path / "a.mp4"), None, seen).as_line())
        file.write(Record("b.mp4", stamp_of(tmp_path / "b.mp4"), "is not a video but a text file").as_line())
        file.write(Record("c.mp4", stamp_of(tmp_path / "c.mp4"), None, replace(seen, error="Invalid data")).as_line())
    (out / QUARANTINE).write_text("path,reason\r\nb.mp4,is not a video but a text file\r\nc.mp4,breaks off\r\n")
    (out / CHECK).write_text("{}")
    return out


def video(folder: Path, name: str) -> Video:
    return Video(folder.parent / name, name, 0, "train")


def test_a_check_is_taken_while_files_stay_the_same(folder: Path) -> None:
    known = read_checked(folder)
    assert known.frames == {"a.mp4": 9}
    assert known.bad == {"b.mp4": "is not a video but a text file", "c.mp4": "breaks off"}
    assert [known.fits(video(folder, name)) for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4")] == [True, True, True, False]
    os.utime(folder.parent / "a.mp4", ns=(5, 5))
    (folder.parent / "b.mp4").write_text("mended, and longer")
    (folder.parent / "c.mp4").unlink()
    assert [known.fits(video(folder, name)) for name in ("a.mp4", "b.mp4", "c.mp4")] == [False, False, False]


def test_the_quarantine_list_may_be_edited(folder: Path) -> None:
    (folder / QUARANTINE).write_text("path,reason\na.mp4,\nd.mp4,blurred\n")
    known = read_checked(folder)
    assert known.bad == {"a.mp4": "stands in the quarantine list", "d.mp4": "blurred"}
    assert known.frames == {}
    assert known.fits(video(folder, "d.mp4"))
    assert not known.fits(video(folder, "b.mp4"))  # to be read again


def test_what_is_no_check_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=r"holds no finished data check: check.json is missing; make one with"):
        read_checked(tmp_path)
    (folder / QUARANTINE).write_text("name;why\na;b\n")
    with pytest.raises(DualPathError, match="it needs the columns path,reason"):
        read_checked(folder)


def test_a_run_keeps_what_it_began_with(tmp_path: Path) -> None:
    assert read_known(tmp_path) is None
    one = replace(video(tmp_path / "x", "a.mp4"), num_frames=9)
    (tmp_path / "a.mp4").write_text("content")
    manifest = Manifest(tmp_path, ("x", "y"), (one,), "class folders")
    write_known(tmp_path, manifest, {"b.mp4": "is empty (0 bytes)"}, {})
    known = read_known(tmp_path)
    stamps, labels = {"a.mp4": stamp_of(tmp_path / "a.mp4")}, {"a.mp4": ("x", "train", None, str(one.path))}
    assert known == Known({"a.mp4": 9}, {"b.mp4": "is empty (0 bytes)"}, stamps, labels=labels)
    gone = replace(manifest, videos=())
    assert [(v.name, v.label, v.split, v.path) for v in known.completed(gone).videos] == [("a.mp4", 0, "train", one.path)]
    assert known.completed(replace(gone, classes=("y", "z"))).videos == ()
    more = replace(manifest, videos=(replace(one, name="new.mp4"),))
    assert known.completed(more) == more
    (tmp_path / VIDEOS).write_text("[1]")
    with pytest.raises(DualPathError, match="is damaged"):
        read_known(tmp_path)


def test_a_check_counts_files_and_a_run_counts_segments(folder: Path, tmp_path: Path) -> None:
    segment = replace(video(folder, "a.mp4"), start=2, end=6)
    checked = read_checked(folder)
    assert checked.counted(segment).num_frames == 4
    with pytest.raises(VideoError, match="is listed with the frames 2 to 19, but there are only 9"):
        checked.counted(replace(segment, end=20))
    with pytest.raises(VideoError, match="breaks off"):
        checked.counted(video(folder, "c.mp4"))
    first, second = (replace(segment, name=f"a.mp4[{start}:{start + 3}]", start=start, end=start + 3) for start in (0, 5))
    assert [checked.fits(one) for one in (first, second)] == [True, True]
    assert [checked.counted(one).num_frames for one in (first, second)] == [3, 3]
    with (folder / QUARANTINE).open("a") as file:  # one of the two, by hand
        file.write("a.mp4[5:8],blurred\n")
    edited = read_checked(folder)
    assert [edited.why_bad(one) for one in (first, second)] == [None, "blurred"]
    assert [edited.fits(one) for one in (first, second)] == [True, True]
    broken = replace(second, path=folder.parent / "b.mp4", name="b.mp4[5:8]")
    assert edited.fits(broken)
    assert edited.why_bad(broken) == "is not a video but a text file"
    write_known(tmp_path, Manifest(tmp_path, ("x",), (replace(segment, num_frames=4),), "csv"), {}, {})
    again = read_known(tmp_path)
    assert again is not None
    assert again.counted(segment).num_frames == 4
