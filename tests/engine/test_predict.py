from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import dualpath
from dualpath.data.manifest import read_manifest
from dualpath.engine.evaluate import evaluate
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError, VideoError
from dualpath.methods import METHODS, build_model
from dualpath.nn.zoo import EMBEDDED, random_backbone
from dualpath.video.decode import read_frames
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from runs import write_clip
from small import SMALL


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
from pathlib import Path
import torch
import dualpath
from dualpath.data.clips import TestClips, TrainClips
from dualpath.data.manifest import Video
from dualpath.errors import DualPathError
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig

torch.set_num_threads(2)
path, told = sys.argv[2], "was forked after a model had been loaded or a data set of clips made"
videos, sampling = [Video(Path(path), path, 0, "train")], SamplingConfig(num_frames=4)
train = TrainClips(videos, sampling=sampling, transform=TransformConfig(), size=32, flip=False, seed=0)
test = TestClips(videos, sampling=sampling, size=32)
model = dualpath.load(sys.argv[1], precision="fp32")
model.predict(path)
for threads in (2, 1):
    if os.fork() == 0:
        torch.set_num_threads(threads)
        code = 10
        for read in (lambda: train[0, 0], lambda: test[0], lambda: model.predict(path)):
            try:
                read()
            except DualPathError as problem:
                code += told in str(problem)
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_a_forked_process_is_told_so_and_does_not_hang(trained: Path, clips: Path) -> None:
    words = [sys.executable, "-c", FORKED, str(trained), str(clips / "val" / "red" / "0.mp4")]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert told.stdout.split() == ["13", "10"], told.stderr


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


# --- videos in memory


@pytest.fixture(scope="module")
def frames(clips: Path) -> np.ndarray:
    """(T, H, W, 3), decoded at their own size, 64x48; the model takes 128x128."""
    return read_frames(clips / "val" / "red" / "0.mp4", range(8)).frames.permute(0, 2, 3, 1).numpy()


def forms(frames: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same video as people hold it."""
    tensor = torch.from_numpy(frames.copy())
    locked = frames.copy()
    locked.flags.writeable = False
    return {
        "array": lambda: frames,
        "array (T,C,H,W)": lambda: frames.transpose(0, 3, 1, 2),
        "tensor": lambda: tensor,
        "tensor (T,C,H,W)": lambda: tensor.permute(0, 3, 1, 2),
        "read-only": lambda: locked,
        "negative strides": lambda: frames[:, :, :, ::-1].copy()[:, :, :, ::-1],
        "PIL": lambda: [Image.fromarray(frame) for frame in frames],
        "list of arrays": lambda: list(frames),
        "tuple of tensors": lambda: tuple(tensor.permute(0, 3, 1, 2)),
        "generator": lambda: (frame for frame in frames),
        "PyAV": lambda: (av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24") for frame in frames),
    }


FORMS = list(forms(np.zeros((1, 1, 1, 3), np.uint8)))


@pytest.mark.parametrize("form", FORMS)
def test_a_video_in_memory_is_judged_as_its_file(form: str, model: VideoClassifier, clips: Path, frames: np.ndarray) -> None:
    expected = model.predict(clips / "val" / "red" / "0.mp4", num_clips=2, num_crops=3)
    assert model.predict(forms(frames)[form](), num_clips=2, num_crops=3) == expected


def test_large_frames_are_scaled_alike_whole_or_one_by_one(model: VideoClassifier) -> None:
    large = np.random.default_rng(0).integers(0, 256, (6, 150, 200, 3), dtype=np.uint8)
    whole, one_by_one = model.predict(large), model.predict(iter(large))
    assert whole == one_by_one
    moved = model.predict(np.roll(large, 60, axis=2))
    assert whole != moved


def test_several_videos_give_a_list(
    model: VideoClassifier, clips: Path, frames: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red, blue = (clips / "val" / colour / "0.mp4" for colour in ("red", "blue"))
    (tmp_path / "text.mp4").write_text("hello")
    expected = [model.predict(path) for path in (red, blue)]
    paths = [str(red), tmp_path / "text.mp4", blue]
    for given in (paths, iter(paths), tuple(paths), np.array([str(path) for path in paths])):
        found = model.predict(given)
        assert [[guess["label"] for guess in row] for row in found] == [["red", "blue"], [], ["blue", "red"]]
        for row, wanted in zip((found[0], found[2]), expected, strict=True):
            assert [guess["score"] for guess in row] == pytest.approx([guess["score"] for guess in wanted], rel=1e-5)
        assert capsys.readouterr().err == f"{tmp_path / 'text.mp4'}: is not a video but a text file\n"
    assert model.predict([frames, blue])[0][0]["score"] == pytest.approx(expected[0][0]["score"], rel=1e-5)
    assert [len(row) for row in model.predict([red], top_k=1)] == [1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda a: a / 255.0, r"frames are of type float64, but uint8 is needed.*: multiply values of 0 to 1 by 255"),
        (lambda a: torch.from_numpy(a) / 255, r"frames are of type float32, but uint8"),
        (lambda a: a.astype(np.int64), r"frames are of type int64, but uint8.*: convert them"),
        (lambda a: a > 100, r"frames are of type bool"),
        (lambda a: list(a / np.float32(255)), r"frame 0 is of type float32, but uint8"),
        (lambda a: a.transpose(3, 0, 1, 2), r"frames of shape \(3, 8, 48, 64\) given.*swap the first two axes"),
        (lambda a: a[..., :1], r"frames of shape \(8, 48, 64, 1\) given, but it must be \(T, H, W, 3\)"),
        (lambda a: np.concatenate([a, a[..., :1]], axis=3), r"frames of shape \(8, 48, 64, 4\)"),
        (lambda a: a[0], r"an array of shape \(48, 64, 3\) is a single picture"),
        (lambda a: a[None], r"shape \(1, 8, 48, 64, 3\) holds several videos; give them as a list"),
        (lambda a: a[:0], r"hold no pixel"),
        (lambda a: a[0, 0, 0], r"frames of shape \(3,\)"),
        (lambda a: [a[0], a[0, ..., 0]], r"frame 1 has the shape \(48, 64\)"),
        (lambda a: [a[0], a[0, :40]], r"frame 1 has 64x40 pixels, but the first one 64x48"),
        (lambda a: [a[0], None], r"frame 1 is None, which is no picture"),
        (lambda a: ["a.mp4", 3], r"item 1 is a value of type int, which is no video"),
        (lambda a: [a, "a.mp4", a / 255], r"item 2 frames are of type float64"),
        (lambda a: Image.fromarray(a[0]), r"a single picture was given"),
        (lambda a: [], r"an empty list was given"),
        (lambda a: iter(()), r"which holds no video"),
        (lambda a: None, r"None was given, which is no video"),
        (lambda a: 7, r"a value of type int was given"),
        (lambda a: b"a.mp4", r"a value of type bytes was given"),
        (lambda a: {"path": "a.mp4"}, r"a value of type dict was given"),
    ],
)
def test_what_is_no_video_is_told_in_a_sentence(
    wrong: Callable[[np.ndarray], Any], said: str, model: VideoClassifier, frames: np.ndarray
) -> None:
    for call in (model.predict, model.encode):
        with pytest.raises(DualPathError, match=said) as refused:
            call(wrong(frames))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", [True, 0, -1])
def test_numbers_of_classes_and_views_are_checked(wrong: Any, model: VideoClassifier, frames: np.ndarray) -> None:
    for name in ("top_k", "num_clips", "num_crops"):
        with pytest.raises(DualPathError, match=f"{name} .*must be"):
            model.predict(frames, **{name: wrong})


# --- features and devices


def test_features_are_what_the_classifier_takes(model: VideoClassifier, clips: Path, tmp_path: Path) -> None:
    path = clips / "val" / "red" / "0.mp4"
    found = model.encode(path)
    expected = model.model.encode(model.read_views(path, ViewsConfig()))
    assert found.keys() == {"features", "spatial", "temporal"}
    for name in ("spatial", "temporal"):
        torch.testing.assert_close(found[name], expected[name][0].detach())
    assert torch.equal(found["features"], torch.cat([found["spatial"], found["temporal"]]))
    logits = model.model.head(found["features"][None])
    assert logits.softmax(dim=-1)[0].max().item() == pytest.approx(model.predict(path)[0]["score"], rel=1e-5)
    views = model.model.encode(model.read_views(path, ViewsConfig(2, 1)))
    torch.testing.assert_close(model.encode(path, num_clips=2)["spatial"], views["spatial"].mean(dim=0).detach())
    several = model.encode([path, tmp_path / "nope.mp4"])
    torch.testing.assert_close(several[0]["features"], found["features"])
    assert several[1] == {}
    with pytest.raises(VideoError, match="there is no such file"):
        model.encode(tmp_path / "nope.mp4")


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_features(method: str, model: VideoClassifier, frames: np.ndarray) -> None:
    made = build_model(method, random_backbone(EMBEDDED), num_classes=2, config=SMALL.get(method))
    spec = replace(model.spec, method=method, options=made.config, sampling=SamplingConfig(8))
    found = VideoClassifier(made, spec, device=torch.device("cpu")).encode(frames)["features"]
    with torch.no_grad():
        logits = made.head(found[None])
        views = VideoClassifier(made, spec, device=torch.device("cpu")).read_views(frames.transpose(0, 3, 1, 2), ViewsConfig())
        torch.testing.assert_close(logits, made(views), rtol=1e-4, atol=1e-4)


def test_devices_by_name(trained: Path, model: VideoClassifier, frames: np.ndarray) -> None:
    other = dualpath.load(trained, precision="fp32", device="cpu")
    assert other.to("cpu") is other
    assert other.predict(frames) == model.predict(frames)
    assert dualpath.load(trained, backbone=model, device=torch.device("cpu")).backbone is model.backbone
    for wrong in ("banana", "cuda:99", "meta"):
        with pytest.raises(DualPathError, match=f"the device {wrong!r} cannot be used here; there are cpu"):
            dualpath.load(trained, device=wrong)
        with pytest.raises(DualPathError, match="cannot be used here"):
            other.to(wrong)
    assert other.predict(frames) == model.predict(frames)
