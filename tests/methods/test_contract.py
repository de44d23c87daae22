"""One contract for all methods: what the engine may rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dualpath.errors import DualPathError
from dualpath.methods import (
    METHODS,
    WITHIN_BLOCKS,
    build_model,
    count_parameters,
    find_method,
    settle,
    store_in_int8,
    train_in_int8,
    trained_state,
)
from dualpath.methods.base import FrameModelConfig
from dualpath.nn.adapters import Adapter
from dualpath.nn.backbone import Backbone
from dualpath.nn.int8 import Int8Linear
from small import SMALL
from tiny import random_clips, randomise, randomise_adapters, tiny_backbone

INSIDE = {"full_tuning", "bitfit", "lora"}
"""Methods that train tensors of the backbone itself, or put theirs into it."""


def make(name: str, *, seed: int = 0, num_classes: int = 5) -> nn.Module:
    return build_model(name, tiny_backbone(), num_classes=num_classes, config=SMALL.get(name), seed=seed)


each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_clips_to_logits(name: str) -> None:
    model, frames = make(name).eval(), random_clips(3, 8)
    assert isinstance(model.backbone, Backbone)
    assert isinstance(model.config, METHODS[name].config)
    assert type(model) is METHODS[name].model
    model.check_clip(8)
    kept = frames.clone()
    with torch.no_grad():
        logits = model(frames)
        again = model(frames)
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, again)
    assert torch.equal(frames, kept)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if issubclass(method.config, FrameModelConfig)])
def test_frames_can_be_read_in_order(name: str) -> None:
    """The means over each part of the clip, normed, side by side; five frames in two parts are two and three."""
    config = replace(SMALL.get(name) or find_method(name).config(), num_segments=2)  # pyright: ignore[reportCallIssue]
    model: Any = build_model(name, tiny_backbone(num_classes=16, pre_norm=True), num_classes=5, config=config).eval()
    randomise(model.head, 2)
    frames, backbone = random_clips(3, 5), model.backbone
    with torch.no_grad():
        tokens = model.encode(backbone.normalise(frames.flatten(0, 1)), 5)
        looks = model.read(tokens).double().unflatten(0, (3, 5))
        assert looks.shape[-1] == backbone.features == 16  # behind CLIP's projection
        means = [looks[:, :2].mean(dim=1), looks[:, 2:].mean(dim=1)]
        normed = [(mean - mean.mean(-1, True)) / (mean.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() for mean in means]
        expected = torch.cat(normed, dim=1) @ model.head.out.weight.double().T + model.head.out.bias.double()
        torch.testing.assert_close(model(frames).double(), expected, atol=1e-5, rtol=1e-5)
        assert (model(frames) - model(frames.flip(1))).abs().max() > 1e-3
    with pytest.raises(DualPathError, match="a clip has 1 frame, which cannot be read in 2 parts"):
        model.check_clip(1)


@each_method
def test_a_clip_that_does_not_suit_is_refused_alike_before_and_in_forward(name: str) -> None:
    model = make(name)
    for refuse in (lambda: model.check_clip(0), lambda: model(random_clips(1, 0))):
        with pytest.raises(DualPathError):
            refuse()


@each_method
def test_pictures_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(DualPathError, match="48x48 pixels; tiny takes 32x32"):
        make(name)(random_clips(1, 8, size=48))


@each_method
def test_gradients_and_what_is_trained(name: str) -> None:
    model, frames = make(name).train(), random_clips(3, 8)
    trained = trained_state(model)
    assert trained
    assert bool([key for key in trained if key.startswith("backbone.")]) == (name in INSIDE)
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in trained.values())
    sizes = sum(value.numel() for value in trained.values())
    frozen = {key: value.clone() for key, value in model.named_parameters() if key not in trained}
    assert count_parameters(model) == (sizes, sizes + sum(value.numel() for value in frozen.values()))
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(frames), torch.arange(3)).backward()
        optimizer.step()
    reached = {key for key, value in model.named_parameters() if value.grad is not None and value.grad.abs().max() > 0}
    assert reached == trained.keys()
    assert not [key for key, value in model.named_parameters() if key in frozen and not torch.equal(value, frozen[key])]
    assert not [key for key, module in model.backbone.named_modules() if module.training]


@each_method
def test_training_in_int8_goes_nearly_the_same_way(name: str) -> None:
    model, frames, generator = make(name), random_clips(3, 8), torch.Generator().manual_seed(1)
    for value in model.parameters():
        if value.requires_grad:  # adapters that begin at zero let no gradient through
            value.data += 0.05 * torch.randn(value.shape, generator=generator)
    if name in INSIDE:
        with pytest.raises(DualPathError, match="int8 is for blocks that stay frozen, but this method trains weights within"):
            train_in_int8(model)
        return

    def gradients() -> dict[str, torch.Tensor]:
        model.backbone.fuse_attention(False)  # pyright: ignore[reportCallIssue]
        model.train().zero_grad()
        torch.manual_seed(0)  # of dropout
        nn.functional.cross_entropy(model(frames), torch.arange(3)).backward()
        return {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}

    plain, trained = gradients(), trained_state(model).keys()
    train_in_int8(model)
    whole = gradients()
    assert whole.keys() == plain.keys() == trained
    ours, theirs = (torch.cat([one[key].flatten() for key in trained]) for one in (whole, plain))
    assert 0 < float((ours - theirs).norm() / theirs.norm()) < 0.1
    assert all(torch.equal(one, again) for one, again in zip(whole.values(), gradients().values(), strict=True))


@each_method
def test_fresh_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = trained_state(make(name, seed=7))
    torch.manual_seed(2)
    second, other = trained_state(make(name, seed=7)), trained_state(make(name, seed=8))
    assert first.keys() == second.keys() == other.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


@each_method
def test_building_leaves_the_global_generator_alone(name: str) -> None:
    backbone = tiny_backbone()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    build_model(name, backbone, num_classes=2, config=SMALL.get(name), seed=9)
    assert torch.equal(torch.random.get_rng_state(), before)


class Casts(TorchDispatchMode):
    """Counts what is rounded from fp32 to bf16, by how many values it has."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and (args[0].dtype, found.dtype) == (torch.float32, torch.bfloat16):
            self.sizes.append(found.numel())
        return found


@each_method
def test_settled_for_inference_it_says_the_same_without_casts(name: str) -> None:
    backbone = tiny_backbone()
    backbone.store_in(torch.bfloat16)
    model, frames = build_model(name, backbone, num_classes=5, config=SMALL.get(name)).eval(), random_clips(3, 8)
    within = [module for module in model.modules() if isinstance(module, WITHIN_BLOCKS)]
    for module in within:
        randomise(module)
    with torch.no_grad():
        with Casts() as before:
            expected = model(frames)
        settle(model)
        with Casts() as after:
            assert torch.equal(model(frames), expected)
    sizes = [value.numel() for module in within for value in module.parameters()]
    assert Counter(before.sizes) - Counter(after.sizes) == Counter(sizes)
    assert all(value.dtype == torch.bfloat16 for module in within for value in module.parameters())
    assert bool(within) == (name in {"dualpath", "adaptformer", "pro_tuning", "st_adapter", "aim"})


@each_method
def test_in_int8_it_says_nearly_the_same(name: str) -> None:
    model, frames = make(name).eval(), random_clips(4, 8)
    if name == "dualpath":
        randomise_adapters(model)
    with torch.no_grad():
        plain = model(frames)
        store_in_int8(model)
        whole = model(frames)
        torch.testing.assert_close(model(frames[1:2])[0], whole[1], rtol=0, atol=2e-3)  # whatever is in its batch
    assert 0 < float((whole - plain).norm() / plain.norm()) < 0.05
    adapters = [module for module in model.modules() if isinstance(module, Adapter)]
    assert all(isinstance(adapter.down, Int8Linear) for adapter in adapters)


ON_A_GPU = """
import sys
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from functools import lru_cache
from dualpath.methods import METHODS, build_model, dualpath
from small import SMALL
from tiny import tiny_backbone

# Tensors without values are never kept, as a later model would get them; here they stand for those that are.
dualpath.encode_positions = lru_cache(dualpath.encode_positions.__wrapped__)

class Host(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
        assert tensors, func
        if any(one.device.type == "cpu" for one in tensors):
            print(name, func)
        return found

for name in METHODS:
    with torch.device("meta"):
        model = build_model(name, tiny_backbone(meta=True), num_classes=5, config=SMALL.get(name)).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device="cuda")
        frames = torch.empty(2, 8, 3, 32, 32, dtype=torch.uint8, device="cuda")
        model(frames)  # makes what is kept
        with Host():
            assert model(frames).device.type == "cuda"
"""


def test_on_a_gpu_a_forward_pass_takes_nothing_from_the_host() -> None:
    """Each time it did the GPU would wait, and no CUDA graph could be made of it; a value that is asked for is an error here.

    On torch's tensors that have a device and no values, so without a GPU; in a process of its own, as what is made once
    and kept would be such tensors too.
    """
    run = [sys.executable, "-W", "error::UserWarning", "-c", ON_A_GPU]
    places = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    told = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places})
    assert (told.returncode, told.stdout) == (0, ""), told.stderr


@each_method
def test_the_default_config_is_used(name: str) -> None:
    assert build_model(name, tiny_backbone(), num_classes=2).config == METHODS[name].config()


@each_method
def test_trained_state_shares_memory(name: str) -> None:
    model = make(name)
    for value in trained_state(model).values():
        value.fill_(0.25)
    assert all((value == 0.25).all() for value in model.parameters() if value.requires_grad)


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(DualPathError, match=rf"unknown method 'dual'; there are {', '.join(METHODS)}$"):
        find_method("dual")
    with pytest.raises(DualPathError, match="unknown method"):
        build_model("", tiny_backbone(), num_classes=2)
