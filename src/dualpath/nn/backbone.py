"""A frozen image transformer, taken apart: embed, walk the blocks, read [CLS].

Any plain timm VisionTransformer with a [CLS] token. The methods never touch timm themselves: they walk
`backbone.blocks` with `attend` and `transform`, and add their trained parts in between.

    n pictures   l tokens ([CLS] and registers first)   d width   f features that are read out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.nn.hub import hub_or_cache

CLIP_VIT_B16 = "vit_base_patch16_clip_quickgelu_224.openai"
"""The paper's smaller backbone. OpenAI's weights were trained with QuickGELU, which timm's shorter name lacks."""

EMBEDDED = "stills_vit_tiny_patch16_128"
"""The small backbone that this package ships (nn/stills): needs no download."""

# The widths of CLIP's image projection. timm's CLIP towers carry it as their `head`, in the place where other
# models have an ImageNet classifier (1000, 11821, 21841 ... outputs), which is of no use here.
_PROJECTION_WIDTHS = (512, 640, 768, 896, 1024, 1280)


@dataclass(frozen=True)
class BackboneConfig:
    """Which frozen image transformer.

    Attributes:
        backbone: a timm VisionTransformer (vit_base_patch16_clip_quickgelu_224.openai,
            vit_small_patch16_224.augreg_in21k ...) or stills_vit_tiny_patch16_128, which the package ships.
        weights: a local safetensors file of the same architecture; by default the hub's (or the embedded) weights.
    """

    backbone: str = CLIP_VIT_B16
    weights: str | None = None


class Backbone(nn.Module):
    """A timm VisionTransformer with all its weights frozen, in evaluation mode for good.

    Attributes:
        name: its name, as in BackboneConfig.
        hash: sha256 over the names and fp32 values of all weights, before any conversion to bf16.
        width: d, the tokens' width.
        features: f, what is read out: the width behind the backbone's own projection, or d where it has none.
        size: side of the square pictures it takes, in pixels.
    """

    vit: Any  # a VisionTransformer; to a type checker its parts are "Tensor or Module", which fits nothing
    _shift: Tensor
    _scale: Tensor

    def __init__(self, vit: VisionTransformer, *, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if vit.cls_token is None or vit.pos_embed is None:
            raise DualPathError(
                f"backbone {name} has no [CLS] token or no table of positions; choose a VisionTransformer that has both"
            )
        if not all(type(block) is Block for block in vit.blocks):
            raise DualPathError(
                f"backbone {name} has blocks of {type(vit.blocks[0]).__name__}, not of attention and then an MLP; "
                f"choose one such as {CLIP_VIT_B16} or {EMBEDDED}"
            )
        self.vit = vit.eval().requires_grad_(False)
        self.name = name
        self.hash = _hash(vit)
        self.width: int = vit.embed_dim
        self.features: int = vit.head.out_features if isinstance(vit.head, nn.Linear) else vit.embed_dim
        self.size: int = vit.patch_embed.img_size[0]
        self.normalise_with(mean, std)

    @property
    def blocks(self) -> Iterator[Any]:
        """The transformer's blocks, first to last."""
        return iter(self.vit.blocks)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.vit.blocks)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens."""
        rows, columns = self.vit.patch_embed.grid_size
        return rows, columns

    @property
    def dtype(self) -> torch.dtype:
        """What the frozen weights are stored in and computed with."""
        return self.vit.cls_token.dtype

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: the backbone is frozen, its dropout included."""
        del mode
        return super().train(False)

    def normalise_with(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Takes over the mean and standard deviation (of values 0..1) that a checkpoint was trained with."""
        self.mean, self.std = tuple(mean), tuple(std)
        device = self.vit.cls_token.device
        self.register_buffer("_shift", torch.tensor(mean, device=device).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("_scale", 1 / (torch.tensor(std, device=device).view(-1, 1, 1) * 255), persistent=False)

    def fuse_attention(self, fused: bool) -> None:
        """Whether torch's fused attention kernel is used.

        On a CPU its backward pass in bf16 takes 2 to 5 times as long as plain matrix products (EXPERIMENTS.md), so
        training there goes without.
        """
        for block in self.blocks:
            block.attn.fused_attn = fused

    def normalise(self, pictures: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels 0..255 to the backbone's own mean and standard deviation, in its dtype."""
        return ((pictures.float() - self._shift) * self._scale).to(self.dtype)

    def embed(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n l d"]:
        """Normalised pictures to the tokens that enter the first block, with the backbone's own positions."""
        return self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(pictures)))

    def embed_at(self, pictures: Float[Tensor, "n c h w"], positions: Float[Tensor, "g p d"]) -> Float[Tensor, "n l d"]:
        """The same with other positions of the patches than the backbone's own.

        [CLS] and the registers enter as they always do: the frozen blocks would not know them with anything added.

        Args:
            pictures: normalised; n is a multiple of g, and picture i gets the positions of i modulo g.
            positions: encoding of each patch token.
        """
        patches = self.vit.patch_embed(pictures)
        patches = patches.reshape(len(patches), -1, self.width)  # rows x columns where timm's dynamic_img_size is on
        places = positions.repeat(len(pictures) // len(positions), 1, 1).to(self.dtype)
        first = [self.vit.cls_token] + ([] if self.vit.reg_token is None else [self.vit.reg_token])
        prefix = torch.cat(first, dim=1)
        if not self.vit.no_embed_class:
            prefix = prefix + self.vit.pos_embed[:, : prefix.shape[1]]
        return self.vit.norm_pre(torch.cat([prefix.expand(len(pictures), -1, -1), patches + places], dim=1))

    def keep_read(self, tokens: Float[Tensor, "n l d"], block: Block) -> Float[Tensor, "n m d"]:
        """After the attention of the last block, only [CLS] goes on: nothing else is ever read (m is then 1)."""
        return tokens[:, :1] if block is self.vit.blocks[-1] else tokens

    def read(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n f"]:
        """The final [CLS] token of each picture, normed and through the backbone's own projection, in fp32."""
        final = self.vit.fc_norm(self.vit.norm(tokens[:, 0]))
        return self.vit.head(final).float()

    def forward(self, pictures: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """The frozen backbone as it is: pictures to features."""
        tokens = self.embed(self.normalise(pictures))
        for block in self.blocks:
            tokens = self.keep_read(tokens + attend(block, block.norm1(tokens)), block)
            tokens = tokens + transform(block, block.norm2(tokens))
        return self.read(tokens)


def attend(block: Block, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
    """MHA(LN1 x) of a frozen block, given LN1 x, without the skip."""
    return block.ls1(block.attn(normed))


def transform(block: Block, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
    """MLP(LN2 x) of a frozen block, given LN2 x, without the skip."""
    return block.ls2(block.mlp(normed))


def load_backbone(config: BackboneConfig, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """Builds the backbone and loads its weights: embedded, from a local file or from the hub.

    Raises:
        DualPathError: unknown name, not a plain VisionTransformer, a weight file that does not fit, no network.
    """
    backbone = _embedded(config.weights) if config.backbone == EMBEDDED else _from_timm(config)
    backbone.vit.to(dtype)
    return backbone


def random_backbone(name: str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """The named architecture with random weights from torch's generator: for plans, tests and speed."""
    if name == EMBEDDED:
        card = _embedded_card()
        vit = VisionTransformer(**card["architecture"])
        return Backbone(vit.to(dtype), name=name, mean=tuple(card["mean"]), std=tuple(card["std"]))
    return _from_cfg(_create(name, pretrained=False).to(dtype), name)


def _from_cfg(vit: VisionTransformer, name: str) -> Backbone:
    """With the mean and the standard deviation that timm keeps beside the weights."""
    cfg: Any = vit.pretrained_cfg
    return Backbone(vit, name=name, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))


def _embedded_card() -> dict:
    return json.loads((resources.files("dualpath.nn") / "stills" / "config.json").read_text())


def _embedded(weights: str | None) -> Backbone:
    card = _embedded_card()
    vit = VisionTransformer(**card["architecture"])
    path = Path(weights) if weights else Path(str(resources.files("dualpath.nn") / "stills" / "model.safetensors"))
    _load(vit, path, name=EMBEDDED)
    return Backbone(vit, name=EMBEDDED, mean=tuple(card["mean"]), std=tuple(card["std"]))


def _from_timm(config: BackboneConfig) -> Backbone:
    if config.weights is None:
        with torch.device("meta"):  # a wrong name is told before anything is fetched
            _create(config.backbone, pretrained=False)
        with hub_or_cache() as unreachable:
            try:
                vit = _create(config.backbone, pretrained=True)
            except Exception as problem:  # the hub client's own errors, httpx's, OSError, a missing url: one answer to all
                raise DualPathError(
                    f"the weights of {config.backbone} could not be fetched ({unreachable or _first_line(problem)}); "
                    f"use --backbone {EMBEDDED}, which needs no download, or --weights FILE with a local safetensors "
                    "file of the same architecture"
                ) from problem
    else:
        vit = _create(config.backbone, pretrained=False)
        _load(vit, Path(config.weights), name=config.backbone)
    return _from_cfg(vit, config.backbone)


def _create(name: str, *, pretrained: bool) -> VisionTransformer:
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0]}*")[:3] or timm.list_models("vit_*clip*")[:3]
        raise DualPathError(
            f"unknown backbone {name!r}; there are {EMBEDDED}, and timm's VisionTransformers such as "
            f"{CLIP_VIT_B16}, {', '.join(near)}"
        )
    try:
        cfg = timm.get_pretrained_cfg(name)
    except RuntimeError as problem:
        raise DualPathError(f"unknown backbone {name!r}: {problem}; timm.list_pretrained() lists what there is") from problem
    outputs = cfg.num_classes if cfg is not None and cfg.num_classes in _PROJECTION_WIDTHS else 0
    vit = timm.create_model(name, pretrained=pretrained, num_classes=outputs)
    if type(vit) is not VisionTransformer:
        raise DualPathError(
            f"backbone {name} is a {type(vit).__name__}, not a plain VisionTransformer; "
            f"choose one such as {CLIP_VIT_B16} or {EMBEDDED}"
        )
    return vit


def _load(vit: VisionTransformer, path: Path, *, name: str) -> None:
    if not path.is_file():
        raise DualPathError(f"no weight file {path}; --weights takes a safetensors file of {name}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as problem:
        raise DualPathError(
            f"{path} is not a whole safetensors file ({_first_line(problem)}); give the weights of {name} as safetensors"
        ) from problem
    patches = {tuple(value.shape[-2:]) for value in state.values() if value.ndim == 4}  # timm would resample them silently
    if patches - {vit.patch_embed.patch_size}:
        found = ", ".join(f"{y}x{x}" for y, x in sorted(patches))
        raise DualPathError(
            f"{path} does not hold the weights of {name}: it has patches of {found} pixels, not "
            f"{'x'.join(map(str, vit.patch_embed.patch_size))}; give a file of this architecture"
        )
    try:
        state = checkpoint_filter_fn(state, vit)
    except Exception as problem:  # timm's conversions end in all sorts of errors where the shapes are not what they expect
        raise DualPathError(
            f"{path} does not hold the weights of {name} ({_first_line(problem)}); give a file of this architecture"
        ) from problem
    wanted = vit.state_dict()
    if not isinstance(vit.head, nn.Linear):
        # An ImageNet classifier in the file is not part of the frozen backbone.
        state = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if missing or extra or wrong:
        found = "; ".join(
            f"{len(keys)} {what} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("left over", extra), ("of another shape", wrong))
            if keys
        )
        raise DualPathError(f"{path} does not hold the weights of {name}: {found}; give a file of this architecture")
    vit.load_state_dict(state)


def _hash(vit: VisionTransformer) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(vit.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_line(problem: BaseException) -> str:
    text = str(problem).strip().splitlines()
    return (text[0] if text else type(problem).__name__)[:160]
