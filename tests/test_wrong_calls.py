"""What is wrong with a call from Python is said in one sentence, before anything is computed.

In one process of its own: the checks of shapes that tests switch on would come first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import math
import torch
from dualpath import BackboneConfig, DualPath, DualPathConfig, DualPathError, VideoClassifier, build_model, load, load_backbone
from dualpath.methods import METHODS
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from small import SMALL
from tiny import random_clips, tiny_backbone

silent = []

def refused(said, call):
    try:
        call()
    except DualPathError as problem:
        if said not in str(problem) or chr(10) in str(problem):
            silent.append(f"{said!r} is not in {problem}")
    except Exception as problem:
        silent.append(f"{said!r}: {problem!r}")
    else:
        silent.append(f"{said!r}: nothing was said")

backbone, clips = tiny_backbone(), random_clips(2, 8)
for method in METHODS:
    model = build_model(method, backbone, num_classes=3, config=SMALL.get(method)).eval()
    with torch.no_grad():
        assert model(clips).shape == (2, 3)
    for said, wrong in {
        "clips of type float32 given, but a model takes uint8 clips (B, T, 3, 32, 32)": clips / 255,
        "multiply values of 0 to 1 by 255": clips.double(),
        "clips of type int64 given": clips.long(),
        "clips of type bool given": clips > 3,
        "clips of shape (2, 8, 1, 32, 32) given": clips[:, :, :1],
        "clips of shape (2, 8, 4, 32, 32) given": clips[:, :, [0, 1, 2, 0]],
        "frames.transpose(1, 2) makes them": clips.transpose(1, 2),
        "frames.permute(0, 1, 4, 2, 3) makes them": clips.permute(0, 1, 3, 4, 2),
        "give one clip as clip[None]": clips[0],
        "a tensor of shape (3, 32, 32) given": clips[0, 0],
        "a tensor of shape () given": torch.tensor(3),
        "which are none": clips[:0],
        "frames of 16x16 pixels": clips[..., ::2, ::2],
        "a ndarray given": clips.numpy(),
        "a list given": list(clips),
        "a str given": "a.mp4",
        "a NoneType given": None,
        "the clips are on meta, but the model is on cpu": clips.to("meta"),
    }.items():
        refused(said, lambda: model(wrong))
    refused("num_classes is 'x', but it must be a whole number", lambda: build_model(method, backbone, num_classes="x"))
    refused("num_classes 0 must be at least 1", lambda: build_model(method, backbone, num_classes=0))
    refused("backbone is None, but it must be a backbone", lambda: build_model(method, None, num_classes=3))
    refused("config is a value of type dict, but it must be a", lambda: build_model(method, backbone, num_classes=3, config={}))
    refused("seed is 'x', but it must be a whole number", lambda: build_model(method, backbone, num_classes=3, seed="x"))
refused("unknown method ['aim']", lambda: build_model(["aim"], backbone, num_classes=3))
refused("backbone is 'clip', but it must be a backbone", lambda: DualPath("clip", num_classes=3))
refused("config is 3, but it must be a DualPathConfig", lambda: DualPath(backbone, num_classes=3, config=3))
refused("num_classes is 2.5, but", lambda: DualPath(backbone, num_classes=2.5))
for name, value, said in (
    ("variant", "x", "one of paper, reference"), ("paths", 3, "one of both, spatial, temporal"),
    ("num_spatial_frames", "8", "a whole number"), ("num_spatial_frames", 1.5, "a whole number"),
    ("num_spatial_frames", True, "a whole number"), ("train_spatial_frames", None, "a whole number"),
    ("grid", 4, "two whole numbers, such as 4x4"), ("grid", (4,), "two whole numbers, such as 4x4"),
    ("grid", (2.0, 2.0), "two whole numbers, such as 4x4"), ("grid", "4x4", "two whole numbers, such as 4x4"),
    ("cell", "x", "one of scaled, aligned"), ("bottleneck", "x", "a whole number"),
    ("positions", "x", "one of none, time, 3d, reference"), ("temporal_mlp", None, "one of parallel, serial"),
    ("antialias", "no", "true or false"),
):
    refused(f"{name} is {value!r}, but it must be {said}", lambda: DualPathConfig(**{name: value}))
for method in METHODS.values():
    for name in method.config.__dataclass_fields__:
        refused(f"{name} is ", lambda: method.config(**{name: object()}))
for config, name, value in (
    (BackboneConfig, "backbone", 3), (BackboneConfig, "weights", 3), (BackboneConfig, "image_size", "x"),
    (BackboneConfig, "model_args", None), (BackboneConfig, "model_args", {3: 1}), (ViewsConfig, "num_clips", "3"),
    (ViewsConfig, "num_crops", 1.5), (ViewsConfig, "decoder", None), (SamplingConfig, "num_frames", "8"),
    (SamplingConfig, "sampling", "x"), (SamplingConfig, "sampling_rate", math.inf),
):
    refused(f"{name} is {value!r}, but it must be", lambda: config(**{name: value}))
for wrong in (None, 3, {}, BackboneConfig):
    refused("but it must be a BackboneConfig, or the name of a backbone", lambda: load_backbone(wrong))
for wrong in ("float32", None, torch.int64):
    refused(f"dtype is {wrong!r}, but it must be", lambda: load_backbone("stills_vit_tiny_patch16_128", dtype=wrong))
for wrong in (None, 3, b"/nope"):
    refused("but it must be the folder of a checkpoint or a run", lambda: load(wrong))
for wrong in ("/nope", "", "a" + chr(0), "x" * 5000):
    refused("checkpoint", lambda: load(wrong))
for name, value, said in (
    ("precision", "x", "unknown precision 'x'"), ("precision", 3, "it must be one of auto"), ("protocol", 3, "a name such as"),
    ("weights", 3, "a path or None"), ("backbone", "x", "a model that dualpath.load gave"), ("device", 3.5, "the device 3.5"),
    ("device", [], "cannot be used here"),
):
    refused(said, lambda: load("/nope", **{name: value}))
refused("path is 3, but it must be the path of a video", lambda: VideoClassifier.explain(None, 3))
for name in ("label", "kind", "block"):
    refused(f"{name} is 3.5, but it must be", lambda: VideoClassifier.explain(None, "a.mp4", **{name: 3.5}))
refused("model is 3, but it must be", lambda: VideoClassifier(3, None, device="cpu"))
assert not silent, chr(10).join(["", *silent])
"""


def test_wrong_calls_are_told_in_a_sentence() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths}
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
