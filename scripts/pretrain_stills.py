"""Pretrain the embedded backbone on still pictures, and write the weights that the package ships.

    .venv/bin/python scripts/pretrain_stills.py --output src/dualpath/nn/stills --minutes 80

The pictures are drawn by `dualpath.video.drawn.shapes` while the training runs; nothing is read or downloaded. A
picture shows one scene, or 2x2, 4x4 unrelated scenes like a sheet of thumbnails. The network learns from
stills only: no picture is a frame of a film, no two are related by movement.

What it learns to tell (all targets follow from how the picture was drawn):
    each 16x16 token   where on it objects are (4x4 coverage), and of the object that covers most of it: shape,
                       colour, size, angle, the way to its centre, and the way to the middle of the other objects
                       that look the same, if there are any; the ground's colour
    [CLS]              a coarse map of where objects are (8x8 coverage), and of single scenes: how many objects; the
                       largest one's shape, colour, place, size, angle

Halves of blocks are skipped at random, few or most of them. So every block does something useful with tokens that
hardly any block has seen: a fresh temporal path, whose blocks are the identity, shows just such tokens to all of them.

The result is the average of the weights over the last steps (EMA), rounded to bf16.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dualpath.video.drawn import shapes

SIZE, PATCH = 128, 16
SIDE = SIZE // PATCH
ARCHITECTURE = {
    "img_size": SIZE, "patch_size": PATCH, "embed_dim": 192, "depth": 6, "num_heads": 3, "pre_norm": True, "num_classes": 0
}  # fmt: skip
MEAN = STD = 0.5
KINDS = len(shapes.SHAPES)
# Columns of a target row. Tokens and [CLS] share the layout of an object: what is not known is NaN.
TOKEN_COLUMNS = {"coverage": 16, "shape": 1, "colour": 3, "size": 1, "angle": 2, "offset": 2, "twins": 2, "ground": 3}
CLS_COLUMNS = {"count": 1, "shape": 1, "colour": 3, "size": 1, "angle": 2, "place": 2, "map": SIDE**2}


def _angle_target(look: shapes.Look, angle: float) -> tuple[float, float]:
    k = shapes.SYMMETRY[look.shape]
    return (math.cos(k * angle), math.sin(k * angle)) if k else (math.nan, math.nan)


def draw_scene(
    rng: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, objects: list[dict], *, looks: list[shapes.Look]
) -> None:
    """Draws 0-4 objects onto the ground in `canvas`; `owner` gets each pixel's object number, -1 for the ground.

    Half of the objects look like one that the picture has already (`looks`), if it has any.
    """
    width = canvas.shape[1]
    ground = canvas.mean(axis=(0, 1))
    count = int(rng.choice(5, p=[0.05, 0.4, 0.25, 0.2, 0.1])) if width > 40 else int(rng.choice(3, p=[0.1, 0.75, 0.15]))
    for _ in range(count):
        reuse = looks and rng.random() < 0.5
        look = looks[rng.integers(len(looks))] if reuse else shapes.random_look(rng, avoid=ground)
        if not reuse:
            looks.append(look)
        size = width * float(np.exp(rng.uniform(math.log(0.07), math.log(0.34))))
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, width))
        angle = float(rng.uniform(-math.pi, math.pi))
        box, coverage = shapes.draw(canvas, look, x=x, y=y, size=size, angle=angle)
        owner[box][coverage > 0.5] = len(objects)
        objects.append({"look": look, "x": x, "y": y, "size": size, "angle": angle})


def render_still(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture, uint8 (128, 128, 3), with its token targets float32 (64, 30) and [CLS] targets float32 (74)."""
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    owner = np.full((SIZE, SIZE), -1, np.int16)
    objects: list[dict] = []
    looks: list[shapes.Look] = []
    cells = int(rng.choice([1, 2, 4], p=[0.5, 0.15, 0.35]))
    step = SIZE // cells
    wallpaper = shapes.background(rng, step, step) if rng.random() < 0.5 else None
    for row in range(cells):
        for column in range(cells):
            first = len(objects)
            top, left = row * step, column * step
            window = slice(top, top + step), slice(left, left + step)
            scene = np.full((step, step), -1, np.int16)
            local: list[dict] = []
            canvas[window] = shapes.background(rng, step, step) if wallpaper is None else wallpaper
            draw_scene(rng, canvas[window], scene, local, looks=looks)
            owner[window] = np.where(scene >= 0, scene + first, -1)
            objects += [item | {"x": item["x"] + left, "y": item["y"] + top} for item in local]
    contrast, light = rng.uniform(0.7, 1.15), rng.uniform(-0.12, 0.12)
    picture = shapes.to_uint8((canvas - 0.5) * contrast + 0.5 + light, rng, grain=float(rng.uniform(0, 0.05)))
    return picture, _token_targets(owner, objects, canvas), _cls_targets(owner, objects, single=cells == 1)


def _twins(objects: list[dict]) -> dict[int, tuple[float, float]]:
    """The middle (x, y) of the other objects of the same look, for each object that is not the only one of its look."""
    by_look: dict[shapes.Look, list[int]] = {}
    for number, item in enumerate(objects):
        by_look.setdefault(item["look"], []).append(number)
    middles = {}
    for alike in by_look.values():
        for number in alike if len(alike) > 1 else ():
            others = [objects[other] for other in alike if other != number]
            middles[number] = tuple(sum(item[axis] for item in others) / len(others) for axis in ("x", "y"))
    return middles


def _token_targets(owner: np.ndarray, objects: list[dict], canvas: np.ndarray) -> np.ndarray:
    tiles = owner.reshape(SIDE, PATCH, SIDE, PATCH).transpose(0, 2, 1, 3).reshape(SIDE * SIDE, PATCH, PATCH)
    bare = (owner < 0).reshape(SIDE, PATCH, SIDE, PATCH).astype(np.float32)
    area = bare.sum(axis=(1, 3))
    colour = np.einsum("ipjqc,ipjq->ijc", canvas.reshape(SIDE, PATCH, SIDE, PATCH, 3), bare)
    out = np.full((SIDE * SIDE, sum(TOKEN_COLUMNS.values())), np.nan, np.float32)
    out[:, :16] = (tiles >= 0).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)
    with np.errstate(invalid="ignore"):
        out[:, 27:30] = (colour / np.where(area > 0, area, np.nan)[..., None]).reshape(-1, 3)
    twins = _twins(objects)
    for token in range(SIDE * SIDE):
        seen = tiles[token][tiles[token] >= 0]
        if seen.size < 8:
            continue
        number = int(np.bincount(seen).argmax())
        item, look = objects[number], objects[number]["look"]
        cx, cy = (token % SIDE + 0.5) * PATCH, (token // SIDE + 0.5) * PATCH
        out[token, 16] = shapes.SHAPES.index(look.shape)
        out[token, 17:20] = look.colour
        out[token, 20] = math.log2(item["size"] / PATCH)
        out[token, 21:23] = _angle_target(look, item["angle"])
        out[token, 23:25] = (item["x"] - cx) / PATCH, (item["y"] - cy) / PATCH
        if number in twins:
            x, y = twins[number]
            out[token, 25:27] = (x - cx) / (SIZE / 4), (y - cy) / (SIZE / 4)
    return out


def _cls_targets(owner: np.ndarray, objects: list[dict], *, single: bool) -> np.ndarray:
    out = np.full(sum(CLS_COLUMNS.values()), np.nan, np.float32)
    seen = np.bincount(owner[owner >= 0], minlength=len(objects)) if objects else np.zeros(0)
    out[10:] = (owner >= 0).reshape(SIDE, PATCH, SIDE, PATCH).mean(axis=(1, 3)).ravel()
    if not single:
        return out
    out[0] = (seen > 20).sum()
    if seen.size and seen.max() > 20:
        item = objects[int(seen.argmax())]
        out[1] = shapes.SHAPES.index(item["look"].shape)
        out[2:5] = item["look"].colour
        out[5] = math.log2(item["size"] / PATCH)
        out[6:8] = _angle_target(item["look"], item["angle"])
        out[8:10] = item["x"] / SIZE * 2 - 1, item["y"] / SIZE * 2 - 1
    return out


class Stills(IterableDataset):
    """Endless batches of pictures; batch `i` of worker `w` is a pure function of (seed, w, i)."""

    def __init__(self, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed

    def __iter__(self):
        torch.set_num_threads(1)
        info = get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        while True:
            columns = zip(*(render_still(rng) for _ in range(self.batch_size)), strict=True)
            yield tuple(torch.from_numpy(np.stack(column)) for column in columns)


class StillsModel(nn.Module):
    """The backbone with one linear read-out for the tokens and one for [CLS]; both are thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        self.vit = VisionTransformer(**ARCHITECTURE)
        for block in self.vit.blocks:
            block.attn.fused_attn = False  # torch's fused attention is 5 times slower backwards in bf16 on a CPU
        with torch.no_grad():
            self.vit.pos_embed.copy_(_sine_table(SIDE, ARCHITECTURE["embed_dim"]))
        width = ARCHITECTURE["embed_dim"]
        self.token_head = nn.Linear(width, 16 + KINDS + 3 + 1 + 2 + 2 + 2 + 3)
        self.cls_head = nn.Linear(width, 5 + KINDS + 3 + 1 + 2 + 2 + SIDE**2)

    def forward(self, pictures: Tensor, positions: Tensor, keep: float = 1.0) -> tuple[Tensor, Tensor]:
        """Read-outs of all tokens and of [CLS].

        Args:
            pictures: uint8 (B, H, W, 3).
            positions: (B, 65, 192), the codes of the tokens' positions, see `position_codes`.
            keep: how likely each half of a block is to be used.
        """
        # The same numbers as the patch embedding's convolution, which is slow backwards on a CPU.
        patches = pictures.reshape(-1, SIDE, PATCH, SIDE, PATCH, 3).permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)
        filters = self.vit.patch_embed.proj
        x = F.linear((patches / 255 - MEAN) / STD, filters.weight.flatten(1), filters.bias)
        x = torch.cat([self.vit.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + positions
        x = self.vit.norm_pre(x)
        for block in self.vit.blocks:
            # Halves of blocks are skipped at random (stochastic depth, arXiv:1603.09382), the more the less `keep`.
            if random.random() < keep:
                x = x + block.attn(block.norm1(x))
            if random.random() < keep:
                x = x + block.mlp(block.norm2(x))
        x = self.vit.norm(x)
        return self.token_head(x[:, 1:]).float(), self.cls_head(x[:, 0]).float()


def position_codes(table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Codes for `count` pictures, and whether they are true: a third of the pictures gets them in a random order.

    They also vary in strength, from none to one and a half times the table's. So the network learns to say what it
    sees whatever it is told about where a token is: the temporal path will tell it other things.
    """
    true = torch.rand(count) > 0.33
    order = torch.stack([torch.arange(SIDE**2) if t else torch.randperm(SIDE**2) for t in true])
    patches = table[0, 1:][order] * (1.5 * torch.rand(count, 1, 1)).clamp(max=1.25)
    return torch.cat([table[:, :1].expand(count, -1, -1), patches], dim=1), true


def _sine_table(side: int, width: int) -> Tensor:
    frequency = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [f(axis.reshape(-1, 1) * frequency) for axis in (rows, columns) for f in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width), torch.cat(waves, dim=1)])[None]


def _known(predicted: Tensor, target: Tensor) -> Tensor:
    known = ~target.isnan()
    return F.smooth_l1_loss(predicted[known], target[known], beta=0.1) if known.any() else predicted.sum() * 0


def _class(predicted: Tensor, target: Tensor) -> tuple[Tensor, float]:
    known = ~target.isnan()
    logits, answer = predicted[known], target[known].long()
    return F.cross_entropy(logits, answer), (logits.argmax(-1) == answer).float().mean().item()


def losses(tokens: Tensor, cls: Tensor, want_tokens: Tensor, want_cls: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The sum of all targets' losses, and the figures to watch."""
    cover, kind, colour, size, angle, offset, twins, ground = tokens.split([16, KINDS, 3, 1, 2, 2, 2, 3], dim=-1)
    w_cover, w_kind, w_colour, w_size, w_angle, w_offset, w_twins, w_ground = want_tokens.split(
        list(TOKEN_COLUMNS.values()), dim=-1
    )
    c_count, c_kind, c_colour, c_size, c_angle, c_place, c_map = cls.split([5, KINDS, 3, 1, 2, 2, SIDE**2], dim=-1)
    v_count, v_kind, v_colour, v_size, v_angle, v_place, v_map = want_cls.split(list(CLS_COLUMNS.values()), dim=-1)
    kind_loss, kind_right = _class(kind, w_kind[..., 0])
    cls_kind_loss, cls_kind_right = _class(c_kind, v_kind[:, 0])
    count_loss, _ = _class(c_count, v_count[:, 0].clamp(max=4))
    drawn = ~v_map.isnan().any(dim=1)
    parts = {
        "cover": F.binary_cross_entropy_with_logits(cover, w_cover),
        "offset": _known(offset, w_offset),
        "twins": _known(twins, w_twins),
        "angle": _known(angle, w_angle),
        "size": _known(size, w_size),
        "colour": _known(colour, w_colour) + _known(ground, w_ground),
        "place": _known(c_place, v_place),
        "map": F.binary_cross_entropy_with_logits(c_map[drawn], v_map[drawn]) if drawn.any() else c_map.sum() * 0,
    }
    total = 3 * parts["cover"] + 4 * parts["offset"] + 2 * parts["twins"] + parts["angle"] + 2 * parts["size"]
    total = total + 4 * parts["colour"] + 0.5 * kind_loss
    total = total + 3 * parts["map"] + 4 * parts["place"] + 0.5 * cls_kind_loss + 0.3 * count_loss
    total = total + 2 * _known(c_colour, v_colour) + _known(c_size, v_size) + _known(c_angle, v_angle)
    figures = {name: part.item() for name, part in parts.items()}
    return total, figures | {"shape_top1": kind_right, "cls_shape_top1": cls_kind_right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for model.safetensors and pretraining.json")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="go on from these weights (a model.safetensors of an earlier run)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    random.seed(options.seed)
    model = StillsModel()
    if options.init:
        model.vit.load_state_dict({name: value.float() for name, value in load_file(options.init).items()})
    average = {name: value.clone() for name, value in model.vit.state_dict().items()}
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98), fused=True
    )
    loader = DataLoader(
        Stills(options.batch_size, options.seed), batch_size=None, num_workers=options.workers,
        multiprocessing_context="spawn" if options.workers else None,
    )  # fmt: skip
    options.output.mkdir(parents=True, exist_ok=True)
    began, seconds, watch = time.monotonic(), options.minutes * 60, {}
    for step, (pictures, want_tokens, want_cls) in enumerate(loader, 1):
        done = min(1.0, (time.monotonic() - began) / seconds)
        # Warm-up, constant, then a fall to zero over the last 40 % of the time: it can be read at any moment.
        lr = options.lr * min(1, step / 500) * min(1.0, (1 - done) / 0.4)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16):
            codes, true = position_codes(model.vit.pos_embed, len(pictures))
            tokens, cls = model(pictures, codes, keep=random.uniform(0.25, 1.0))
        want_cls[~true, 8:] = math.nan  # nobody can tell places who was lied to about them
        loss, figures = losses(tokens, cls, want_tokens, want_cls)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        keep = min(0.999, 1 - 1 / step)
        for name, value in model.vit.state_dict().items():
            average[name].lerp_(value, 1 - keep)
        for name, value in (figures | {"loss": loss.item()}).items():
            watch[name] = watch.get(name, value) * 0.99 + value * 0.01
        if step % 200 == 0 or done >= 1:
            minutes = (time.monotonic() - began) / 60
            line = {"step": step, "stills": step * options.batch_size, "minutes": round(minutes, 1), "lr": round(lr, 6)}
            line |= {k: round(v, 4) for k, v in watch.items()}
            print(json.dumps(line), flush=True)
        if step % 2000 == 0 or done >= 1:
            write(average, options.output, line)
        if done >= 1:
            break


def write(weights: dict[str, Tensor], folder: Path, figures: dict) -> None:
    """model.safetensors in bf16, and pretraining.json with the last figures."""
    temporary = folder / "model.safetensors.tmp"
    save_file({name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}, temporary)
    temporary.rename(folder / "model.safetensors")
    (folder / "pretraining.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
