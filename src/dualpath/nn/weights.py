"""Weight files of every common format into a timm image transformer: every tensor, or an error that says why not.

file or folder --tensorfiles--> tensors under the file's own names
               --formats-->     under timm's names, as timm keeps them
               --here-->        tables of another picture size resampled (and said), all compared, copied

               --sidecar-->     what a file cannot hold (the activation, the heads) compared, if it lies beside
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.models import eva, swin_transformer, vision_transformer
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.nn.formats import FORMATS, OPENCLIP, Format, assemble
from dualpath.nn.sidecar import compare, find_sidecar
from dualpath.nn.tensorfiles import first_line, read_state
from dualpath.terminal import in_line

__all__ = ["load_weights", "read_state"]

_WRAPS = ("module.", "_orig_mod.", "model.", "backbone.", "timm_model.")
"""What trainers put before every name."""

# Parts of image transformers that a frozen backbone may lack: classifiers, attention pooling, what only served to
# pretrain. In a model that has them they are matched like everything else.
_HEADS = re.compile(r"(head|head_dist|lm_head|attn_pool)\..+|decoder_(embed|pos_embed|blocks|norm|pred)\b.*|mask_token")

_TABLE = "relative_position_bias_table"


def load_weights(model: nn.Module, path: Path, *, name: str) -> None:
    """Copies a weight file into a timm VisionTransformer, Eva or SwinTransformer, strictly.

    Read are safetensors, torch.save and OpenAI's TorchScript archives, or a folder with one of them, in the names of
    timm, of the models' authors (as far as timm knows them), of OpenAI and OpenCLIP, and of transformers (CLIP, SigLIP,
    SigLIP2, DINOv2, DINOv3, ViT). Nothing in a file is run. Half precision becomes fp32.

    A table of positions for another picture size is resampled, which is said on stderr.

    Args:
        model: whose every tensor must be in the file. Known parts of the file that it lacks (a text tower, a
            classifier) are left aside. On torch's meta device it takes the file's own tensors over, else it copies them.
        path: the file or the folder.
        name: the backbone's name, for messages.

    Raises:
        DualPathError: the file cannot be read, does not hold this architecture, or was made for another activation.
    """
    try:
        raw = _unwrapped(read_state(path))
    except DualPathError as problem:
        raise DualPathError(f"{problem}; give the weights of {name}") from problem
    of = _format(raw, model)
    try:
        state = _authors(raw, model) if of is None else _converted(raw, of, model)
    except _Misfit as problem:
        raise _unfit(path, name, str(problem)) from None
    except Exception as problem:  # conversions end in all sorts of errors where the shapes are not what they expect
        raise DualPathError(
            f"{path} does not hold the weights of {name} ({first_line(problem)}); give a file of this architecture"
        ) from problem
    notes = [*_fit_positions(state, model), *_fit_windows(state, model)]
    wanted = model.state_dict()
    state = {key: value for key, value in state.items() if key in wanted or not _to_leave(key, value)}
    if misfit := _misfit(state, wanted, title=of.title if of else None):
        raise _unfit(path, name, misfit)
    if (sidecar := find_sidecar(path, raw, of=of, width=_size(wanted)[0])) is not None:
        notes += compare(sidecar, model, path=path, name=name)
    if any(value.is_meta for value in wanted.values()):
        model.load_state_dict({key: value.contiguous() for key, value in state.items()}, assign=True)
    else:
        model.load_state_dict(state)
    for note in notes:
        print(in_line(f"{path}: {note}"), file=sys.stderr)


class _Misfit(Exception):
    """Why the tensors are not this model's, as half a sentence."""


def _unfit(path: Path, name: str, reason: str) -> DualPathError:
    return DualPathError(f"{path} does not hold the weights of {name}: {reason}; give a file of this architecture")


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what stands before all names."""
    while prefix := next((wrap for wrap in _WRAPS if state and all(name.startswith(wrap) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _format(state: dict[str, Tensor], model: nn.Module) -> Format | None:
    """Whose names these are; None for timm's own and those of authors that timm knows."""
    of = next((each for each in FORMATS if each.marks(state)), None)
    # Meta's Perception Encoder, an Eva to timm, has OpenAI's names and more: timm knows it.
    return None if of is OPENCLIP and isinstance(model, eva.Eva) else of


def _converted(raw: dict[str, Tensor], of: Format, model: nn.Module) -> dict[str, Tensor]:
    """A format of ours to timm's names."""
    state = assemble(_full(of.rename(raw)), model.state_dict())
    _check_patches(state, model)
    return state


class _Tableless:
    """A model as timm's converters see it, without its table of positions: they would resample to it and not say so."""

    pos_embed = None

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _authors(raw: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """timm's own names, or those of the model's authors, to timm's names."""
    _check_patches(raw, model)
    state = _full(raw)
    tables = {key: state.pop(key) for key in list(state) if key.endswith(_TABLE)}
    seen: Any = _Tableless(model)
    with contextlib.redirect_stdout(io.StringIO()):  # a forgotten print of timm's
        if isinstance(model, eva.Eva):
            made = eva.checkpoint_filter_fn(dict(state), seen)
        elif isinstance(model, swin_transformer.SwinTransformer):
            made = swin_transformer.checkpoint_filter_fn(dict(state), seen)
        elif isinstance(model, vision_transformer.VisionTransformer):
            made = vision_transformer.checkpoint_filter_fn(dict(state), seen, adapt_layer_scale=True)
        else:
            raise _Misfit(f"that is a {type(model).__name__}, and no VisionTransformer, Eva or SwinTransformer")
    if "storage_tokens" in state:  # DINOv3: timm would drop the biases that its model has no place for, zeros or not
        for key, value in state.items():
            if key.endswith("attn.qkv.bias"):
                queries, _, values = value.chunk(3)  # those of the keys are masked
                made |= {key.replace("qkv.bias", "q_bias"): queries, key.replace("qkv.bias", "v_bias"): values}
    if "mask_token" in state and isinstance(model, eva.Eva):  # EVA's pretraining: timm has moved its last norm
        for kind in ("weight", "bias"):
            if f"norm.{kind}" in model.state_dict() and f"fc_norm.{kind}" in made:
                made[f"norm.{kind}"] = made.pop(f"fc_norm.{kind}")
    return {**made, **tables}


def _to_leave(key: str, value: Tensor) -> bool:
    """Whether a tensor that the model has no place for is none of the frozen model's, or changes nothing."""
    return bool(_HEADS.fullmatch(key)) or (key.endswith(("attn.q_bias", "attn.v_bias")) and not value.any())


def _full(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _check_patches(state: dict[str, Tensor], model: nn.Module) -> None:
    """timm would resample patches of another size to its own, silently, and other features would come out."""
    own = model.state_dict().get("patch_embed.proj.weight")
    found = {tuple(value.shape[-2:]) for value in state.values() if value.ndim == 4}
    flat = [len(value.T) for name, value in state.items() if name.endswith("patch_generator.embedder.weight")]  # of RADIO
    found |= {(math.isqrt(length // 3),) * 2 for length in flat}
    if any(name.startswith(("visual.layer1.", "layer1.")) for name in state):
        raise _Misfit("it is of a ResNet")
    if own is not None and found - {tuple(own.shape[-2:])}:
        sizes = ", ".join(f"{y}x{x}" for y, x in sorted(found))
        raise _Misfit(f"it has patches of {sizes} pixels, not {'x'.join(map(str, own.shape[-2:]))}")


def _fit_positions(state: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Resamples a table of positions that was trained with another picture size, in place.

    Returns:
        What is to be said about it.
    """
    vit: Any = model
    table, own = state.get("pos_embed"), getattr(model, "pos_embed", None)
    if table is None or own is None or table.ndim != 3 or table.shape[2] != own.shape[2]:
        return []
    first = 0 if getattr(vit, "no_embed_class", False) else vit.num_prefix_tokens
    rows, columns = vit.patch_embed.grid_size
    count = table.shape[1] - first
    side = math.isqrt(max(count, 0))
    if count == rows * columns:
        # 16 positions may be 4x4 or 2x8; a file does not say which.
        return [f"its {count} positions are taken as {rows}x{columns}"] if rows != columns and side**2 == count else []
    if side == 0 or side**2 != count:
        return []  # no square of patches: of another shape, which the comparison will say
    state["pos_embed"] = resample_abs_pos_embed(table, new_size=[rows, columns], old_size=[side, side], num_prefix_tokens=first)
    return [f"its table of positions is resampled from {side}x{side} to {rows}x{columns} patches"]


def _fit_windows(state: dict[str, Tensor], model: nn.Module) -> list[str]:
    """The same for the relative positions inside Swin's windows."""
    said = {}
    for key, own in model.state_dict().items():
        table = state.get(key)
        if not key.endswith(_TABLE) or table is None or table.shape == own.shape or table.shape[-1:] != own.shape[-1:]:
            continue
        side = math.isqrt(len(table))
        if table.ndim != 2 or side**2 != len(table) or side % 2 == 0:
            continue
        attention: Any = model.get_submodule(key.removesuffix(f".{_TABLE}"))
        rows, columns = attention.window_size
        with warnings.catch_warnings():
            # timm's interpolation is slow and in an old style, torch says; its values are right, as the tests check.
            warnings.filterwarnings("ignore", message=r".*(searchsorted|non-tuple sequence)")
            state[key] = resize_rel_pos_bias_table(table, new_window_size=(rows, columns), new_bias_shape=tuple(own.shape))
        old = side // 2 + 1
        said[f"its tables of relative positions are resampled from windows of {old}x{old} to {rows}x{columns}"] = None
    return list(said)


def _misfit(state: dict[str, Tensor], wanted: dict[str, Tensor], *, title: str | None) -> str:
    """What does not fit, in words; empty if all fits."""
    both = sorted(wanted.keys() & state.keys())
    kinds = (
        ("missing", sorted(wanted.keys() - state.keys())),
        ("left over", sorted(state.keys() - wanted.keys())),
        ("of another shape", [key for key in both if wanted[key].shape != state[key].shape]),
        ("not of floating point", [key for key in both if wanted[key].is_floating_point() > state[key].is_floating_point()]),
        ("not finite", [key for key in both if not _is_finite(state[key])]),
    )
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})" for what, keys in kinds if keys]
    (width, depth), (own_width, own_depth) = _size(state), _size(wanted)
    if found and width and depth and (width, depth) != (own_width, own_depth):
        of = f"{title} of" if title else "of"
        found.insert(0, f"it seems to be {of} width {width} and depth {depth}, not {own_width} and {own_depth}")
    return "; ".join(found)


def _is_finite(value: Tensor) -> bool:
    """Whether all values are; the extremes tell, and are found in one pass that makes nothing."""
    if not value.is_floating_point() or value.numel() == 0:
        return True
    return bool(torch.stack(torch.aminmax(value)).isfinite().all())


def _size(state: dict[str, Tensor]) -> tuple[int, int]:
    """Width (of Swin's first stage) and number of blocks of what has timm's names."""
    patches = state.get("patch_embed.proj.weight")
    blocks = {found.group() for key in state if (found := re.match(r"(layers\.\d+\.)?blocks\.\d+\.norm1\.", key))}
    return (0 if patches is None else len(patches)), len(blocks)
