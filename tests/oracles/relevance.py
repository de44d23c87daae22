"""Attention maps written out from the papers, slowly, in float64: whole matrices, one picture, head, pixel at a time.

A plain vision transformer with DualPath's adapters, its attention weights taken as they arise, so that autograd can say
how the logit of a class depends on each of them. Tokens and framesets come from the oracle of DualPath itself.

    attention   rows of A            relevance   Chefer, Gur, Wolf 2021: R <- R + A_bar R,  A_bar = mean over heads of (G * A)+
    rollout     Abnar, Zuidema 2020: the product of (A + I) / 2
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from oracles import dualpath as oracle

Weights = dict[str, Tensor]


def maps(
    weights: Weights, clip: np.ndarray, shape: oracle.Shape, *, label: int, kind: str, block: int = -1
) -> dict[str, np.ndarray]:
    """Of one clip, uint8 (T, C, H, W): "logits", and for each path its shares, (frames, rows, columns), 1 in all."""
    w = {name: value.double() for name, value in weights.items()}
    tokens = {"spatial": _spatial(w, clip, shape), "temporal": _temporal(w, clip, shape)}
    seen: dict[str, list[list[Tensor]]] = {}
    features = []
    for path, pictures in tokens.items():
        seen[path] = []
        read = []
        for x in pictures:
            tables: list[Tensor] = []
            read.append(_walk(w, x, path, shape, tables))
            seen[path].append(tables)
        features.append(torch.stack(read).mean(0))
    inner = torch.nn.functional.gelu(w["head.hidden.weight"] @ torch.cat(features) + w["head.hidden.bias"])
    logits = w["head.out.weight"] @ inner + w["head.out.bias"]
    out = {"logits": logits.detach().numpy()}
    prefix = len(oracle.prefix_tokens({name: value.numpy() for name, value in w.items()}))
    for path, pictures in seen.items():
        rows = []
        for tables in pictures:
            slopes = torch.autograd.grad(logits[label], tables, retain_graph=True)
            rows.append(_row(tables, slopes, kind, block)[prefix:])
        shares = torch.stack(rows) / torch.stack(rows).sum()
        out[path] = _by_frame(shares.numpy(), path, clip, shape)
    return out


def _row(tables: list[Tensor], slopes: tuple[Tensor, ...], kind: str, block: int) -> Tensor:
    """What [CLS] gets of each token."""
    size = tables[0].shape[-1]
    if kind == "attention":
        return tables[block].detach().mean(0)[0]
    product = torch.eye(size, dtype=torch.float64)
    for table, slope in zip(tables, slopes, strict=True):
        if kind == "rollout":
            product = (table.detach().mean(0) + torch.eye(size, dtype=torch.float64)) / 2 @ product
        else:
            product = product + (table.detach() * slope).clamp_min(0).mean(0) @ product
    return product[0]


def _walk(w: Weights, x: Tensor, path: str, shape: oracle.Shape, tables: list[Tensor]) -> Tensor:
    places = shape.spatial if path == "spatial" else shape.temporal
    for n in range(oracle.depth({name: value.numpy() for name, value in w.items()})):
        block = f"backbone.vit.blocks.{n}"
        normed = _norm(w, f"{block}.norm1", x, shape.eps)
        frozen = _attend(w, block, normed, shape.heads, tables)
        adapter = f"{path}.{n}.attention"
        x = x + (frozen + _adapter(w, adapter, normed) if places[0] == "parallel" else _adapter(w, adapter, frozen))
        normed = _norm(w, f"{block}.norm2", x, shape.eps)
        inner = torch.nn.functional.gelu(normed @ w[f"{block}.mlp.fc1.weight"].T + w[f"{block}.mlp.fc1.bias"])
        frozen = inner @ w[f"{block}.mlp.fc2.weight"].T + w[f"{block}.mlp.fc2.bias"]
        adapter = f"{path}.{n}.mlp"
        x = x + (frozen + _adapter(w, adapter, normed) if places[1] == "parallel" else _adapter(w, adapter, frozen))
    return _norm(w, "backbone.vit.norm", x, shape.eps)[0]


def _attend(w: Weights, block: str, x: Tensor, heads: int, tables: list[Tensor]) -> Tensor:
    tokens, width = x.shape
    each = width // heads
    q, k, v = (x @ w[f"{block}.attn.qkv.weight"].T + w[f"{block}.attn.qkv.bias"]).split(width, dim=1)
    scores = []
    for head in range(heads):
        columns = slice(head * each, (head + 1) * each)
        rows = [torch.stack([q[i, columns] @ k[j, columns] / each**0.5 for j in range(tokens)]) for i in range(tokens)]
        scores.append(torch.stack(rows))
    table = torch.stack(scores).exp()
    table = table / table.sum(-1, keepdim=True)
    if not table.requires_grad:
        table.requires_grad_()
    tables.append(table)
    found = [table[head] @ v[:, head * each : (head + 1) * each] for head in range(heads)]
    return torch.cat(found, dim=1) @ w[f"{block}.attn.proj.weight"].T + w[f"{block}.attn.proj.bias"]


def _norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def _adapter(w: Weights, name: str, z: Tensor) -> Tensor:
    inner = torch.nn.functional.gelu(z @ w[f"{name}.down.weight"].T + w[f"{name}.down.bias"])
    return inner @ w[f"{name}.up.weight"].T + w[f"{name}.up.bias"]


def _spatial(w: Weights, clip: np.ndarray, shape: oracle.Shape) -> list[Tensor]:
    values = {name: value.numpy() for name, value in w.items()}
    chosen = [int((i + 0.5) * len(clip) / shape.num_spatial_frames) for i in range(shape.num_spatial_frames)]
    return [torch.from_numpy(oracle.spatial_tokens(values, clip[i].astype(np.float64), shape)) for i in chosen]


def _temporal(w: Weights, clip: np.ndarray, shape: oracle.Shape) -> list[Tensor]:
    values = {name: value.numpy() for name, value in w.items()}
    cells, own = shape.grid[0] * shape.grid[1], clip.shape[-2] // shape.patch * (clip.shape[-1] // shape.patch)
    tokens = []
    for g in range(len(clip) // cells):
        picture = oracle.frameset(clip[g * cells : (g + 1) * cells], shape.grid, shape.cell)
        tokens.append(torch.from_numpy(oracle.temporal_tokens(values, picture, len(clip), g, shape, own)))
    return tokens


def _by_frame(shares: np.ndarray, path: str, clip: np.ndarray, shape: oracle.Shape) -> np.ndarray:
    """Spatial: one map a picture. Temporal: each pixel of a frameset gives its part of its token's share to its frame."""
    side = clip.shape[-1]
    if path == "spatial":
        return shares.reshape(len(shares), side // shape.patch, side // shape.patch)
    cell = [side // n for n in shape.grid]
    out = np.zeros((len(clip), *cell))
    columns = cell[1] * shape.grid[1] // shape.patch
    for g, tokens in enumerate(shares):
        for y in range(cell[0] * shape.grid[0]):
            for x in range(cell[1] * shape.grid[1]):
                frame = (g * shape.grid[0] + y // cell[0]) * shape.grid[1] + x // cell[1]
                token = y // shape.patch * columns + x // shape.patch
                out[frame, y % cell[0], x % cell[1]] += tokens[token] / shape.patch**2
    return out
