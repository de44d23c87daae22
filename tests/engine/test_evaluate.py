from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath import demo
from dualpath.data.manifest import Video, read_manifest
from dualpath.engine.evaluate import Evaluation, evaluate
from dualpath.engine.predict import VideoClassifier, load
from dualpath.video.protocols import ViewsConfig
from oracles import metrics

CLASSES = ("a", "b", "c", "d", "e", "f", "g")
LABELS = [0, 0, 1, 2]
ROWS = [
    [0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0],  # right
    [0.0, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1],  # wrong: 1, and the truth is the last of all
    None,  # cannot be decoded
    [0.3, 0.25, 0.2, 0.15, 0.05, 0.05, 0.0],  # wrong: 0, the truth is the third
]


def made(labels: list[int], rows: list[list[float] | None], classes: tuple[str, ...] = CLASSES) -> Evaluation:
    videos = tuple(Video(Path(f"/data/{i}.mp4"), f"{i}.mp4", label, "test") for i, label in enumerate(labels))
    scores = np.array([[np.nan] * len(classes) if row is None else row for row in rows], dtype=np.float32)
    failures = {i: "is empty (0 bytes)" for i, row in enumerate(rows) if row is None}
    return Evaluation(classes, videos, scores, failures, "segment-16, 1x1 views")


def test_figures_by_hand() -> None:
    found = made(LABELS, ROWS)
    figures = found.summary()
    assert found.predictions.tolist() == [0, 1, -1, 0]
    assert figures["videos"] == 4
    assert figures["top1"] == 0.25
    assert found.top(3) == 0.5
    assert figures["top5"] == 0.5  # the second one's truth is the seventh of seven
    assert figures["per_class"] == {"a": 0.5, "b": 0.0, "c": 0.0, "d": None, "e": None, "f": None, "g": None}
    assert figures["mean_class_accuracy"] == pytest.approx(1 / 6)
    assert figures["confusion"][:3] == [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert sum(map(sum, figures["confusion"])) == 4
    assert figures["undecodable"] == {"2.mp4": "is empty (0 bytes)"}
    assert figures["protocol"] == "segment-16, 1x1 views"


def test_an_undecodable_video_is_never_right() -> None:
    # Filled with zeros its best label would be 0, the truth.
    found = made([0, 0], [None, [0.9, 0.1]], ("a", "b"))
    assert found.top(1) == 0.5
    assert found.top(2) == 0.5
    assert found.per_class()["a"] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_figures_agree_with_the_oracle(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 7))
    row = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]), min_size=count, max_size=count)
    rows = data.draw(st.lists(st.none() | row, min_size=1, max_size=12))
    labels = data.draw(st.lists(st.integers(0, count - 1), min_size=len(rows), max_size=len(rows)))
    found = made(labels, rows, CLASSES[:count])
    assert found.predictions.tolist() == [-1 if (g := metrics.guess(r)) is None else g for r in rows]
    for k in (1, 2, 5):
        assert found.top(k) == pytest.approx(metrics.top(k, labels, rows))
    assert found.confusion().tolist() == metrics.confusion(count, labels, rows)
    assert found.summary()["mean_class_accuracy"] == pytest.approx(metrics.mean_per_class(count, labels, rows))


def test_predictions_csv() -> None:
    rows = list(csv.reader(io.StringIO(made([1, 0], [[0.25, 0.75], None], ("a, b", "c")).predictions_csv())))
    assert rows == [
        ["video", "label", "prediction", "a, b", "c"],
        ["0.mp4", "c", "c", "0.250000", "0.750000"],
        ["1.mp4", "a, b", "", "", ""],
    ]


@pytest.fixture(scope="module")
def classifier(trained: Path) -> VideoClassifier:
    return load(trained, precision="fp32")


@pytest.fixture(scope="module")
def videos(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Video, ...]:
    """Four good validation clips and a broken one in the middle."""
    data = tmp_path_factory.mktemp("broken") / "data"
    shutil.copytree(clips, data)
    (data / "val/blue/broken.mp4").write_text("no video")
    return read_manifest(data).split("val")


@pytest.fixture(scope="module")
def plain(classifier: VideoClassifier, videos: tuple[Video, ...]) -> Evaluation:
    return evaluate(classifier, videos, batch_size=2, workers=0)


def test_the_demo_counts_a_broken_file_as_wrong(
    classifier: VideoClassifier, videos: tuple[Video, ...], plain: Evaluation, trained: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(demo, "default_workers", lambda _: 0)
    shutil.copytree(trained / "best", tmp_path / "run" / "best")
    shutil.copytree(videos[0].path.parents[2], tmp_path / "clips")
    (tmp_path / "clips/val").rename(tmp_path / "clips/test")
    found = demo._evaluate(classifier, tmp_path / "clips", tmp_path / "run" / "test")
    assert (len(found.videos), found.failures) == (5, plain.failures)
    assert found.top(1) == plain.top(1)


def test_a_broken_file_is_wrong_and_listed(plain: Evaluation, tmp_path: Path) -> None:
    assert [video.name for video in plain.videos] == [
        "val/blue/0.mp4", "val/blue/1.mp4", "val/blue/broken.mp4", "val/red/0.mp4", "val/red/1.mp4"
    ]  # fmt: skip
    assert plain.failures == {2: "is not a video but a text file"}
    assert plain.top(1) == pytest.approx(4 / 5)
    assert plain.confusion().tolist() == [[2, 0, 1], [0, 2, 0]]
    assert plain.scores[[0, 1, 3, 4]].sum(axis=1) == pytest.approx(1)
    plain.write(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["undecodable"] == {"val/blue/broken.mp4": "is not a video but a text file"}
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "predictions.csv").read_text())))
    assert [line["prediction"] for line in lines] == ["blue", "blue", "", "red", "red"]
    assert float(lines[0]["blue"]) == pytest.approx(float(plain.scores[0, 0]), abs=1e-6)
    assert plain.seconds > 0
    assert told["origin"] is None


def test_batches_and_workers_change_nothing(classifier: VideoClassifier, videos: tuple[Video, ...], plain: Evaluation) -> None:
    seen: list[tuple[int, int]] = []
    other = evaluate(classifier, videos, batch_size=3, workers=1, progress=lambda *done: seen.append(done))
    np.testing.assert_allclose(other.scores, plain.scores, rtol=1e-5, atol=1e-6)
    assert other.failures == plain.failures
    assert seen == [(3, 5), (5, 5)]


def test_shuffling_is_the_same_each_time_and_changes_the_clips(
    classifier: VideoClassifier, videos: tuple[Video, ...], plain: Evaluation
) -> None:
    first, second = (evaluate(classifier, videos, batch_size=2, workers=0, shuffle_frames=True) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    good = [0, 1, 3, 4]
    assert np.abs(first.scores[good] - plain.scores[good]).max() > 1e-5


def test_views_are_averaged(classifier: VideoClassifier, videos: tuple[Video, ...]) -> None:
    views = torch.randint(0, 256, (2, 3, 4, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = classifier.score_views(views)
    single = torch.stack([classifier.score_views(views[:, i : i + 1]) for i in range(3)]).mean(dim=0)
    torch.testing.assert_close(together, single, rtol=1e-5, atol=1e-6)
    found = evaluate(classifier, videos[:1], views=ViewsConfig(num_clips=2, num_crops=3), workers=0)
    assert found.protocol == "segment-4, 2x3 views"
    assert found.scores[0].tolist() == pytest.approx(
        classifier.score_views(classifier.read_views(videos[0].path, ViewsConfig(2, 3))[None])[0].tolist(), rel=1e-5
    )
