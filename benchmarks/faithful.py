"""Whether maps tell the truth: three measurements on drawn clips that no training has seen.

    python benchmarks/faithful.py CHECKPOINT [--clips 12] [--output DIR]

CHECKPOINT is a DualPath trained on drawn motions, such as demo-output/dualpath. `--clips` of each class are drawn as
H.264 files and read as for a prediction.

    deletion   the class's score when the patches that count most are silenced (nobody attends to them any more, in any
               block of either path), beside as many random ones: the mean over five draws
    places     how much of a path's map lies on the object, over the share of the picture that the object covers; its place
               is known because it was drawn
    weights    how alike the map is (Spearman's rank correlation) when adapters and classifier are given new random values

Intervals are 95 % percentile bootstrap intervals of the mean over clips. Writes faithful.json and prints a table.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import dualpath
from dualpath.engine.checkpoint import versions
from dualpath.engine.explain import explain_clip, explain_patches
from dualpath.engine.explanation import KINDS
from dualpath.engine.predict import VideoClassifier
from dualpath.files import write_whole
from dualpath.hardware import describe_machine
from dualpath.methods.dualpath import DualPath
from dualpath.nn.watch import unheard
from dualpath.video.drawn.label_sets import find_label_set
from dualpath.video.drawn.synthetic import render_scene, write_video
from dualpath.video.protocols import ViewsConfig
from dualpath.video.transforms import test_transform

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = 5
SEED = 5_000  # of the scenes: the demo's begin with (seed, 0, ...) and (seed, 1, ...) for small seeds


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--clips", type=int, default=12, help="of each class")
    parser.add_argument("--label_set", default="motion")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    classifier = dualpath.load(options.checkpoint, precision="fp32")
    model = classifier.model
    assert isinstance(model, DualPath), "only DualPath has paths"
    model.requires_grad_(False)
    rows: list[dict[str, Any]] = []
    for number, (frames, masks) in enumerate(clips(classifier, options.clips, options.label_set)):
        rows.append(measure(model, frames, masks, seed=number))
        print(f"\r{number + 1} clips", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = {"clips": len(rows), "checkpoint": options.checkpoint, "command": sys.argv, "versions": versions()}
    found |= {"machine": describe_machine(classifier.device), **summary(rows)}
    print(table(found))
    if options.output:
        write_whole(options.output / "faithful.json", json.dumps(found, indent=2) + "\n")


def clips(classifier: VideoClassifier, count: int, label_set: str) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Frames as for a prediction, (1, T, C, S, S), and the object's mask on them, (T, S, S)."""
    for label, name in enumerate(find_label_set(label_set).classes):
        for number in range(count):
            scene = render_scene(name, (SEED, label, number), label_set=label_set)
            with tempfile.TemporaryDirectory() as folder:
                write_video(Path(folder) / "x.mp4", scene.frames, scene.rate)
                (clip,) = classifier.read_clips(Path(folder) / "x.mp4", ViewsConfig())
            white = torch.from_numpy(scene.masks[clip.indices].astype(np.uint8) * 255)[:, None].expand(-1, 3, -1, -1)
            yield clip.frames, test_transform(white, size=classifier.size, num_crops=1)[0, :, 0].numpy() > 127


def measure(model: DualPath, frames: Tensor, masks: np.ndarray, *, seed: int) -> dict[str, Any]:
    """All three for one clip."""
    maps, places = {}, {}
    label = None
    for kind in KINDS:
        _, label, maps[kind] = explain_patches(model, frames, label=label, kind=kind)
        places[kind] = {
            path.path: on_object(path.shares, masks[list(path.frames)]) for path in explain_clip(model, frames, kind=kind)[2]
        }
    assert label is not None
    rng = np.random.default_rng((seed, 1))
    orders = {
        kind: {name: torch.argsort(-found.flatten(), stable=True) for name, found in maps[kind].items()} for kind in KINDS
    }
    orders["least"] = {name: order.flip(0) for name, order in orders["relevance"].items()}
    for draw in range(DRAWS):
        orders[f"random {draw}"] = {
            name: torch.from_numpy(rng.permutation(found.numel())) for name, found in maps["relevance"].items()
        }
    scores = {f"{fraction:g}": silenced(model, frames, label, orders, maps["relevance"], fraction) for fraction in FRACTIONS}
    whole = score(model, frames, label)
    return {
        "label": label,
        "score": whole,
        "deletion": scores,
        "places": places,
        "weights": randomised(model, frames, label, seed),
    }


def score(model: DualPath, frames: Tensor, label: int) -> float:
    """Of the class, with everything heard."""
    with torch.enable_grad():  # no picture is taken for another one, as for the silenced ones
        return float(model(frames)[0].softmax(-1)[label])


def silenced(
    model: DualPath, frames: Tensor, label: int, orders: dict[str, dict[str, Tensor]], like: dict[str, Tensor], fraction: float
) -> dict[str, float]:
    """The class's score when the first patches of each order are silenced, all orders in one batch."""
    depth, prefix = model.backbone.depth, model.backbone.prefix
    silent = []
    for name, found in like.items():
        rows = []
        for order in orders.values():
            mute = torch.zeros(found.numel(), dtype=torch.bool)
            mute[order[name][: round(fraction * found.numel())]] = True
            rows.append(nn.functional.pad(mute.view(len(found), -1), (prefix, 0)))
        silent += [torch.cat(rows)] * depth
    with torch.enable_grad(), unheard(model.backbone, silent):
        scores = model(frames.expand(len(orders), -1, -1, -1, -1)).softmax(-1)[:, label]
    return dict(zip(orders, scores.tolist(), strict=True))


def on_object(shares: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Share of a map on the object, and the share of all frames' area that the object covers."""
    high, wide = (masks.shape[1] // n if masks.shape[1] >= n else 1 for n in shares.shape[1:])
    area = masks.reshape(len(masks), shares.shape[1], high, shares.shape[2], wide).mean(axis=(2, 4))
    return {"on": float((shares * area).sum() / max(shares.sum(), 1e-12)), "area": float(area.mean())}


def randomised(model: DualPath, frames: Tensor, label: int, seed: int) -> dict[str, float]:
    """Rank correlation of each path's map with that of the same model whose trained parts are random."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, value in other.named_parameters():
        if not name.startswith("backbone."):
            value.copy_(value.std(correction=0) * torch.randn(value.shape, generator=generator) + value.mean())
    before, after = (explain_patches(one, frames, label=label)[2] for one in (model, other))
    return {name: spearman(before[name].flatten().numpy(), after[name].flatten().numpy()) for name in before}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of ranks; 0 where one of them is constant."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (a, b)]
    return 0.0 if a.std() == 0 or b.std() == 0 else float(np.corrcoef(ranks)[0, 1])


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over clips with their intervals."""
    whole = np.array([row["score"] for row in rows])
    deletion: dict[str, Any] = {}
    for fraction in rows[0]["deletion"]:
        cut = {order: np.array([row["deletion"][fraction][order] for row in rows]) for order in rows[0]["deletion"][fraction]}
        random = np.mean([cut.pop(f"random {draw}") for draw in range(DRAWS)], axis=0)
        deletion[fraction] = {"random": mean(random)} | {order: mean(values) for order, values in cut.items()}
        deletion[fraction] |= {f"random - {order}": mean(random - values) for order, values in cut.items()}
    places: dict[str, Any] = {}
    for kind in KINDS:
        for name in rows[0]["places"][kind]:
            seen = [row["places"][kind][name] for row in rows if row["places"][kind][name]["area"] > 0]
            on, area = (np.array([one[key] for one in seen]) for key in ("on", "area"))
            places[f"{kind} {name}"] = {"on": mean(on), "area": float(area.mean()), "times": ratio(on, area)}
    weights = {name: mean(np.array([row["weights"][name] for row in rows])) for name in rows[0]["weights"]}
    return {"score": mean(whole), "deletion": deletion, "places": places, "weights": weights}


def mean(values: np.ndarray) -> dict[str, float]:
    """With its bootstrap interval."""
    drawn = values[np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def ratio(on: np.ndarray, area: np.ndarray) -> dict[str, float]:
    """Of the sums: mass on objects over their area."""
    chosen = np.random.default_rng(0).integers(0, len(on), (10_000, len(on)))
    low, high = np.quantile(on[chosen].sum(axis=1) / area[chosen].sum(axis=1), [0.025, 0.975])
    return {"mean": float(on.sum() / area.sum()), "low": float(low), "high": float(high)}


def table(found: dict[str, Any]) -> str:
    """What is printed."""

    def told(value: dict[str, float]) -> str:
        return f"{value['mean']:6.3f} ({value['low']:.3f} to {value['high']:.3f})"

    lines = [f"{found['clips']} clips, score of the predicted class {told(found['score'])}", "", "silenced  score of the class"]
    for fraction, cut in found["deletion"].items():
        lines += [f"  {float(fraction):4.0%}  {order:18} {told(value)}" for order, value in cut.items()]
    lines += ["", "mass on the object over its share of the area"]
    lines += [f"  {name:22} {told(place['times'])}  area {place['area']:.3f}" for name, place in found["places"].items()]
    lines += ["", "rank correlation with the map of random trained parts"]
    lines += [f"  {name:22} {told(value)}" for name, value in found["weights"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
