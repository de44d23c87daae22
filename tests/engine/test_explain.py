"""Maps of where a prediction comes from: against the papers' equations, on every family, and what users may do wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dualpath
from dualpath.engine.explain import explain, explain_clip
from dualpath.engine.explanation import KINDS, Explanation, PathMap
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError, VideoError
from dualpath.methods import build_model
from dualpath.methods.dualpath import DualPath, DualPathConfig
from dualpath.report.maps.description import as_json, predicted_and_explained
from dualpath.video.decode import read_frames
from dualpath.video.protocols import ViewsConfig
from families import FAMILIES, family_backbone
from oracles import dualpath as shapes
from oracles import relevance as oracle
from runs import write_clip
from tiny import random_clips, randomise, randomise_adapters, tiny_backbone
from videos import hit

SMALL = DualPathConfig(num_spatial_frames=2, grid=(2, 2), bottleneck=6)


def make(grid: tuple[int, int] = (2, 2), spatial: int = 2, **changes: object) -> DualPath:
    config = DualPathConfig(num_spatial_frames=spatial, grid=grid, bottleneck=6)
    model = build_model("dualpath", tiny_backbone(**changes), num_classes=5, config=config)  # pyright: ignore[reportArgumentType]
    assert isinstance(model, DualPath)
    randomise_adapters(model)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("grid", "t", "size"), [((2, 2), 8, 32), ((2, 2), 4, 24), ((4, 4), 16, 16)], ids=["whole", "straddling", "small"]
)
def test_maps_are_those_of_the_papers(kind: str, grid: tuple[int, int], t: int, size: int) -> None:
    model, frames = make(grid, img_size=size, reg_tokens=1), random_clips(1, t, size=size)
    label = 3
    logits, explained, paths = explain_clip(model, frames, label=label, kind=kind)
    shape = shapes.Shape(patch=8, heads=2, grid=grid, num_spatial_frames=2)
    wanted = oracle.maps(model.state_dict(), frames[0].numpy(), shape, label=label, kind=kind)
    assert explained == label
    torch.testing.assert_close(logits, torch.from_numpy(wanted["logits"]).float(), atol=1e-5, rtol=1e-5)
    assert [path.path for path in paths] == ["spatial", "temporal"]
    assert paths[0].frames == (t // 4, 3 * t // 4)
    assert paths[1].frames == tuple(range(t))
    for path in paths:
        np.testing.assert_allclose(path.shares, wanted[path.path], atol=1e-5)
        assert path.shares.sum() == pytest.approx(1, abs=1e-5)
        assert path.shares.std() > 1e-5


def test_the_attention_of_a_chosen_block() -> None:
    model, frames = make(depth=3), random_clips(1, 4)
    shape = shapes.Shape(patch=8, heads=2, grid=(2, 2), num_spatial_frames=2)
    found = [explain_clip(model, frames, kind="attention", block=block)[2] for block in range(3)]
    for block, paths in enumerate(found):
        wanted = oracle.maps(model.state_dict(), frames[0].numpy(), shape, label=0, kind="attention", block=block)
        for path in paths:
            np.testing.assert_allclose(path.shares, wanted[path.path], atol=1e-5)
    last = explain_clip(model, frames, kind="attention")[2]
    assert np.array_equal(last[0].shares, found[2][0].shares)
    assert np.abs(found[0][1].shares - found[1][1].shares).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_maps_its_structure_allows(family: str) -> None:
    model = build_model(
        "dualpath", family_backbone(family), num_classes=3, config=DualPathConfig(num_spatial_frames=2, grid=(2, 2))
    )
    assert isinstance(model, DualPath)
    randomise_adapters(model.eval())
    frames = random_clips(1, 8)
    with torch.no_grad():
        wanted = model(frames)[0]
    for kind in KINDS if model.backbone.attends_wholly else ("relevance",):
        logits, label, paths = explain_clip(model, frames, kind=kind)
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)
        assert label == wanted.argmax()
        assert [path.frames for path in paths] == [(2, 6), tuple(range(8))]
        for path in paths:
            assert path.shares.min() >= 0
            assert path.shares.sum() == pytest.approx(1, abs=1e-4)
        assert paths[1].shares.shape == (8, *model.cell)
        rows, columns = paths[1].token
        token = paths[1].shares[0, :rows, :columns]  # the first frame begins with a whole one
        assert token.shape == (rows, columns)
        assert np.ptp(token) <= 1e-5 * token.max()
        assert (rows, columns) == tuple(side // (2 * cells) for side, cells in zip(model.frameset_size, (2, 2), strict=True))
    assert all(value.grad is None for value in model.parameters())


def test_relevance_without_whole_attention_is_each_tokens_part_of_the_logit() -> None:
    """With a linear read-out behind the mean, parts add up to what the tokens give to the logit, where all are positive."""
    backbone = family_backbone("Swin")
    model = build_model("dualpath", backbone, num_classes=3, config=SMALL)
    assert isinstance(model, DualPath)
    tokens: list[torch.Tensor] = []
    handle = backbone.last_norm.register_forward_hook(lambda *given: tokens.append(given[2].detach().clone()))
    frames = random_clips(1, 4)
    _, label, paths = explain_clip(model.eval(), frames, kind="relevance")
    handle.remove()
    spatial = tokens[0].requires_grad_()
    features = {"spatial": spatial.mean(dim=(0, 1))[None], "temporal": tokens[1].mean(dim=(0, 1))[None]}
    (slope,) = torch.autograd.grad(model.classify(features)[0, label], spatial)
    parts = np.maximum((spatial.detach() * slope).sum(-1).numpy(), 0).reshape(paths[0].shares.shape)
    np.testing.assert_allclose(paths[0].shares, parts / parts.sum(), atol=1e-6)


def test_maps_change_when_the_trained_weights_are_randomised() -> None:
    model, frames = make(), random_clips(1, 4)
    before = explain_clip(model, frames, label=1)[2]
    randomise_adapters(model, seed=7)
    assert model.spatial is not None
    after = explain_clip(model, frames, label=1)[2]
    for old, new in zip(before, after, strict=True):
        assert np.corrcoef(old.shares.ravel(), new.shares.ravel())[0, 1] < 0.9
    randomise(model.head, seed=9)
    assert np.abs(explain_clip(model, frames, label=1)[2][0].shares - after[0].shares).max() > 1e-3


def test_a_path_that_speaks_against_the_class_has_an_empty_map() -> None:
    model, frames = make(), random_clips(1, 4)
    with torch.no_grad():
        model.head.hidden.weight[:, : model.backbone.features] = 0
    spatial, temporal = explain_clip(model, frames, label=0)[2]
    assert not spatial.shares.any()
    assert temporal.shares.sum() == pytest.approx(1, abs=1e-5)


def test_one_path_alone_has_one_map() -> None:
    config = DualPathConfig(paths="temporal", grid=(2, 2), bottleneck=6)
    model = build_model("dualpath", tiny_backbone(), num_classes=5, config=config).eval()
    assert isinstance(model, DualPath)
    assert [path.path for path in explain_clip(model, random_clips(1, 4))[2]] == ["temporal"]


def test_heat_is_counted_in_even_spreads() -> None:
    shares = np.zeros((2, 2, 2), np.float32)
    shares[0, 0, 0], shares[1, 1, 1] = 0.75, 0.25
    path = PathMap("spatial", (1, 3), shares)
    assert path.heat[0, 0, 0] == 6
    assert path.heat.mean() == 1
    assert path.by_frame.tolist() == [0.75, 0.25]


# --- files


@pytest.fixture(scope="module")
def model(trained: Path) -> VideoClassifier:
    return dualpath.load(trained, precision="fp32")


def test_a_file_is_explained_as_it_is_predicted(model: VideoClassifier, clips: Path) -> None:
    video = clips / "val" / "red" / "0.mp4"
    found = model.explain(video)
    assert isinstance(found, Explanation)
    best = model.predict(video)[0]
    assert (found.guess, found.label) == ("red", "red")
    assert found.score == pytest.approx(best["score"], abs=1e-5)
    assert found.clip.shape == (4, model.size, model.size, 3)
    read = read_frames(video, found.indices.tolist())
    assert np.array_equal(found.times, read.times)
    assert found.indices.tolist() == sorted(set(found.indices.tolist()))
    assert np.array_equal(found.clip, model.read_views(video, ViewsConfig())[0].permute(0, 2, 3, 1).numpy())
    other = model.explain(video, label="blue")
    assert other.label == "blue"
    assert other.score == pytest.approx(1 - found.score, abs=1e-5)
    assert not np.array_equal(other.paths[1].shares, found.paths[1].shares)
    assert found.path("temporal") is found.paths[1]
    assert found.path("none") is None


def test_how_the_file_is_read(model: VideoClassifier, tmp_path: Path) -> None:
    video = hit(write_clip(tmp_path / "hit.mp4", "red", seed=3, frames=40), 20)
    with pytest.raises(VideoError, match="took longer than"):
        explain(model, video, views=ViewsConfig(seconds=1e-9))
    with pytest.raises(VideoError, match="could be decoded"):
        explain(model, video)
    found = explain(model, video, views=ViewsConfig(damaged="take"))
    assert found.damage is not None
    assert found.damage.startswith("is damaged: ")
    assert predicted_and_explained(found)[0].endswith(", of a damaged file")
    assert as_json(found)["damaged"] == found.damage
    assert as_json(found)["description"].endswith(f"The file {found.damage}.")


def test_what_cannot_be_explained_is_told(model: VideoClassifier, clips: Path, tmp_path: Path) -> None:
    video = clips / "val" / "red" / "0.mp4"
    with pytest.raises(DualPathError, match=r"no class 'rad' \(did you mean red\?\); its 2 classes are blue, red"):
        model.explain(video, label="rad")
    with pytest.raises(DualPathError, match=r"unknown kind 'relevanz' \(did you mean relevance\?\); there are"):
        model.explain(video, kind="relevanz")
    with pytest.raises(DualPathError, match="class 'red' has no effect on kind attention, which is the same for all"):
        model.explain(video, kind="attention", label="red")
    with pytest.raises(DualPathError, match="block 0 has no effect on kind rollout"):
        model.explain(video, kind="rollout", block=0)
    with pytest.raises(DualPathError, match=r"block 99 does not exist; .* has the blocks 0 to \d+"):
        model.explain(video, kind="attention", block=99)
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"no\.mp4"):
        model.explain(tmp_path / "no.mp4")


def test_other_methods_and_backbones_are_refused_with_the_reason(model: VideoClassifier, clips: Path) -> None:
    video = clips / "val" / "red" / "0.mp4"
    probe = build_model("linear_probe", tiny_backbone(), num_classes=2)
    with pytest.raises(DualPathError, match="has no paths to look at; explain knows dualpath alone, but `dualpath worth`"):
        explain(VideoClassifier(probe, model.spec, device=torch.device("cpu")), video)
    swin = build_model(
        "dualpath", family_backbone("Swin"), num_classes=2, config=DualPathConfig(num_spatial_frames=1, grid=(2, 2))
    )
    with pytest.raises(DualPathError, match=r"kind rollout follows attention over whole pictures, but .* within windows"):
        explain(VideoClassifier(swin, model.spec, device=torch.device("cpu")), video, kind="rollout")


def test_a_short_video_is_explained_with_its_last_frame_repeated(model: VideoClassifier, tmp_path: Path) -> None:
    found = model.explain(write_clip(tmp_path / "red" / "x.mp4", "red", seed=3, frames=2))
    assert found.indices.tolist() == [0, 1, 1, 1]
    assert found.paths[1].shares.shape[0] == 4
