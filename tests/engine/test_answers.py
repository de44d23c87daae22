"""Several files a pass: the same answers as one at a time, in order, and a bad file stops none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import dualpath
from dualpath.engine import predict
from dualpath.engine.answers import Asked, predict_files
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError
from dualpath.video.decode import read_frames
from dualpath.video.protocols import ViewsConfig
from dualpath.video.transforms import test_transform
from videos import hit, write_video


@pytest.fixture
def files(clips: Path, tmp_path: Path) -> list[str]:
    """Four good files, and bad ones at the beginning, in between and at the end."""
    bad = tmp_path / "text.mp4"
    bad.write_text("hello")
    good = [str(clips / "val" / colour / f"{number}.mp4") for colour in ("red", "blue") for number in range(2)]
    return [str(bad), *good[:3], str(tmp_path / "nope.mp4"), good[3], str(bad)]


def ask(trained: Path, files: list[str], **options: Any) -> Any:
    settings: dict[str, Any] = {"views": ViewsConfig(), "precision": "fp32"}
    top_k = options.pop("top_k", 2)
    return predict_files(Asked(str(trained), files, **(settings | options)), top_k=top_k)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_batches_answer_as_single_files_do(
    batch_size: int, trained: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    real = VideoClassifier.score_views

    def counted(self: VideoClassifier, views: torch.Tensor) -> torch.Tensor:
        passes.append(len(views))
        return real(self, views)

    monkeypatch.setattr(VideoClassifier, "score_views", counted)
    answers = ask(trained, files, batch_size=batch_size, views=ViewsConfig(2, 1))
    assert passes == {1: [1, 1, 1, 1], 2: [2, 2], 3: [3, 1], 8: [4]}[batch_size]
    assert [answer.video for answer in answers] == files
    model = dualpath.load(trained, precision="fp32")
    for answer in answers:
        if answer.problem is None:
            alone = model.predict(answer.video, num_clips=2)
            assert [guess["label"] for guess in answer.classes] == [guess["label"] for guess in alone]
            found = [guess["score"] for guess in answer.classes]
            assert found == pytest.approx([guess["score"] for guess in alone], rel=1e-5)
    assert [bool(answer.problem) for answer in answers] == [True, False, False, False, True, False, True]
    assert "is not a video but a text file" in answers[0].problem
    assert "there is no such file" in answers[4].problem


def test_what_a_library_raises_costs_its_own_file_alone(
    trained: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(4))

    def cut(*given: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 1:
            raise RuntimeError("not enough memory")
        return test_transform(*given, **options)

    monkeypatch.setattr(predict, "test_transform", cut)
    answers = ask(trained, files)
    assert [bool(answer.problem) for answer in answers] == [True, False, True, False, True, False, True]
    assert answers[2].problem == (
        f"{files[2]}: cannot be read as a video: damaged, cut short or something else (RuntimeError: not enough memory)"
    )


def test_time_is_limited_for_each_file(trained: Path, files: list[str]) -> None:
    answers = ask(trained, files, views=ViewsConfig(seconds=1e-9))
    assert [answer.problem.rpartition(": ")[2] for answer in answers[1:4]] == [
        "took longer than 1e-09 s to read; --seconds gives it more"
    ] * 3
    with pytest.raises(DualPathError, match=r"seconds is 0\.0, but it must be a number above 0"):
        ViewsConfig(seconds=0.0)


def test_bad_files_alone_are_told(trained: Path, files: list[str]) -> None:
    answers = ask(trained, [files[0], files[0]])
    assert [answer.as_json()["predictions"] for answer in answers] == [[], []]


def test_what_cannot_be_asked_for(trained: Path, files: list[str]) -> None:
    with pytest.raises(DualPathError, match="batch_size is 0, but it must be at least 1"):
        ask(trained, files, batch_size=0)
    with pytest.raises(DualPathError, match="top_k 0 must be at least 1"):
        ask(trained, files, top_k=0)


def test_workers_answer_as_this_process_does(trained: Path, files: list[str]) -> None:
    here, there = (ask(trained, files, workers=workers, batch_size=2) for workers in (0, 1))
    assert [(answer.video, answer.problem) for answer in here] == [(answer.video, answer.problem) for answer in there]
    for one, other in zip(here, there, strict=True):
        assert [guess["label"] for guess in one.classes] == [guess["label"] for guess in other.classes]
        assert [guess["score"] for guess in one.classes] == pytest.approx([guess["score"] for guess in other.classes], rel=1e-5)


def test_segments_of_a_table_are_answered_as_videos_of_their_own(trained: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", 50, codec="mpeg4")
    table = tmp_path / "parts.csv"
    table.write_text("Video Path,start,end\nwhole.avi,0.4,1.2\nwhole.avi,,\nwhole.avi,3,9\nwhole.avi,x,2\n")
    model = dualpath.load(trained, precision="fp32")
    frames = read_frames(whole, range(50)).frames.permute(0, 2, 3, 1)
    part, full, beyond, wrong = ask(trained, [str(table)])
    assert [one.video.removeprefix(str(tmp_path)) for one in (part, full)] == ["/whole.avi[0.4s:1.2s]", "/whole.avi"]
    for answer, wanted in ((part, frames[10:30]), (full, frames)):
        assert answer.classes[0]["score"] == pytest.approx(model.predict(wanted)[0]["score"], abs=2e-3)
    assert part.classes != full.classes
    assert "is listed from 3 s to 9 s" in beyond.problem
    assert f"{table} has the start 'x'; it must be a time in seconds" in wrong.problem


def test_segments_in_seconds_of_a_damaged_file_are_answered_where_its_frames_are_there(trained: Path, tmp_path: Path) -> None:
    hit(write_video(tmp_path / "x.mp4", 60, options={"g": "1"}), 25)
    (tmp_path / "parts.csv").write_text("path,start,end\nx.mp4,0.8,1.2\nx.mp4,0.98,1.03\n")
    there, gone = ask(trained, [str(tmp_path / "parts.csv")], views=ViewsConfig(damaged="take"))
    assert (there.problem, len(there.classes)) == (None, 2)
    assert there.damage.startswith("is damaged: decoding failed once")
    assert "has a time in it that could be read" in gone.problem
