"""What time is worth: each row against looking at one clip after the other, verdicts on models made for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualpath.data import clips as clips_module
from dualpath.data.manifest import Video
from dualpath.engine.checkpoint import ModelSpec
from dualpath.engine.evaluate import evaluate
from dualpath.engine.predict import VideoClassifier
from dualpath.engine.worth import ORDERS, ROWS, Worth, measure_worth, reorder, why_no_paths
from dualpath.methods import build_model
from dualpath.methods.dualpath import DualPath
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import BackboneConfig
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from tiny import randomise_adapters, tiny_backbone
from videos import write_video

VIEWS = ViewsConfig(num_clips=2, num_crops=3)
FRAMES = 4


def classifier_of(model: nn.Module, *classes: str) -> VideoClassifier:
    spec = ModelSpec(
        "dualpath", DualPathConfig(), BackboneConfig("tiny"), classes, SamplingConfig(num_frames=FRAMES), 0, 0.0, {}
    )
    return VideoClassifier(model, spec, device=torch.device("cpu"))


BOTH = DualPathConfig(num_spatial_frames=2, grid=(2, 2), bottleneck=4)


def dualpath_model(config: DualPathConfig = BOTH) -> nn.Module:
    model = build_model("dualpath", tiny_backbone(), num_classes=3, config=config)
    randomise_adapters(model)
    with torch.no_grad():
        model.head.out.weight.mul_(8)  # pyright: ignore  # scores far from one another
    return model


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Video, ...]:
    """Five noisy clips of 9 frames that differ from frame to frame, the third of them broken."""
    folder = tmp_path_factory.mktemp("noise")
    found = []
    for number in range(5):
        coarse = np.random.default_rng(number).integers(0, 256, (9, 6, 8, 3), np.uint8)
        path = write_video(folder / f"{number}.mp4", list(np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)))
        found.append(Video(path, path.name, number % 3, "test"))
    found[2].path.write_text("no video")
    return tuple(found)


@pytest.fixture(scope="module")
def classifier() -> VideoClassifier:
    return classifier_of(dualpath_model(), "a", "b", "c")


@pytest.fixture(scope="module")
def found(classifier: VideoClassifier, videos: tuple[Video, ...]) -> Worth:
    return measure_worth(classifier, videos, views=VIEWS, batch_size=2, workers=0)


def literal_clips(classifier: VideoClassifier, videos: Sequence[Video], row: str) -> dict[int, list[Tensor]]:
    """The views of each readable video, each a list of frames put into its order by hand."""
    shown = {}
    for index, video in enumerate(videos):
        if index == 2:
            continue
        views = classifier.read_views(video.path, VIEWS)
        orders = np.random.default_rng(np.random.SeedSequence((0, 0, index))).permuted([[0, 1, 2, 3]] * 2, axis=1)
        wanted = {
            "in_order": [[0, 1, 2, 3]] * 6,
            "reversed": [[3, 2, 1, 0]] * 6,
            "one_frame": [[2, 2, 2, 2]] * 6,
            "shuffled": [orders[0].tolist()] * 3 + [orders[1].tolist()] * 3,
        }[row]
        shown[index] = [torch.stack([view[place] for place in order]) for view, order in zip(views, wanted, strict=True)]
    return shown


@pytest.mark.parametrize("row", ORDERS)
def test_each_order_is_that_of_looking_at_one_clip_after_the_other(
    row: str, found: Worth, classifier: VideoClassifier, videos: tuple[Video, ...]
) -> None:
    scores = found.rows[row].scores
    assert np.isnan(scores[2]).all()
    for index, clips in literal_clips(classifier, videos, row).items():
        with torch.no_grad():
            each = [classifier.model(clip[None])[0].softmax(dim=0) for clip in clips]
        np.testing.assert_allclose(scores[index], sum(each).numpy() / 6, rtol=1e-4, atol=1e-5)  # pyright: ignore


@pytest.mark.parametrize("path", ["spatial", "temporal"])
def test_a_silenced_path_says_what_it_says_on_average(
    path: str, found: Worth, classifier: VideoClassifier, videos: tuple[Video, ...]
) -> None:
    model = classifier.model
    assert isinstance(model, DualPath)
    shown = literal_clips(classifier, videos, "in_order")
    with torch.no_grad():
        told = {
            i: [(model.encode_spatial(c[None])[0], model.encode_temporal(c[None])[0]) for c in some]
            for i, some in shown.items()
        }
        silent = 0 if path == "spatial" else 1
        mean = sum(pair[silent] for some in told.values() for pair in some) / (4 * 6)
        for index, some in told.items():
            total = torch.zeros(3)
            for pair in some:
                both = [mean if place == silent else pair[place] for place in (0, 1)]
                total += model.head(torch.cat(both)[None])[0].softmax(dim=0)  # pyright: ignore
            np.testing.assert_allclose(found.rows[f"no_{path}"].scores[index], total.numpy() / 6, rtol=1e-4, atol=1e-5)


def test_rows_differ_from_one_another(found: Worth) -> None:
    """Else the tests above would show nothing."""
    rows = [evaluation.scores[[0, 1, 3, 4]] for evaluation in found.rows.values()]
    assert len(rows) == 6
    for i, one in enumerate(rows):
        assert all(np.abs(one - other).max() > 1e-3 for other in rows[:i])


def test_two_rows_are_what_evaluate_gives(found: Worth, classifier: VideoClassifier, videos: tuple[Video, ...]) -> None:
    for row, shuffled in (("in_order", False), ("shuffled", True)):
        plain = evaluate(classifier, videos, views=VIEWS, batch_size=2, workers=0, shuffle_frames=shuffled)
        np.testing.assert_array_equal(found.rows[row].scores, plain.scores)
        assert found.rows[row].top(1) == plain.top(1)
        assert found.rows[row].protocol == plain.protocol
        assert found.rows[row].failures == plain.failures == {2: "is not a video but a text file"}


def test_a_broken_video_is_wrong_in_each_row_and_others_are_decoded_once(
    found: Worth, classifier: VideoClassifier, videos: tuple[Video, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(found.right(row)[2] for row in found.rows)
    read, told = [], []
    real = clips_module.read_frames
    monkeypatch.setattr(clips_module, "read_frames", lambda path, *a, **k: (read.append(path.name), real(path, *a, **k))[1])
    again = measure_worth(
        classifier, videos, views=VIEWS, batch_size=3, workers=0, progress=lambda *done: told.append(done), bad={1: "hangs"}
    )
    assert read == ["0.mp4", "3.mp4", "4.mp4"]
    assert told == [(3, 5), (5, 5)]
    assert again.in_order.failures == {1: "hangs", 2: "is not a video but a text file"}
    assert {evaluation.quarantined for evaluation in again.rows.values()} == {1}
    np.testing.assert_allclose(again.rows["shuffled"].scores[3:], found.rows["shuffled"].scores[3:], rtol=1e-5)


def test_losses_by_hand(found: Worth) -> None:
    right = {row: found.right(row) for row in found.rows}
    assert list(found.losses) == [row for row in ROWS if row != "in_order"]
    for row, loss in found.losses.items():
        assert loss.difference == pytest.approx(right["in_order"].mean() - right[row].mean())


def test_reordering_by_hand() -> None:
    """Two videos of one clip and two crops; a frame's only pixel is its number."""
    frames = torch.arange(20, dtype=torch.uint8).reshape(2, 2, 5, 1, 1, 1)

    def numbers(order: str) -> list[list[list[int]]]:
        return reorder(frames, [7, 3], order=order, num_clips=1).flatten(2).tolist()

    assert numbers("reversed") == [[[4, 3, 2, 1, 0], [9, 8, 7, 6, 5]], [[14, 13, 12, 11, 10], [19, 18, 17, 16, 15]]]
    assert numbers("one_frame") == [[[2] * 5, [7] * 5], [[12] * 5, [17] * 5]]
    assert numbers("in_order") == frames.flatten(2).tolist()
    (first, same), (other, _) = numbers("shuffled")
    assert sorted(first) == [0, 1, 2, 3, 4]
    assert [number + 5 for number in first] == same  # crops of a clip stay together
    assert [number + 10 for number in first] != other


def test_methods_without_two_paths_have_no_such_rows(videos: tuple[Video, ...]) -> None:
    probe = build_model("linear_probe", tiny_backbone(), num_classes=3, config=LinearProbeConfig(num_probe_frames=0))
    found = measure_worth(classifier_of(probe, "a", "b", "c"), videos[:2], batch_size=2, workers=0)
    assert tuple(found.rows) == ORDERS
    assert found.no_paths == "LinearProbe has no paths, so none was silenced; DualPath has two."
    # It takes the mean over frames, so their order is nothing to it.
    np.testing.assert_allclose(found.rows["reversed"].scores, found.in_order.scores, atol=1e-5)
    assert (
        why_no_paths(dualpath_model(DualPathConfig(paths="temporal", grid=(2, 2))))
        == "This DualPath has the temporal path alone, so none was silenced."
    )
    assert why_no_paths(dualpath_model()) is None


class Rising(nn.Module):
    """Class 0 is "down", 1 is "up": the brightness of the last frame less that of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.config = tiny_backbone(), DualPathConfig()

    def check_clip(self, num_frames: int) -> None: ...

    def forward(self, frames: Tensor) -> Tensor:
        light = frames.float().mean(dim=(2, 3, 4))
        change = light[:, -1] - light[:, 0]
        return torch.stack([-change, change], dim=1)


class Reddish(Rising):
    """Class 0 is "blue", 1 is "red": the colours of all frames."""

    def forward(self, frames: Tensor) -> Tensor:
        colours = frames.float().mean(dim=(1, 3, 4))
        return torch.stack([colours[:, 2], colours[:, 0]], dim=1)


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips each, <colour>-<direction>-<number>.mp4, that grow brighter or darker."""
    folder = tmp_path_factory.mktemp("lit")
    for colour, (red, blue) in {"red": (1.0, 0.3), "blue": (0.3, 1.0)}.items():
        for direction, lights in {"up": range(60, 220, 20), "down": range(200, 40, -20)}.items():
            for number in range(10):
                frames = [np.full((32, 32, 3), (red * (n + number), 40, blue * (n + number)), np.uint8) for n in lights]
                write_video(folder / f"{colour}-{direction}-{number}.mp4", frames, width=32, height=32)
    return folder


def labelled(folder: Path, word: int, classes: Sequence[str]) -> list[Video]:
    return [Video(path, path.name, classes.index(path.stem.split("-")[word]), "test") for path in sorted(folder.glob("*.mp4"))]


def test_a_model_that_knows_only_order_gets_the_verdict_motion(lit: Path) -> None:
    classes = ("down", "up")
    found = measure_worth(classifier_of(Rising(), *classes), labelled(lit, 1, classes), batch_size=16, workers=0)
    assert [one.verdict for one in found.by_class] == ["motion", "motion"]
    assert [int(found.right(row).sum()) for row in ("in_order", "reversed", "one_frame")] == [40, 0, 20]
    assert found.losses["reversed"].low == 1.0
    assert found.no_paths == "Rising has no paths, so none was silenced; DualPath has two."


def test_a_model_that_knows_only_colours_gets_the_verdict_appearance(lit: Path) -> None:
    classes = ("blue", "red")
    found = measure_worth(classifier_of(Reddish(), *classes), labelled(lit, 0, classes), batch_size=16, workers=0)
    assert [one.verdict for one in found.by_class] == ["appearance", "appearance"]
    assert all(found.right(row).all() for row in found.rows)
    assert found.losses["shuffled"].high == 0.0
