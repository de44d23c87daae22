from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dualpath
from dualpath.data.manifest import read_manifest
from dualpath.engine.evaluate import evaluate
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError, VideoError
from runs import write_clip


@pytest.fixture(scope="module")
def model(trained: Path) -> VideoClassifier:
    return dualpath.load(trained, precision="fp32")


def test_predict_gives_labels_and_scores_best_first(model: VideoClassifier, clips: Path) -> None:
    found = model.predict(clips / "val" / "red" / "0.mp4")
    assert [set(guess) for guess in found] == [{"label", "score"}] * 2
    assert [guess["label"] for guess in found] == ["red", "blue"]
    assert found[0]["score"] > found[1]["score"]
    assert sum(float(guess["score"]) for guess in found) == pytest.approx(1)
    assert model.predict(str(clips / "val" / "blue" / "0.mp4"), top_k=1)[0]["label"] == "blue"


def test_top_k_limits(model: VideoClassifier, clips: Path) -> None:
    video = clips / "val" / "red" / "0.mp4"
    assert len(model.predict(video, top_k=1)) == 1
    assert len(model.predict(video, top_k=99)) == 2
    with pytest.raises(DualPathError, match="top_k 0 must be at least 1"):
        model.predict(video, top_k=0)


def test_predict_and_evaluate_agree(model: VideoClassifier, clips: Path) -> None:
    videos = read_manifest(clips).split("val")
    table = evaluate(model, videos, batch_size=4, workers=0).scores
    for row, video in zip(table, videos, strict=True):
        found = {guess["label"]: guess["score"] for guess in model.predict(video.path)}
        assert [found[name] for name in model.classes] == pytest.approx(row.tolist(), rel=1e-5)


def test_scores_that_are_no_numbers_are_an_error(trained: Path, clips: Path) -> None:
    broken = dualpath.load(trained, precision="fp32")
    dict(broken.model.named_parameters())["head.out.bias"].data[0] = float("nan")
    videos = read_manifest(clips).split("val")
    with pytest.raises(DualPathError, match=r"scores are no numbers \(NaN\)"):
        broken.predict(videos[0].path)
    with pytest.raises(DualPathError, match=r"scores are no numbers \(NaN\)"):  # and no video that cannot be decoded
        evaluate(broken, videos, batch_size=4, workers=0)


FORKED = """
import os, sys
import torch
import dualpath
from dualpath.errors import DualPathError

torch.set_num_threads(2)
model = dualpath.load(sys.argv[1], precision="fp32")
model.predict(sys.argv[2])
for threads in (2, 1):
    if os.fork() == 0:
        torch.set_num_threads(threads)
        code = 10
        try:
            model.predict(sys.argv[2])
        except DualPathError as problem:
            code = 11 if "was forked after a model had been loaded" in str(problem) else 12
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_a_forked_process_is_told_so_and_does_not_hang(trained: Path, clips: Path) -> None:
    words = [sys.executable, "-c", FORKED, str(trained), str(clips / "val" / "red" / "0.mp4")]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert told.stdout.split() == ["11", "10"], told.stderr


def test_run_folder_means_its_best(trained: Path, clips: Path, model: VideoClassifier) -> None:
    video = clips / "val" / "red" / "1.mp4"
    assert dualpath.load(trained / "best", precision="fp32").predict(video) == model.predict(video)


def test_short_videos_are_told_once(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = dualpath.load(trained, precision="fp32")
    short = [write_clip(tmp_path / f"{i}.mp4", "red", seed=i, frames=2) for i in range(2)]
    for path in short:
        assert fresh.predict(path, top_k=1)[0]["label"] == "red"
    told = capsys.readouterr().err
    assert told == f"{short[0]} has 2 frames, fewer than 4: its last one is repeated\n"


def test_int8_agrees_with_fp32(trained: Path, clips: Path, model: VideoClassifier) -> None:
    whole = dualpath.load(trained, precision="int8")
    assert whole.backbone.in_int8
    videos = read_manifest(clips).split("val")
    tables = [evaluate(one, videos, batch_size=4, workers=0).scores for one in (model, whole)]
    assert 0 < abs(tables[0] - tables[1]).max() < 0.02
    assert (tables[0].argmax(axis=1) == tables[1].argmax(axis=1)).all()


def test_int8_explains_nearly_the_same(trained: Path, clips: Path) -> None:
    video = clips / "val" / "red" / "0.mp4"
    plain, whole = (dualpath.load(trained, precision=precision).explain(video) for precision in ("fp32", "int8"))
    assert whole.label == plain.label
    for one, other in zip(whole.paths, plain.paths, strict=True):
        assert 0 < np.linalg.norm(one.heat - other.heat) < 0.1 * np.linalg.norm(other.heat)


def test_unreadable_file(model: VideoClassifier, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match=r"text.mp4: is not a video but a text file"):
        model.predict(tmp_path / "text.mp4")
    with pytest.raises(VideoError, match=r"nope.mp4: there is no such file"):
        model.predict(tmp_path / "nope.mp4")
