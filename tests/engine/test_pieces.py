"""Clips go through a model in pieces on a processor: the same numbers, with the memory of one piece."""

from __future__ import annotations

import sys

import pytest
import torch

from dualpath.engine import pieces
from dualpath.engine.alive import most_alive
from dualpath.engine.checkpoint import ModelSpec
from dualpath.engine.config import TrainConfig
from dualpath.engine.learner import Learner, Micro, NotFiniteError
from dualpath.engine.pieces import biggest_piece, clips_at_once, in_pieces
from dualpath.engine.predict import VideoClassifier
from dualpath.engine.worth import encode_views
from dualpath.methods import METHODS, build_model, trained_state
from dualpath.nn.zoo import BackboneConfig
from dualpath.video.sampling import SamplingConfig
from families import FAMILIES, family_backbone
from small import SMALL
from tiny import random_clips, randomise_adapters, tiny_backbone

CPU = torch.device("cpu")


def of_at_most(clips: int, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A model, and pieces of so many of its clips."""
    model = build_model("dualpath", tiny_backbone(), num_classes=5, config=SMALL["dualpath"])
    randomise_adapters(model)
    each = model.config.num_pictures(8) * model.backbone.token_bytes  # pyright: ignore[reportCallIssue, reportOperatorIssue]
    monkeypatch.setattr(pieces, "MOST", each * (clips + 1) - 1)
    return model


@pytest.mark.parametrize("name", METHODS)
def test_what_is_counted_is_what_enters_the_first_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = build_model(name, tiny_backbone(), num_classes=2, config=SMALL.get(name)).eval(), []
    walk = type(model.backbone).walk  # pyright: ignore[reportAttributeAccessIssue]

    def looked_at(self: object, tokens: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        seen.append(tokens.nbytes)
        return walk(self, tokens, *args, **kwargs)

    monkeypatch.setattr(type(model.backbone), "walk", looked_at)
    with torch.inference_mode():
        model(random_clips(3, 8))
    counted = 3 * model.config.num_pictures(8) * model.backbone.token_bytes  # pyright: ignore
    extra = {"vpt": seen[0] - counted}.get(name, 0)  # its prompts come on top
    assert max(seen) == counted + extra
    assert extra < counted / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_no_layer_has_more_tokens_than_the_first(family: str) -> None:
    backbone = family_backbone(family)
    sizes = [layer.width * (layer.prefix + layer.grid[0] * layer.grid[1]) for layer in backbone.layers()]
    assert backbone.token_bytes == 4 * max(sizes)


def test_pieces_are_as_equal_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = of_at_most(3, monkeypatch), random_clips(8, 8)
    found = in_pieces(clips, model, CPU)
    assert [len(piece) for piece in found] == [3, 3, 2]
    assert torch.equal(torch.cat(list(found)), clips)
    assert [len(piece) for piece in in_pieces(clips[:3], model, CPU)] == [3]
    assert [len(piece) for piece in in_pieces(clips[:0], model, CPU)] == [0]
    gpu = torch.device("cuda")
    assert [len(piece) for piece in in_pieces(clips, model.train(), gpu)] == [8]  # as many as the user asked for
    assert [len(piece) for piece in in_pieces(clips, model.eval(), gpu)] == [8]
    monkeypatch.setattr(pieces, "MOST_ON_GPU", pieces.MOST)
    assert [len(piece) for piece in in_pieces(clips, model, gpu)] == [3, 3, 2]
    assert [len(piece) for piece in in_pieces(clips, model.train(), gpu)] == [8]
    for together, sizes in ((2, [2] * 4), (4, [4, 4]), (8, [8])):
        found = in_pieces(clips, model, CPU, together=together)
        assert [len(piece) for piece in found] == sizes
        assert torch.equal(torch.cat(list(found)), clips)
    monkeypatch.setattr(pieces, "MOST", 1)
    assert [len(piece) for piece in in_pieces(clips, model, CPU)] == [1] * 8
    assert [len(piece) for piece in in_pieces(clips, model, CPU, together=4)] == [4, 4]
    assert [biggest_piece(8, most) for most in (1, 3, 4, 7, 8, sys.maxsize)] == [1, 3, 4, 4, 8, 8]


def test_of_the_published_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips of ViT-B/16 in fp32, as measured."""
    monkeypatch.undo()
    with torch.device("meta"):
        backbone = tiny_backbone(meta=True, embed_dim=768, img_size=224, patch_size=16)
    assert backbone.token_bytes == 197 * 768 * 4
    assert clips_at_once(backbone, METHODS["dualpath"].config(), 32, CPU) == 2
    assert clips_at_once(backbone, METHODS["dualpath"].config(), 32, torch.device("cuda"), training=False) == 13


def test_scores_and_features_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_at_most(5, monkeypatch)
    sampling = SamplingConfig(num_frames=8)
    spec = ModelSpec("dualpath", SMALL["dualpath"], BackboneConfig("tiny"), tuple("abcde"), sampling, 0, 0.0, {})
    classifier, views = VideoClassifier(model, spec, device=CPU), random_clips(3, 2, 8)
    sizes, encode = [], model.encode

    def looked_at(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(model, "encode", looked_at)
    scores, features = classifier.score_views(views), encode_views(classifier, views)
    monkeypatch.setattr(pieces, "MOST", 1 << 30)
    torch.testing.assert_close(classifier.score_views(views), scores)
    whole = encode_views(classifier, views)
    assert sizes == [4, 2, 4, 2, 6, 6]  # two videos of two views, one
    assert features.keys() == whole.keys() == {"spatial", "temporal"}
    for path, found in whole.items():
        torch.testing.assert_close(features[path], found)


def learnt(model: torch.nn.Module, clips: torch.Tensor, labels: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    learner = Learner(model, TrainConfig(lr=1e-3), CPU)
    learner.begin()
    return learner.step([Micro(clips, labels, 0)], lr=lambda peak: 0.0), {
        k: v.grad for k, v in model.named_parameters() if v.requires_grad
    }


def test_a_training_step_is_the_same_and_leaner(monkeypatch: pytest.MonkeyPatch) -> None:
    clips, labels = random_clips(8, 8), torch.arange(8) % 5
    whole_loss, whole = learnt(of_at_most(8, monkeypatch), clips, labels)
    model = of_at_most(2, monkeypatch)
    loss, found = learnt(model, clips, labels)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert found.keys() == whole.keys() == trained_state(model).keys()
    for key, value in found.items():
        torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-6)
    learner = Learner(model, TrainConfig(lr=1e-3), CPU)
    learner.begin()

    def bytes_of(clips_at_most: int) -> int:
        each = model.config.num_pictures(8) * model.backbone.token_bytes  # pyright: ignore
        monkeypatch.setattr(pieces, "MOST", each * clips_at_most)
        return most_alive(lambda: learner.step([Micro(clips, labels, 0)], lr=lambda peak: 0.0), device=CPU)

    bytes_of(8)
    assert bytes_of(2) < 0.4 * bytes_of(8)


def test_a_clip_whose_loss_is_no_number_is_named_by_its_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_at_most(2, monkeypatch)
    bad = random_clips(8, 8)
    forward = model.forward

    def spoilt(frames: torch.Tensor) -> torch.Tensor:
        marked = frames[:, 0, 0, 0, 0] == 7
        return forward(frames) + torch.where(marked, torch.nan, 0.0)[:, None]

    monkeypatch.setattr(model, "forward", spoilt)
    bad[:, 0, 0, 0, 0] = 0
    bad[5, 0, 0, 0, 0] = 7
    with pytest.raises(NotFiniteError) as problem:
        learnt(model, bad, torch.arange(8) % 5)
    assert problem.value.clips == ((0, 5),)
