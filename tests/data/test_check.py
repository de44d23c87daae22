"""A data set is looked into whatever its files do to a decoder, and what is known is not read twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualpath.data.checking import check as check_module
from dualpath.data.checking.check import CheckConfig, Progress, check_data, shown_files
from dualpath.data.checking.known import read_checked
from dualpath.data.checking.records import FILES, Record, read_records
from dualpath.data.manifest import read_manifest
from dualpath.data.scan import Refusal
from dualpath.errors import DualPathError, VideoError
from dualpath.video.inspect import Inspection, inspect
from videos import write_video


def acted(path: Path) -> Inspection:
    """Stands in for the decoder in the children: some files are its end."""
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name.startswith("hang"):
        time.sleep(600)
    return inspect(path)


def here(paths: list[Path], do: Callable[[Path], Any], **_: object) -> Any:
    """`ask` without its child processes, which take seconds to start."""
    for index, path in enumerate(paths):
        try:
            yield index, do(path)
        except VideoError as problem:
            yield index, Refusal(problem.reason)


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "ask", here)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for split, label, number in [("train", "a", 4), ("train", "b", 3), ("test", "a", 1)]:
        (folder / split / label).mkdir(parents=True)
        for i in range(number):
            write_video(folder / split / label / f"{i}.mp4", 5 + i + 20 * (split == "test") + 10 * (label == "b"))
    (folder / "train/b/text.mp4").write_text("no video")
    return folder


def test_every_twentieth_file_is_bad_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(38):
            write_video(tmp_path / "data" / label / f"{i:02}.mp4", 5)
    good = tmp_path / "data/a/00.mp4"
    shutil.copy(good, tmp_path / "data/a/crash.mp4")
    shutil.copy(good, tmp_path / "data/a/hang.mp4")
    os.mkfifo(tmp_path / "data/b/pipe.mp4")
    (tmp_path / "data/b/broken.mp4").write_bytes(good.read_bytes()[:700])
    monkeypatch.setattr(check_module, "look_into", acted)
    told: list[Progress] = []
    manifest = read_manifest(tmp_path / "data", val_fraction=0.0)
    config = CheckConfig(workers=2, seconds=2.0, max_bad_files=0.05)
    found = check_data(manifest, tmp_path / "out", config, progress=told.append)
    assert {name: reason.split(":")[0] for name, reason in found.bad.items()} == {
        "a/crash.mp4": "the decoder crashed on it (SIGSEGV)",
        "a/hang.mp4": "took longer than 2 s to read",
        "b/broken.mp4": "cannot be read as a video",
        "b/pipe.mp4": "is no file but a named pipe",
    }
    assert (found.usable, len(found.records), len(found.good)) == (True, 80, 76)
    assert told[-1] == Progress(80, 80, 80, 76 * 5)
    found.write(tmp_path / "out")
    lines = csv.DictReader((tmp_path / "out" / "quarantine.csv").read_text().splitlines())
    assert {line["path"]: line["reason"] for line in lines} == found.bad


@pytest.mark.usefixtures("_here")
def test_figures_of_a_check(made: Path, tmp_path: Path) -> None:
    found = check_data(read_manifest(made, val_fraction=0.0), tmp_path / "out")
    found.write(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "check.json").read_text())
    assert (told["version"], told["files"], told["bad_files"], told["usable"]) == (1, 9, 1, False)
    assert told["bad"] == {"train/b/text.mp4": "is not a video but a text file"}
    assert told["videos"]["train"] == {"a": 4, "b": 4}
    assert told["usable_videos"] == {"train": {"a": 4, "b": 3}, "val": {"a": 0, "b": 0}, "test": {"a": 1, "b": 0}}
    assert told["frames"] == 5 + 6 + 7 + 8 + 15 + 16 + 17 + 25
    assert told["length_s"] == pytest.approx({"smallest": 0.2, "median": 0.46, "largest": 1.0, "mean": 0.495})
    assert told["fps"]["median"] == 25
    assert (told["codec"], told["sizes"], told["with_sound"]) == ({"h264": 8}, {"64x48": 8}, 0)
    kinds = {finding["kind"]: finding for finding in told["findings"]}
    assert list(kinds) == ["unreadable", "short"]
    assert kinds["unreadable"]["severity"] == "error"
    assert kinds["unreadable"]["text"] == "1 of 9 files (11.1 %) cannot be used; --max_bad_files allows 1.00 %"
    assert len(kinds["short"]["files"]) == 5
    records = read_records(tmp_path / "out")
    assert records == found.records
    assert all(len(record.pictures) == (0 if record.bad else 3) for record in records.values())


@pytest.mark.usefixtures("_here")
def test_a_second_check_reads_what_is_new(made: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(made, data)
    first = check_data(read_manifest(data, val_fraction=0.0), out)
    again = check_data(read_manifest(data, val_fraction=0.0), out)
    assert (first.read, again.read) == (9, 0)
    assert again.records == first.records
    assert again.findings == first.findings
    write_video(data / "train/a/0.mp4", 33)
    write_video(data / "train/b/text.mp4", 9)
    write_video(data / "train/b/new.mp4", 40)
    (data / "train/a/1.mp4").unlink()
    third = check_data(read_manifest(data, val_fraction=0.0), out)
    assert third.read == 3
    assert third.bad == {}
    assert (third.good["train/a/0.mp4"].num_frames, third.good["train/b/text.mp4"].num_frames) == (33, 9)
    assert "train/a/1.mp4" not in third.records


def test_a_file_of_several_segments_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = [["Forward", "15som", "NoTwis", "PIKE"], ["Back", "15som", "05Twis", "FREE"]]
    segments = [("a", 0, 0, 10), ("a", 1, 10, 12), ("a", 1, 25, 44), ("b", 0, 0, 20), ("c", 1, 0, 20), ("c", 0, 5, 20)]
    entries = [dict(zip(("vid_name", "label", "start_frame", "end_frame"), one, strict=True)) for one in segments]
    (tmp_path / "rgb").mkdir()
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(entries))
    for name in "ab":
        write_video(tmp_path / f"rgb/{name}.mp4", 40)
    (tmp_path / "rgb/c.mp4").write_text("no video")
    asked: list[Path] = []
    monkeypatch.setattr(check_module, "ask", lambda paths, *rest, **named: (asked.extend(paths), here(paths, *rest))[1])
    manifest, told = read_manifest(tmp_path, val_fraction=0.0), []
    found = check_data(manifest, tmp_path / "out", CheckConfig(num_frames=4, max_bad_files=0.4), progress=told.append)
    files = ["rgb/a.mp4", "rgb/b.mp4", "rgb/c.mp4"]
    assert sorted(asked) == [tmp_path / name for name in files]
    assert list(found.records) == files
    assert [(one.done, one.total) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert list(found.bad) == ["rgb/c.mp4"]
    assert found.bad_segments == {"rgb/a.mp4[25:44]": "is listed with the frames 25 to 43, but there are only 40"}
    kinds = {finding.kind: finding for finding in found.findings}
    assert set(kinds) == {"unreadable", "segment-range", "copies", "short", "labels"}
    assert "2 classes; Diving48 has 48" in kinds["labels"].text
    assert kinds["copies"].sets == (("rgb/a.mp4", "rgb/b.mp4"),)
    assert (kinds["segment-range"].severity, kinds["short"].files) == ("warning", ("rgb/a.mp4[10:12]",))
    assert found.usable_counts()["train"] == {"Forward 15som NoTwis PIKE": 2, "Back 15som 05Twis FREE": 1}
    found.write(tmp_path / "out")
    known = read_checked(tmp_path / "out")
    assert list(known.bad) == ["rgb/c.mp4", "rgb/a.mp4[25:44]"]
    assert [known.why_bad(video) is None for video in manifest.videos] == [True, True, False, True, False, False]
    assert [known.counted(video).num_frames for video in manifest.videos if known.why_bad(video) is None] == [10, 2, 20]
    again = check_data(manifest, tmp_path / "out", CheckConfig(num_frames=4, max_bad_files=0.4))
    assert (again.read, again.findings) == (0, found.findings)


@pytest.mark.usefixtures("_here")
def test_a_check_goes_on_where_it_was_killed(made: Path, tmp_path: Path) -> None:
    manifest, out = read_manifest(made, val_fraction=0.0), tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.files == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_data(manifest, out, progress=stop)
    lines = (out / FILES).read_text().splitlines(keepends=True)
    assert len(lines) == 5
    (out / FILES).write_text("".join(lines[:4]) + lines[4][:40])  # the kill came in the middle of a line
    told: list[Progress] = []
    found = check_data(manifest, out, progress=told.append)
    assert (found.read, told[0].done, told[-1].done) == (6, 4, 9)
    assert found.records == check_data(manifest, tmp_path / "other").records
    assert read_records(out) == found.records


@pytest.mark.usefixtures("_here")
def test_late_ones_get_another_chance(made: Path, tmp_path: Path) -> None:
    manifest = read_manifest(made, val_fraction=0.0)
    found = check_data(manifest, tmp_path / "out")
    late = Record("train/a/0.mp4", found.records["train/a/0.mp4"].stamp, "took longer than 1 s to read")
    with (tmp_path / "out" / FILES).open("a") as file:
        file.write(late.as_line())
    again = check_data(manifest, tmp_path / "out")
    assert (again.read, again.bad.keys()) == (1, found.bad.keys())


def test_folders_that_are_not_ours(made: Path, tmp_path: Path) -> None:
    manifest = read_manifest(made, val_fraction=0.0)
    with pytest.raises(DualPathError, match=r"holds other files \(test ...\); give a new folder"):
        check_data(manifest, made)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DualPathError, match="file is a file; give another one"):
        check_data(manifest, tmp_path / "file")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / FILES).write_text('{"version": 0}\n')
    with pytest.raises(DualPathError, match="is not of this version"):
        check_data(manifest, tmp_path / "old")


def test_pictures_are_kept_of_a_few_of_each_class(made: Path) -> None:
    shown = shown_files(read_manifest(made, val_fraction=0.0))
    assert len(shown) == 9
    assert shown == shown_files(read_manifest(made, val_fraction=0.0))


@pytest.mark.parametrize("wrong", [{"num_frames": 0}, {"max_bad_files": 1.5}, {"workers": 0}, {"seconds": 0.0}])
def test_settings_check_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(DualPathError, match=f"{next(iter(wrong))} is "):
        CheckConfig(**wrong)


def test_files_that_are_not_there_cost_no_child_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{i}.mp4,{'ab'[i % 2]}\n" for i in range(50)))
    (tmp_path / "7.mp4").symlink_to("nowhere.mp4")
    asked: list[Path] = []

    def ask(paths: list[Path], do: Callable[[Path], Any], **_: object) -> Any:
        asked.extend(paths)
        return here(paths, do)

    monkeypatch.setattr(check_module, "ask", ask)
    told: list[Progress] = []
    manifest = read_manifest(tmp_path, val_fraction=0.0, strict=False)
    found = check_data(manifest, tmp_path / "out", CheckConfig(workers=1), progress=told.append)
    assert asked == [tmp_path / "7.mp4"]
    assert found.bad["8.mp4"] == "there is no such file"
    assert found.bad["7.mp4"] == "is a link to a file that is not there"
    assert [(one.done, one.total) for one in told] == [(49, 50), (50, 50)]
    write_video(tmp_path / "8.mp4", 3)
    again = check_data(manifest, tmp_path / "out", CheckConfig(workers=1))
    assert again.read == 1
    assert "8.mp4" not in again.bad


@pytest.mark.usefixtures("_here")
def test_a_name_with_a_zero_byte_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    rows = [{"path": f"{name}.mp4", "label": "ab"[i]} for i, name in enumerate("ab")]
    for i, row in enumerate(rows):
        write_video(tmp_path / row["path"], 20 + i)
    text = "\n".join(json.dumps(row) for row in [*rows, {"path": "c\0.mp4", "label": "b"}])
    (tmp_path / "labels.jsonl").write_text(text)
    manifest = read_manifest(tmp_path / "labels.jsonl", val_fraction=0.0, strict=False)
    assert check_data(manifest, tmp_path / "out", CheckConfig(workers=1)).bad == {"c\0.mp4": "there is no such file"}
