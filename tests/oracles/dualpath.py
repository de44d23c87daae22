"""DualPath written out from the equations (method.md, section 1), slowly, in float64: one picture, token and head at a time.

Nothing is shared with the package but the weights, by the names of its `state_dict`. The one library function is
torch's antialiased bilinear interpolation, which shrinks frames to cells.

    x      tokens of ONE picture, float64 (l, d)
    w      weights by name, float64
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Shape:
    """What the weights do not tell."""

    patch: int
    heads: int
    grid: tuple[int, int]
    num_spatial_frames: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    eps: float = 1e-6
    quick_gelu: bool = False
    spatial: tuple[str, str] = ("parallel", "parallel")
    temporal: tuple[str, str] = ("serial", "serial")
    positions: str = "3d"
    cell: int | None = None  # side of a cell where it is not the picture's part
    segments: int = 1  # parts of the clip whose frames have a mean each


def dualpath(weights: dict[str, torch.Tensor], frames: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
    """Clips, uint8 (B, T, C, H, W), to `spatial` (B, segments f), `temporal` (B, f) and `logits` (B, k)."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    out: dict[str, list[np.ndarray]] = {"spatial": [], "temporal": [], "logits": []}
    for clip in frames:
        spatial = spatial_path(w, clip, shape) if "spatial.0.mlp.up.bias" in w else np.zeros(0)
        temporal = temporal_path(w, clip, shape) if "temporal.0.mlp.up.bias" in w else np.zeros(0)
        both = np.concatenate([spatial, temporal])
        if shape.segments == 1:
            inner = gelu_all(w["head.hidden.weight"] @ both + w["head.hidden.bias"])
        else:
            parts = both.reshape(-1, len(temporal) or len(spatial) // shape.segments)
            inner = np.concatenate([(part - part.mean()) / np.sqrt(part.var() + 1e-5) for part in parts])
        out["spatial"].append(spatial)
        out["temporal"].append(temporal)
        out["logits"].append(w["head.out.weight"] @ inner + w["head.out.bias"])
    return {name: np.stack(values) for name, values in out.items()}


def spatial_path(w: dict[str, np.ndarray], clip: np.ndarray, shape: Shape) -> np.ndarray:
    total, wanted = len(clip), shape.num_spatial_frames
    looks = []
    for i in range(wanted):
        frame = clip[math.floor((i + 0.5) * total / wanted)].astype(np.float64)
        x = spatial_tokens(w, frame, shape)
        for n in range(depth(w)):
            block = f"backbone.vit.blocks.{n}"
            normed = layer_norm(w, f"{block}.norm1", x, shape.eps)
            frozen = attention(w, block, normed, shape.heads)
            x = x + adapted(w, f"spatial.{n}.attention", shape.spatial[0], normed, frozen)
            normed = layer_norm(w, f"{block}.norm2", x, shape.eps)
            x = x + adapted(w, f"spatial.{n}.mlp", shape.spatial[1], normed, mlp(w, block, normed, shape.quick_gelu))
        looks.append(read_out(w, x, shape.eps))
    means = []
    for part in range(shape.segments):
        low, high = part * wanted // shape.segments, (part + 1) * wanted // shape.segments
        mine = looks[low:high]
        means.append(sum(mine) / len(mine))
    return np.concatenate(means)


def temporal_path(w: dict[str, np.ndarray], clip: np.ndarray, shape: Shape) -> np.ndarray:
    cells = shape.grid[0] * shape.grid[1]
    assert len(clip) % cells == 0
    looks = []
    for g in range(len(clip) // cells):
        picture = frameset(clip[g * cells : (g + 1) * cells], shape.grid, shape.cell)
        own = clip.shape[-2] // shape.patch * (clip.shape[-1] // shape.patch)
        x = temporal_tokens(w, picture, len(clip), g, shape, own)
        for n in range(depth(w)):
            block = f"backbone.vit.blocks.{n}"
            normed = layer_norm(w, f"{block}.norm1", x, shape.eps)
            frozen = attention(w, block, normed, shape.heads)
            x = x + adapted(w, f"temporal.{n}.attention", shape.temporal[0], normed, frozen)
            normed = layer_norm(w, f"{block}.norm2", x, shape.eps)
            x = x + adapted(w, f"temporal.{n}.mlp", shape.temporal[1], normed, mlp(w, block, normed, shape.quick_gelu))
        looks.append(read_out(w, x, shape.eps))
    return sum(looks) / len(looks)


def depth(w: dict[str, np.ndarray]) -> int:
    return len({name.split(".")[3] for name in w if name.startswith("backbone.vit.blocks.")})


def spatial_tokens(w: dict[str, np.ndarray], frame: np.ndarray, shape: Shape) -> np.ndarray:
    """[CLS], registers, patches; the backbone's own positions for all of them, or for the patches alone."""
    patches, prefix = patch_tokens(w, frame, shape), prefix_tokens(w)
    table = w["backbone.vit.pos_embed"][0]
    if len(table) == len(patches):
        x = np.stack(prefix + [patch + place for patch, place in zip(patches, table, strict=True)])
    else:
        x = np.stack([token + place for token, place in zip(prefix + patches, table, strict=True)])
    return layer_norm(w, "backbone.vit.norm_pre", x, shape.eps)


def temporal_tokens(
    w: dict[str, np.ndarray], picture: np.ndarray, num_frames: int, frameset_number: int, shape: Shape, own: int
) -> np.ndarray:
    """The patches with the fixed 3-D encoding; [CLS] and registers just as in the spatial path.

    `own` is the number of patches of a whole frame: a longer table has rows for the tokens in front.
    """
    height, width = picture.shape[1:]
    size = w["backbone.vit.cls_token"].shape[-1]
    table, tokens = w["backbone.vit.pos_embed"][0], prefix_tokens(w)
    patches = patch_tokens(w, picture, shape)
    if len(table) > own:
        tokens = [token + place for token, place in zip(tokens, table[: len(tokens)], strict=True)]
    columns = width // shape.patch
    for i, patch in enumerate(patches):
        where = divmod(i, columns)
        if shape.positions == "none":
            tokens.append(patch)
            continue
        only_time = shape.positions == "time"
        place = token_code(num_frames, frameset_number, where, (height, width), shape.patch, shape.grid, size, only_time)
        tokens.append(patch + place)
    return layer_norm(w, "backbone.vit.norm_pre", np.stack(tokens), shape.eps)


def token_code(
    num_frames: int,
    frameset_number: int,
    token: tuple[int, int],
    picture: tuple[int, int],
    patch: int,
    grid: tuple[int, int],
    width: int,
    only_time: bool,
) -> np.ndarray:
    """Code of one token: over the cells it covers, the mean of their codes, weighted by how many pixels it has there.

    Time is the absolute frame number from 1. Rows and columns are where the middle of the covered part lies in the
    frame before it was shrunk, counted in patches.
    """
    cell_height, cell_width = picture[0] // grid[0], picture[1] // grid[1]
    pixels: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for y in range(token[0] * patch, (token[0] + 1) * patch):
        for x in range(token[1] * patch, (token[1] + 1) * patch):
            cell = (y // cell_height, x // cell_width)
            pixels.setdefault(cell, []).append((y + 0.5 - cell[0] * cell_height, x + 0.5 - cell[1] * cell_width))
    mean = np.zeros(width)
    extents = (num_frames, picture[0] // patch, picture[1] // patch)
    for (r, c), inside in pixels.items():
        time = 1 + frameset_number * grid[0] * grid[1] + r * grid[1] + c
        row = sum(y for y, _ in inside) / len(inside) * grid[0] / patch
        column = sum(x for _, x in inside) / len(inside) * grid[1] / patch
        share = len(inside) / patch**2
        mean += share * (sines(time, width, extents[0]) if only_time else code(time, row, column, width, extents))
    return mean


def code(time: float, row: float, column: float, width: int, extents: tuple[int, int, int]) -> np.ndarray:
    """Three sine tables side by side; each of the two places gets a third of the channels, rounded down to even."""
    place = 2 * (width // 6)
    sizes = (width - 2 * place, place, place)
    return np.concatenate([sines(*each) for each in zip((time, row, column), sizes, extents, strict=True)])


def sines(value: float, size: int, extent: int) -> np.ndarray:
    """sin and cos of value / extent^(2i / size), i = 0, 1 ..."""
    out = np.zeros(size)
    for j in range(size):
        angle = value * extent ** (-2 * (j // 2) / size)
        out[j] = math.sin(angle) if j % 2 == 0 else math.cos(angle)
    return out


def frameset(frames: np.ndarray, grid: tuple[int, int], cell: int | None) -> np.ndarray:
    """rows * columns frames (n, C, H, W), shrunk, then laid out row by row into one picture (C, H, W)."""
    channels, height, width = frames.shape[1:]
    h, w = (cell, cell) if cell else (height // grid[0], width // grid[1])
    small = torch.nn.functional.interpolate(
        torch.from_numpy(frames.astype(np.float64)), size=(h, w), mode="bilinear", antialias=True, align_corners=False
    ).numpy()
    picture = np.full((channels, h * grid[0], w * grid[1]), np.nan)
    for number, frame in enumerate(small):
        r, c = number // grid[1], number % grid[1]
        for y in range(h):
            for x in range(w):
                picture[:, r * h + y, c * w + x] = frame[:, y, x]
    return picture


def patch_tokens(w: dict[str, np.ndarray], picture: np.ndarray, shape: Shape) -> list[np.ndarray]:
    mean, std = (np.array(values)[:, None, None] for values in (shape.mean, shape.std))
    picture = (picture / 255 - mean) / std
    kernel, bias = w["backbone.vit.patch_embed.proj.weight"], w.get("backbone.vit.patch_embed.proj.bias", 0.0)
    p, tokens = shape.patch, []
    for y in range(picture.shape[1] // p):
        for x in range(picture.shape[2] // p):
            patch = picture[:, y * p : (y + 1) * p, x * p : (x + 1) * p]
            tokens.append(kernel.reshape(len(kernel), -1) @ patch.reshape(-1) + bias)
    return tokens


def prefix_tokens(w: dict[str, np.ndarray]) -> list[np.ndarray]:
    registers = w.get("backbone.vit.reg_token")
    return [w["backbone.vit.cls_token"][0, 0], *([] if registers is None else registers[0])]


def layer_norm(w: dict[str, np.ndarray], name: str, x: np.ndarray, eps: float) -> np.ndarray:
    if f"{name}.weight" not in w:
        assert name == "backbone.vit.norm_pre"
        return x
    out = np.empty_like(x)
    for i, token in enumerate(x):
        mean = token.sum() / len(token)
        variance = ((token - mean) ** 2).sum() / len(token)
        out[i] = (token - mean) / math.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]
    return out


def attention(w: dict[str, np.ndarray], block: str, x: np.ndarray, heads: int) -> np.ndarray:
    tokens, width = x.shape
    each = width // heads
    weight, bias = w[f"{block}.attn.qkv.weight"], w[f"{block}.attn.qkv.bias"]
    joined = np.zeros((tokens, width))
    for head in range(heads):
        rows = [slice(part * width + head * each, part * width + (head + 1) * each) for part in range(3)]
        q, k, v = (x @ weight[r].T + bias[r] for r in rows)
        for i in range(tokens):
            scores = np.array([q[i] @ k[j] / math.sqrt(each) for j in range(tokens)])
            share = np.exp(scores - scores.max())
            share = share / share.sum()
            joined[i, head * each : (head + 1) * each] = share @ v
    out = joined @ w[f"{block}.attn.proj.weight"].T + w[f"{block}.attn.proj.bias"]
    return out * w.get(f"{block}.ls1.gamma", 1.0)


def mlp(w: dict[str, np.ndarray], block: str, x: np.ndarray, quick: bool) -> np.ndarray:
    inner = x @ w[f"{block}.mlp.fc1.weight"].T + w[f"{block}.mlp.fc1.bias"]
    inner = inner / (1 + np.exp(-1.702 * inner)) if quick else gelu_all(inner)
    out = inner @ w[f"{block}.mlp.fc2.weight"].T + w[f"{block}.mlp.fc2.bias"]
    return out * w.get(f"{block}.ls2.gamma", 1.0)


def adapted(w: dict[str, np.ndarray], name: str, place: str, normed: np.ndarray, frozen: np.ndarray) -> np.ndarray:
    """What is added to the residual stream: beside the frozen part, or on top of it."""
    return frozen + adapter(w, name, normed) if place == "parallel" else adapter(w, name, frozen)


def adapter(w: dict[str, np.ndarray], name: str, z: np.ndarray) -> np.ndarray:
    """A(z) = W_up GELU(W_down z + b) + b', one token at a time."""
    out = []
    for token in z:
        inner = gelu_all(w[f"{name}.down.weight"] @ token + w[f"{name}.down.bias"])
        out.append(w[f"{name}.up.weight"] @ inner + w[f"{name}.up.bias"])
    return np.stack(out)


def gelu_all(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's cumulative function."""
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def read_out(w: dict[str, np.ndarray], x: np.ndarray, eps: float) -> np.ndarray:
    """The final [CLS], normed, through the projection if there is one."""
    final = layer_norm(w, "backbone.vit.norm", x[:1], eps)[0]
    if "backbone.vit.head.weight" not in w:
        return final
    return w["backbone.vit.head.weight"] @ final + w.get("backbone.vit.head.bias", 0.0)
