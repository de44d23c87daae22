"""A data check is made once: training and evaluation honour its quarantine and read nothing that it has read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualpath.cli import main
from dualpath.data.checking import check as check_module
from dualpath.data.checking.check import check_data
from dualpath.data.checking.known import read_checked
from dualpath.data.clips import TestClips, Views
from dualpath.data.manifest import Manifest, Video, read_manifest
from dualpath.data.scan import Refusal
from dualpath.engine import evaluate as evaluate_module
from dualpath.engine import prepare
from dualpath.engine.evaluate import evaluate
from dualpath.engine.predict import load
from dualpath.engine.prepare import usable
from dualpath.engine.verbs import _with_known
from dualpath.errors import VideoError
from runs import flags, run_config, scan_here


def here(paths: list[Path], do: Callable[[Path], Any], **_: object) -> Any:
    """`ask` without its child processes, which take seconds to start."""
    for index, path in enumerate(paths):
        try:
            yield index, do(path)
        except VideoError as problem:
            yield index, Refusal(problem.reason)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> tuple[Path, Path]:
    """(data with a bad file in train and one in val, folder of its check)."""
    folder = tmp_path_factory.mktemp("checked")
    shutil.copytree(clips, folder / "data")
    for name in ("train/red/bad.mp4", "val/blue/bad.mp4"):
        (folder / "data" / name).write_text("no video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_module, "ask", here)
        assert main(["data", "check", str(folder / "data"), "--output", str(folder / "check")]) == 1
    return folder / "data", folder / "check"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that are read before a training."""
    names: list[str] = []

    def spy(videos: list[Video], **options: Any) -> Any:
        names.extend(video.name for video in videos)
        return scan_here(videos, **options)

    monkeypatch.setattr(prepare, "scan", spy)
    return names


def test_training_takes_what_the_check_knows(
    checked: tuple[Path, Path], read: list[str], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, check = checked
    words = ["train", str(data), "--output", str(tmp_path / "run"), *flags(weights), "--epochs", "1", "--checked", str(check)]
    assert main(words) == 2
    assert "2 of 18 videos cannot be used" in capsys.readouterr().err
    assert main([*words, "--max-bad-files", "0.2"]) == 0
    assert "left out 2 unreadable videos:\n  train/red/bad.mp4 is not a video but a text file" in capsys.readouterr().err
    assert read == []
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["data"]["quarantined"] == 2
    assert told["data"]["left_out"].keys() == {"train/red/bad.mp4", "val/blue/bad.mp4"}
    assert main([*words[:3], str(tmp_path / "other"), *words[4:], "--checked", str(tmp_path)]) == 2
    assert "holds no finished data check: check.json is missing" in capsys.readouterr().err


def test_files_that_have_changed_are_read_again(checked: tuple[Path, Path], read: list[str], weights: Path) -> None:
    data, check = checked
    os.utime(data / "train/red/3.mp4", ns=(7, 7))
    config = run_config(weights, max_bad_files=0.2)
    found = usable(read_manifest(data), config, checked=check)
    assert read == ["train/red/3.mp4"]
    assert [len(found.manifest.split(split)) for split in ("train", "val")] == [12, 4]
    assert {video.num_frames for video in found.manifest.videos} == {8}
    read.clear()
    plain = usable(read_manifest(data), config)
    assert len(read) == 18
    assert plain == replace(found, quarantined=0)


def test_evaluation_does_not_try_what_is_quarantined(
    checked: tuple[Path, Path], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, check = checked
    words = ["evaluate", str(trained), str(data), "--workers", "0", "--json"]
    assert main([*words, "--output", str(tmp_path / "plain")]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*words, "--output", str(tmp_path / "checked"), "--checked", str(check)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (plain["quarantined"], told["quarantined"]) == (0, 1)
    assert told["undecodable"] == {"val/blue/bad.mp4": "is not a video but a text file"}
    origins = [one.pop("origin") for one in (plain, told)]
    assert told | {"quarantined": 0} == plain
    assert len({origin["videos_sha256"] for origin in origins}) == 1
    texts = [(tmp_path / name / "predictions.csv").read_text() for name in ("plain", "checked")]
    assert texts[0] == texts[1]


def test_segments_of_a_checked_file_are_evaluated_as_such(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, check = tmp_path / "data", tmp_path / "check"
    shutil.copytree(clips / "val", data / "videos")
    lines = ["blue/0.mp4,2,6,blue", "blue/1.mp4,0,8,blue", "red/0.mp4,5,8,red"]
    monkeypatch.setattr(check_module, "ask", here)
    segments = [Video(data / "videos" / n, n, ("blue", "red").index(c), "test", None, None, int(s), int(e))
                for n, s, e, c in (line.split(",") for line in lines)]  # fmt: skip
    past = replace(segments[1], name="blue/1.mp4[4:30]", start=4, end=30)
    manifest = Manifest(data, ("blue", "red"), (*segments, past), "csv")
    check_data(manifest, check).write(check)
    videos, bad = _with_known(manifest.videos, read_checked(check))
    assert [video.num_frames for video in videos] == [4, 8, 3, None]
    assert bad == {3: "is listed with the frames 4 to 29, but there are only 8"}
    assert videos[:3] == tuple(replace(one, num_frames=n) for one, n in zip(segments, (4, 8, 3), strict=True))


class Hostile(TestClips):
    def __getitem__(self, index: int) -> Views:
        if index not in self.lost and self.videos[index].name == "val/red/0.mp4":
            os.abort()
        return super().__getitem__(index)


def test_a_video_that_crashes_the_decoder_is_wrong_and_listed(
    trained: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, videos = load(trained, precision="fp32"), read_manifest(clips).split("val")
    plain = evaluate(classifier, videos, batch_size=2, workers=0)
    monkeypatch.setattr(evaluate_module, "TestClips", Hostile)
    found = evaluate(classifier, videos, batch_size=2, workers=1)
    (index,) = found.failures
    assert (videos[index].name, found.failures[index]) == ("val/red/0.mp4", "the decoder crashed on it (SIGABRT)")
    assert found.predictions[index] == -1
    others = [i for i in range(len(videos)) if i != index]
    assert found.scores[others] == pytest.approx(plain.scores[others], rel=1e-5, abs=1e-6)
    assert found.top(1) == pytest.approx(plain.top(1) - 1 / 4)
