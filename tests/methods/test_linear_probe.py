"""The linear probe: a mean, a norm and one trained layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dualpath.errors import DualPathError
from dualpath.methods import build_model
from dualpath.methods.linear_probe import LinearProbe, LinearProbeConfig
from tiny import random_clips, tiny_backbone


def make(num_probe_frames: int = 8, num_classes: int = 5) -> LinearProbe:
    config = LinearProbeConfig(num_probe_frames=num_probe_frames)
    model = build_model("linear_probe", tiny_backbone(num_classes=16), num_classes=num_classes, config=config)
    assert isinstance(model, LinearProbe)
    return model.eval()


@pytest.mark.parametrize(("wanted", "seen"), [(0, range(7)), (1, [3]), (3, [1, 3, 5]), (7, range(7))])
def test_equals_the_literal_mean(wanted: int, seen: list[int]) -> None:
    model, frames = make(wanted), random_clips(2, 7)
    weight, bias = model.head.weight, model.head.bias
    with torch.no_grad():
        logits = model(frames)
        for clip, row in zip(frames, logits, strict=True):
            mean = sum(model.backbone(clip[i][None])[0] for i in seen) / len(seen)
            centred = mean - mean.mean()
            normed = centred / (centred.square().mean() + 1e-5).sqrt()
            torch.testing.assert_close(row, weight @ normed + bias, atol=1e-5, rtol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_ordered_equals_the_literal_row_of_features() -> None:
    config = LinearProbeConfig(num_probe_frames=3, read_out="ordered")
    model = build_model("linear_probe", tiny_backbone(num_classes=16), num_classes=5, config=config).eval()
    frames = random_clips(2, 7)
    head: nn.Linear = model.head  # pyright: ignore[reportAssignmentType]
    assert head.in_features == 3 * 16
    with torch.no_grad():
        logits = model(frames)
        for clip, row in zip(frames, logits, strict=True):
            parts = []
            for i in (1, 3, 5):
                feature = model.backbone(clip[i][None])[0]  # pyright: ignore[reportCallIssue]
                centred = feature - feature.mean()
                parts.append(centred / (centred.square().mean() + 1e-5).sqrt())
            torch.testing.assert_close(row, head.weight @ torch.cat(parts) + head.bias, atol=1e-5, rtol=1e-5)
        assert (model(frames.flip(1)) - logits).abs().max() > 1e-3


def test_the_order_of_the_frames_does_not_matter() -> None:
    model, frames = make(0), random_clips(2, 6)
    with torch.no_grad():
        for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
            torch.testing.assert_close(model(frames[:, order]), model(frames), atol=1e-5, rtol=1e-5)
        assert (
            make(2)(frames[:, [3, 0, 5, 1, 4, 2]]) - make(2)(frames)
        ).abs().max() > 1e-3  # the sparse one looks at other frames


def test_only_the_head_is_trained_and_learns() -> None:
    model, frames, labels = make(0, num_classes=3), random_clips(3, 4), torch.arange(3)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {name: tuple(value.shape) for name, value in trained.items()} == {"head.weight": (3, 16), "head.bias": (3,)}
    frozen = {name: value.clone() for name, value in model.backbone.named_parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model.train()(frames), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    assert all(torch.equal(value, frozen[name]) for name, value in model.backbone.named_parameters())
    assert all(value.grad is None for value in model.backbone.parameters())


def test_refusals() -> None:
    with pytest.raises(DualPathError, match="num_probe_frames -1 must be 0 "):
        LinearProbeConfig(num_probe_frames=-1)
    with pytest.raises(DualPathError, match="read_out ordered needs a number of frames; give num_probe_frames above 0"):
        LinearProbeConfig(num_probe_frames=0, read_out="ordered")
    with pytest.raises(DualPathError, match=r"takes 8 frames but a clip has 7; lower num_probe_frames or raise num_frames"):
        make()(random_clips(1, 7))
