"""How each family of timm's image transformers is taken apart into the layers of nn/backbone.py.

VisionTransformer   CLIP, OpenCLIP, DINOv2, SigLIP, AugReg, DeiT, MAE: pre-norm blocks, read from [CLS] or pooled
...Distilled        DeiT with a second [CLS]: read from the mean of both
Eva                 EVA-02, DINOv3, PE: the same with rotary positions, SwiGLU
SwinTransformer     four stages of shifted windows, patches merged in between; pooled
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaBlock
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.errors import DualPathError
from dualpath.nn.backbone import Backbone
from dualpath.nn.frozen import FrozenAttention, FrozenMlp, FrozenPatches
from dualpath.nn.layer import Layer, Size

_PATCHES = -1
"""Where Backbone.frozen has the patches; the layers are numbers from 0 on."""


@dataclass(frozen=True)
class VitLayer(Layer):
    """A block of a plain vision transformer.

    Attributes:
        read: how many tokens, from the first on, are read after the last layer; 0 for all.
        attention, mlp: how the block's frozen parts are computed; None where its own modules do it.
    """

    read: int
    attention: FrozenAttention | None
    mlp: FrozenMlp | None

    def attend(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """Attention and LayerScale."""
        if self.attention is None:
            return self.block.ls1(self.block.attn(normed))
        return self.block.ls1(self.attention(normed, fused=self.block.attn.fused_attn))

    mix = attend  # its attention knows no positions

    def attend_read(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
        """See Layer."""
        kept = self.keep_read(normed).shape[1]
        if self.attention is None or kept == normed.shape[1]:
            return self.keep_read(self.attend(normed))
        return self.block.ls1(self.attention(normed, asked=kept, fused=self.block.attn.fused_attn))

    def transform(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """MLP and LayerScale."""
        return self.block.ls2((self.mlp or self.block.mlp)(normed))

    def keep_read(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
        """[CLS] alone after the last attention, where the read-out is [CLS]."""
        return tokens[:, : self.read] if self.last and self.read else tokens


class VitBackbone(Backbone):
    """timm's VisionTransformer."""

    def __init__(self, vit: nn.Module, *, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(vit, name=name, mean=mean, std=std)
        wrong = {type(block).__name__ for block in self.vit.blocks} - {self._block.__name__}
        if wrong:
            raise DualPathError(
                f"backbone {name} has blocks of {', '.join(sorted(wrong))}, which do not norm, attend, norm and transform one "
                "after another; adapters have no defined place in them, so choose a model of pre-norm blocks"
            )
        if not self.vit.global_pool:
            raise DualPathError(
                f"backbone {name} reads no features out of its tokens; choose one with a [CLS] token or a pooling"
            )
        self.vit.patch_embed.strict_img_size = False  # framesets may have another size; `embed` looks after it

    _block: type[nn.Module] = Block
    _read = 1

    def _patches(self, pictures: Float[Tensor, "n c h w"]) -> Tensor:
        """What timm's patch_embed gives."""
        if torch.compiler.is_exporting():
            return self.vit.patch_embed(pictures)
        if _PATCHES not in self.frozen:
            self.frozen[_PATCHES] = FrozenPatches.of(self.vit.patch_embed, whole=self.in_int8)
        return (self.frozen[_PATCHES] or self.vit.patch_embed)(pictures)

    def _frozen_parts(self, number: int) -> tuple[FrozenAttention | None, FrozenMlp | None]:
        """Of a block; made once, see Backbone.forget_frozen. What is exported has the block's own modules and their weights."""
        if torch.compiler.is_exporting():
            return None, None
        if number not in self.frozen:
            block = self.vit.blocks[number]
            self.frozen[number] = FrozenAttention.of(block.attn), FrozenMlp.of(block.mlp)
        return self.frozen[number]

    def _widths(self) -> tuple[int, ...]:
        return (self.vit.embed_dim,) * len(self.vit.blocks)

    def _own_first(self) -> list[Tensor]:
        """The tokens before the patches, without positions."""
        return [token for token in (self.vit.cls_token, getattr(self.vit, "reg_token", None)) if token is not None]

    def embed(
        self,
        pictures: Float[Tensor, "n c h w"],
        *,
        positions: Float[Tensor, "g p d"] | None = None,
        first: Float[Tensor, "m d"] | None = None,
        times: Float[Tensor, "t d"] | None = None,
    ) -> Float[Tensor, "n l d"]:
        """See Backbone."""
        vit, patches = self.vit, self._patches(pictures)
        if positions is None:
            tokens = vit._pos_embed(patches)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens  # Eva gives its rotary positions too
            return vit.norm_pre(_add_times(tokens, times))
        n = pictures.shape[0]  # not its len, which torch.export takes for a constant
        patches = patches.reshape(n, -1, self.width)  # rows x columns where timm's dynamic_img_size is on
        patches = patches + positions.repeat(n // positions.shape[0], 1, 1).to(patches.dtype)
        own = self._own_first()
        if first is None and own:
            first = torch.cat(own, dim=1)[0]
            if vit.pos_embed is not None and not vit.no_embed_class:
                first = first + vit.pos_embed[0, : len(first)]
        if first is not None:
            patches = torch.cat([first.to(patches.dtype).expand(n, -1, -1), patches], dim=1)
        return vit.norm_pre(_add_times(patches, times))

    def layers(self, size: Size | None = None, *, extra: int = 0) -> Iterator[Layer]:
        """See Backbone."""
        grid = self.grid_of(size or (self.size, self.size))
        read = self._read if self.vit.global_pool == "token" else 0
        for number, block in enumerate(self.vit.blocks):
            frozen = self._frozen_parts(number)
            yield VitLayer(
                block,
                self.width,
                self.prefix + extra,
                grid,
                number == self.depth - 1,
                read,
                *frozen,
            )

    def finish(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """See Backbone."""
        return self.vit.norm(tokens)

    def read(
        self, tokens: Float[Tensor, "n m d"], *, project: bool = True, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "n f"]:
        """See Backbone."""
        return self.vit.forward_head((norm or self.finish)(tokens), pre_logits=not project).float()

    def read_weights(self, tokens: int) -> Float[Tensor, " l"] | None:
        """See Backbone."""
        if getattr(self.vit, "attn_pool", None) is not None:
            return None
        weights = torch.zeros(tokens)
        match self.vit.global_pool:
            case "token":
                weights[: self._read] = 1 / self._read
            case "avg":
                first = 0 if getattr(self.vit, "pool_include_prefix", False) else self.prefix
                weights[first:] = 1 / (tokens - first)
            case how:
                raise DualPathError(
                    f"{self.name} reads its tokens by {how!r}, of which no token has a share; --kind relevance, rollout and "
                    "attention need a backbone that reads [CLS] tokens, their mean or an attention of its own"
                )
        return weights


class DistilledBackbone(VitBackbone):
    """DeiT with a distillation token beside [CLS]."""

    _read = 2

    def _own_first(self) -> list[Tensor]:
        return [self.vit.cls_token, self.vit.dist_token]

    def read(
        self, tokens: Float[Tensor, "n m d"], *, project: bool = True, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "n f"]:
        """The mean of both tokens: what its two classifiers are averaged for."""
        del project
        return (norm or self.finish)(tokens)[:, :2].mean(dim=1).float()


@dataclass(frozen=True)
class EvaLayer(VitLayer):
    """A block with rotary positions.

    Attributes:
        rope: sines and cosines of each token behind the backbone's own prefix; None where it has no rotation.
    """

    rope: Tensor | None

    def attend(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """Attention with rotated queries and keys, and LayerScale."""
        return self._scaled(self.block.gamma_1, self.block.attn(normed, rope=self.rope))

    def mix(self, normed: Float[Tensor, "n s d"]) -> Float[Tensor, "n s d"]:
        """Attention without rotation, and LayerScale."""
        return self._scaled(self.block.gamma_1, self.block.attn(normed))

    def transform(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """MLP and LayerScale."""
        return self._scaled(self.block.gamma_2, self.block.mlp(normed))

    @staticmethod
    def _scaled(gamma: Tensor | None, x: Tensor) -> Tensor:
        return x if gamma is None else gamma * x


class EvaBackbone(VitBackbone):
    """timm's Eva: the rotary positions are those of the picture that is looked at, whatever its size."""

    _block = EvaBlock

    def layers(self, size: Size | None = None, *, extra: int = 0) -> Iterator[Layer]:
        """See Backbone."""
        grid = self.grid_of(size or (self.size, self.size))
        rope = None if self.vit.rope is None else _still_first(self._turns(grid), extra)
        mixed = getattr(self.vit, "rope_mixed", False)  # a rotation of its own for each block
        read = self._read if self.vit.global_pool == "token" else 0
        for number, block in enumerate(self.vit.blocks):
            turn = rope[number] if rope is not None and mixed else rope
            yield EvaLayer(
                block,
                self.width,
                self.prefix + extra,
                grid,
                number == self.depth - 1,
                read,
                None,
                None,
                turn,
            )

    def _turns(self, grid: Size) -> Float[Tensor, "*b p r"]:
        rope = self.vit.rope
        if getattr(rope, "feat_shape", None) is not None and tuple(rope.feat_shape) != grid:
            rope.update_feat_shape(list(grid))  # this kind remembers the angles of one size
        return rope.get_embed(shape=list(grid))


def _add_times(tokens: Float[Tensor, "n l d"], times: Float[Tensor, "t d"] | None) -> Float[Tensor, "n l d"]:
    return tokens if times is None else tokens + times.repeat(tokens.shape[0] // times.shape[0], 1)[:, None].to(tokens.dtype)


def _still_first(rope: Float[Tensor, "*b p r"], extra: int) -> Float[Tensor, "*b q r"]:
    """Puts `extra` tokens before the patches which are not turned: sine 0, cosine 1."""
    still = rope.new_zeros(*rope.shape[:-2], extra, rope.shape[-1])
    still[..., rope.shape[-1] // 2 :] = 1
    return torch.cat([still, rope], dim=-2)


@dataclass(frozen=True)
class SwinLayer(Layer):
    """A block of shifted windows.

    Attributes:
        before: the merging of patches in front of a stage, for its first block.
        before_grid: rows and columns of the patches that are merged.
    """

    before: Any
    before_grid: Size

    def enter(self, tokens: Float[Tensor, "n k c"]) -> Float[Tensor, "n l d"]:
        """Merges patches where a stage begins."""
        return tokens if self.before is None else self.before(tokens.unflatten(1, self.before_grid)).flatten(1, 2)

    def attend(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """Attention within windows."""
        return self.block._attn(normed.unflatten(1, self.grid)).flatten(1, 2)

    def mix(self, normed: Float[Tensor, "n s d"]) -> Float[Tensor, "n s d"]:
        """The window's projections along a plain sequence, without the bias of places in the window."""
        attention = self.block.attn
        heads = attention.qkv(normed).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attention.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))

    def transform(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The MLP."""
        return self.block.mlp(normed)


class SwinBackbone(Backbone):
    """timm's SwinTransformer: no [CLS], no table of positions; its places are biases within the windows."""

    attends_wholly = False

    def _widths(self) -> tuple[int, ...]:
        return tuple(block.dim for stage in self.vit.layers for block in stage.blocks)

    def _blocks(self) -> nn.Module:
        return self.vit.layers

    def embed(
        self,
        pictures: Float[Tensor, "n c h w"],
        *,
        positions: Float[Tensor, "g p d"] | None = None,
        first: Float[Tensor, "m d"] | None = None,
        times: Float[Tensor, "t d"] | None = None,
    ) -> Float[Tensor, "n l d"]:
        """See Backbone."""
        assert first is None
        patches = self.vit.patch_embed(pictures).flatten(1, 2)
        if positions is not None:
            patches = patches + positions.repeat(patches.shape[0] // positions.shape[0], 1, 1).to(patches.dtype)
        return _add_times(patches, times)

    def layers(self, size: Size | None = None, *, extra: int = 0) -> Iterator[Layer]:
        """See Backbone."""
        assert extra == 0
        grid = before = self.grid_of(size or (self.size, self.size))
        number = 0
        for stage in self.vit.layers:
            merge = None if isinstance(stage.downsample, nn.Identity) else stage.downsample
            if merge is not None:
                before, grid = grid, (-(-grid[0] // 2), -(-grid[1] // 2))
            for block in stage.blocks:
                number += 1
                yield SwinLayer(block, block.dim, 0, grid, number == self.depth, merge, before)
                merge = None

    def finish(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """See Backbone."""
        return self.vit.norm(tokens)

    def read(
        self, tokens: Float[Tensor, "n m d"], *, project: bool = True, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "n f"]:
        """See Backbone."""
        del project
        return (norm or self.finish)(tokens).mean(dim=1).float()

    def read_weights(self, tokens: int) -> Float[Tensor, " l"] | None:
        """See Backbone."""
        return torch.full((tokens,), 1 / tokens)


FAMILIES: dict[type[nn.Module], type[Backbone]] = {
    VisionTransformer: VitBackbone,
    VisionTransformerDistilled: DistilledBackbone,
    Eva: EvaBackbone,
    SwinTransformer: SwinBackbone,
}


def take_apart(vit: nn.Module, *, name: str, mean: Sequence[float], std: Sequence[float]) -> Backbone:
    """The timm model as a frozen backbone.

    Raises:
        DualPathError: a family that cannot be adapted, with the reason.
    """
    return family_of(vit, name=name)(vit, name=name, mean=mean, std=std)


def family_of(vit: nn.Module, *, name: str) -> type[Backbone]:
    """The class that takes this model apart, or a DualPathError with the reason why none does."""
    if type(vit) not in FAMILIES:
        known = ", ".join(kind.__name__ for kind in FAMILIES)
        raise DualPathError(
            f"backbone {name} is a {type(vit).__name__}; adapters are placed around the attention and the MLP of pre-norm "
            f"transformer blocks, and those of timm's {known} are known; choose one of these families"
        )
    return FAMILIES[type(vit)]
