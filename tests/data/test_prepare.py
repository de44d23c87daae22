"""Preparing a data set: frame for frame, resumable, nothing half written, what is wrong named."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dualpath.cli import main
from dualpath.data.manifest import DataError, read_manifest
from dualpath.data.preparing import prepare as module
from dualpath.data.preparing.journal import Job
from dualpath.data.preparing.prepare import encode_job, plan_jobs, prepare
from dualpath.engine.config import RunConfig
from dualpath.engine.prepare import usable
from dualpath.errors import DualPathError, VideoError
from dualpath.video.decode import probe, read_frames
from dualpath.video.encode import EncodeConfig
from dualpath.video.mp4 import OutputError
from runs import ask_here
from videos import hit, read_numbers, write_video

SMALL = EncodeConfig(short_side=24, key_frame_distance=4)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(module, "ask", ask_here)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Classes whose order is not that of their names' spelling, with one file that is broken."""
    root = tmp_path_factory.mktemp("data")
    lengths = {"train/b: c/x.mp4": 5, "train/b: c/x.avi": 6, "train/a/y.mp4": 7, "val/a/z.mp4": 8, "val/b: c/v.w.mp4": 9}
    for name, count in lengths.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / name, count, codec="mpeg4" if name.endswith("avi") else "libx264")
    (root / "train/a/broken.mp4").write_bytes((root / "train/a/y.mp4").read_bytes()[:300])
    return root


def test_a_prepared_folder_is_ready_to_train_on(data, tmp_path, here, monkeypatch):
    manifest, seen = read_manifest(data, val_fraction=0.0), []
    found = prepare(manifest, tmp_path / "new", config=SMALL, progress=lambda *done: seen.append(done))
    assert seen == [(i + 1, 6) for i in range(6)]
    (name,) = found.left_out
    assert name == "train/a/broken.mp4"
    assert found.bytes_before == sum((data / one.video.name).stat().st_size for one in found.finished)
    again = read_manifest(tmp_path / "new")
    assert (again.source, again.classes, again.val_split_off) == ("prepared", ("a", "b: c"), False)
    expected = {"train/a/y": 7, "train/b_ c/x": 6, "train/b_ c/x-2": 5, "val/a/z": 8, "val/b_ c/v.w": 9}
    assert {video.name: video.num_frames for video in again.videos} == {f"{k}.mp4": v for k, v in expected.items()}
    for video in again.videos:
        assert video.label == ("b_" in video.name)
        assert read_numbers(read_frames(video.path, range(video.num_frames or 0)).frames) == list(range(video.num_frames or 0))
        assert probe(video.path).height == 24
    # No file is opened again before a training.
    monkeypatch.setattr("dualpath.engine.prepare.scan", None)
    assert usable(again, RunConfig()).manifest.videos == again.videos


def test_its_records(data, tmp_path, here):
    manifest = read_manifest(data, val_fraction=0.0)
    prepare(manifest, tmp_path / "new", config=SMALL)
    with (tmp_path / "new/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["a", "b: c", "b: c", "a", "b: c"]
    assert rows[1] == {"path": "train/b_ c/x.mp4", "label": "b: c", "split": "train", "group": ""}
    facts = json.loads((tmp_path / "new/prepared.json").read_text())
    assert facts["counts"] == {"train": 3, "val": 2, "test": 0}
    assert facts["settings"] == {"short_side": 24, "key_frame_distance": 4, "crf": 18, "damaged": "refuse", "shards": False}
    assert facts["videos"]["train/b_ c/x-2.mp4"]["source"] == "train/b: c/x.mp4"
    assert list(facts["left_out"]) == ["train/a/broken.mp4"]
    assert not list((tmp_path / "new").rglob("*.tmp"))


def test_it_goes_on_where_it_was_stopped(data, tmp_path, monkeypatch):
    manifest, output, made = read_manifest(data, val_fraction=0.0), tmp_path / "new", []

    def stopping(jobs, do, **options):
        assert options["few"] == 2  # encoding takes long: two videos are worth two processes
        for index, answer in ask_here(jobs, do):
            made.append(Path(jobs[index].target).name)
            yield index, answer
            if len(made) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "ask", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(manifest, output, config=SMALL)
    assert not (output / "labels.csv").exists()
    (output / "train/a/.y.99.tmp").write_bytes(b"left by a child that was killed")
    with (output / "prepared.jsonl").open("a") as journal:
        journal.write('{"name": "train/b_ c/x-2.mp4", "num_fra')  # cut short by a crash
    first, made[:] = made[:], ["", "", "", ""]
    found = prepare(manifest, output, config=SMALL)
    assert len(found.finished) == 5
    assert set(made[4:]) == {"broken.mp4", "z.mp4", "v.w.mp4", "x-2.mp4"} - {n for n in first if n != "broken.mp4"}
    assert not list(output.rglob("*.tmp"))
    # Complete, it has nothing left to do but what is broken; a file that was lost is made again.
    (output / "val/a/z.mp4").unlink()
    made[:] = [""] * 9
    assert prepare(manifest, output, config=SMALL) == found
    assert made[9:] == ["broken.mp4", "z.mp4"]


def test_other_settings_classes_and_folders(data, tmp_path, here):
    manifest = read_manifest(data, val_fraction=0.0)
    prepare(manifest, tmp_path / "new", config=SMALL)
    with pytest.raises(DualPathError, match=r"begun with other settings \(crf was 18, now 30\); give the same"):
        prepare(manifest, tmp_path / "new", config=EncodeConfig(short_side=24, key_frame_distance=4, crf=30))
    shutil.copytree(data / "train/a", tmp_path / "other/train/a")
    shutil.copytree(data / "train/a", tmp_path / "other/train/c")
    with pytest.raises(DualPathError, match="begun with other classes"):
        prepare(read_manifest(tmp_path / "other", val_fraction=0.0), tmp_path / "new", config=SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    with pytest.raises(DualPathError, match=r"holds other files \(thesis.tex ...\)"):
        prepare(manifest, tmp_path / "full", config=SMALL)
    with pytest.raises(DualPathError, match="lies in the data that is to be prepared"):
        prepare(manifest, data / "new", config=SMALL)
    with pytest.raises(DualPathError, match="cannot be written to"):
        prepare(manifest, tmp_path / "full/thesis.tex", config=SMALL)


def test_a_full_disk_is_one_sentence_and_costs_nothing(data, tmp_path, monkeypatch):
    manifest = read_manifest(data, val_fraction=0.0)

    def full(jobs, do, **_):
        yield from ask_here(jobs[:2], do)
        yield 2, OutputError(f"{jobs[2].target.parent} cannot be written to (No space)")

    monkeypatch.setattr(module, "ask", full)
    with pytest.raises(DualPathError, match=r"No space\); 1 of 6 videos are finished and kept: make room, then give the same"):
        prepare(manifest, tmp_path / "new", config=SMALL)
    assert [p.name for p in (tmp_path / "new").rglob("*.mp4")] == ["y.mp4"]


def test_nothing_readable(tmp_path, here):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.mp4").write_bytes(b"\0" * 1000)
    with pytest.raises(DataError, match="none of its videos can be read"):
        prepare(read_manifest(tmp_path / "data", val_fraction=0.0), tmp_path / "new", config=SMALL)


def test_its_list_holds_no_formula_and_gives_the_names_back(data, tmp_path, here):
    manifest = read_manifest(data, val_fraction=0.0)
    classes = ("=1+1", "@x\n|y")
    prepare(replace(manifest, classes=classes), tmp_path / "new", config=SMALL)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new/labels.csv").read_text(), newline="")))
    assert {row["label"] for row in rows} == {"'=1+1", "'@x\n|y"}
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row.values())
    assert read_manifest(tmp_path / "new").classes == classes


def test_names_that_no_file_system_takes_or_that_are_twice(data, tmp_path):
    manifest = read_manifest(data, val_fraction=0.0)
    names = ["../../etc/passwd", "A/x", "a/X.mp4", "...", "b/x.mp4", "é" * 300 + ".mp4", "a\nb"]
    videos = tuple(replace(manifest.videos[0], name=name, split="train", label=0) for name in names)
    jobs = plan_jobs(replace(manifest, classes=("../up", "b"), videos=videos), tmp_path)
    targets = [job.target.relative_to(tmp_path).as_posix() for job in jobs]
    folder = "train/_up/"
    assert targets == [f"{folder}{n}.mp4" for n in ("passwd", "x", "X-2", "_", "x-3", "é" * 80, "a_b")]


def test_children_do_it_from_the_command_line(data, tmp_path, capsys):
    """Once for real: the children are spawned."""
    assert main(["data", "prepare", str(data), "--output", str(tmp_path / "new"), "--short-side", "24", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("prepared 5 of 6 videos, 0.0 MB before, 0.0 MB after, in ")
    assert "train/a/broken.mp4 " in said.err
    assert len(read_manifest(tmp_path / "new").videos) == 5
    assert main(["data", "prepare", str(data), "--output", str(tmp_path / "other"), "--crf", "52"]) == 2
    assert "crf is 52" in capsys.readouterr().err


def test_only_faults_of_the_output_stop_it(data, tmp_path):
    assert isinstance(encode_job(Job(data / "train/a/y.mp4", tmp_path / "none/y.mp4"), config=SMALL), OutputError)
    with pytest.raises(VideoError):
        encode_job(Job(data / "train/a/broken.mp4", tmp_path / "y.mp4"), config=SMALL)


def test_a_file_that_is_not_the_one_that_was_prepared(data, tmp_path, here):
    prepare(read_manifest(data, val_fraction=0.0), tmp_path / "new", config=SMALL)
    shutil.copy(tmp_path / "new/val/a/z.mp4", tmp_path / "new/train/a/y.mp4")
    with pytest.raises(DataError, match=r"train/a/y.mp4 has \d+ bytes, but was prepared with \d+"):
        read_manifest(tmp_path / "new")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"\xff", b'{"classes": ["a", "a"], "videos": {}}', b'{"classes": [1], "videos": {}}',
     b'{"classes": ["a"], "videos": {"x": {"num_frames": "7", "bytes": 1}}}', b'{"classes": ["a"], "videos": []}'],
)  # fmt: skip
def test_a_damaged_record(data, tmp_path, here, content):
    prepare(read_manifest(data, val_fraction=0.0), tmp_path / "new", config=SMALL)
    (tmp_path / "new/prepared.json").write_bytes(content)
    with pytest.raises(DataError, match=r"prepared\.json is damaged"):
        read_manifest(tmp_path / "new")


def test_what_can_be_decoded_of_a_damaged_file_is_prepared_where_it_is_asked_for(tmp_path, here):
    for label, name in (("a", "hit.mp4"), ("b", "whole.mp4")):
        (tmp_path / "data/train" / label).mkdir(parents=True)
        write_video(tmp_path / "data/train" / label / name, 60, options={"g": "10", "bf": "0"})
    path = hit(tmp_path / "data/train/a/hit.mp4", 25)
    manifest, journal, take = read_manifest(tmp_path / "data", val_fraction=0.0), tmp_path / "new/prepared.jsonl", "take"
    assert list(prepare(manifest, tmp_path / "new", config=SMALL).left_out) == ["train/a/hit.mp4"]
    journal.write_text(journal.read_text().replace(', "damaged": "refuse"', ""))  # as older versions wrote it
    with pytest.raises(DualPathError, match="damaged was refuse, now take"):
        prepare(manifest, tmp_path / "new", config=replace(SMALL, damaged=take))
    journal.write_text("")
    for _ in range(2):  # made, and found in the journal
        one, _ = prepare(manifest, tmp_path / "new", config=replace(SMALL, damaged=take)).finished
        assert one.encoded.damage.startswith("is damaged: decoding failed ")
        facts = json.loads((tmp_path / "new/prepared.json").read_text())
        assert facts["damaged"] == {"train/a/hit.mp4": one.encoded.damage}
    wanted = read_numbers(read_frames(path, range(one.encoded.num_frames), damaged=take).frames)
    assert read_numbers(read_frames(tmp_path / "new" / one.name, range(len(wanted))).frames) == wanted
