"""A frozen image transformer as the methods see it: embed pictures, walk its layers, read features out.

A method never touches timm. It gives `walk` a step, which is what one layer does with the tokens and with the method's
own parts, and writes that step with the five things every layer can do:

    enter --> norm1 --> attend --> (+) --> norm2 --> transform --> (+) -->      mix: attention along any sequence

How the families do these things is in nn/families.py, which architectures there are in nn/zoo.py.

    n pictures   l tokens (`prefix` others, [CLS] ..., then the patches)   d width   f features that are read out
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dualpath.errors import DualPathError, number_of
from dualpath.nn.hashing import start_hash
from dualpath.nn.int8 import Int8Linear, make_whole
from dualpath.nn.layer import Layer, Size
from dualpath.nn.meta import Autocast
from dualpath.nn.recompute import Recompute

Step = Callable[[Layer, Any, Tensor], Tensor]
"""(layer, the method's part for it, tokens) to tokens."""


class Backbone(nn.Module, ABC):
    """A timm model with all its weights frozen, in evaluation mode for good.

    Attributes:
        name: its name, as in BackboneConfig.
        size: side of the square pictures it takes, in pixels.
        patch: side of a patch, in pixels.
        prefix: tokens in front of the patches: [CLS], registers.
        widths: d of each layer. `width`, the first one, is that of the embedded tokens, `final_width` that of the last.
        pooled: width of what is read out before the backbone's own projection.
        features: f, what is read out: the width behind that projection, or `pooled` where it has none.
        gradient_checkpointing: compute layers again in the backward pass instead of keeping what they computed.
        model_args: changes to the named architecture, as in BackboneConfig.
        frozen: how frozen parts are computed (nn/frozen.py), by layer; made when a part is first used, which is to be
            before torch.compile.
    """

    attends_wholly: ClassVar[bool] = True
    """Whether each block's attention is one table over all tokens of a picture; Swin's are windows."""

    vit: Any  # timm's model; to a type checker its parts are "Tensor or Module", which fits nothing
    _shift: Tensor
    _scale: Tensor

    def __init__(self, vit: nn.Module, *, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.vit = vit.eval().requires_grad_(False)
        self.name = name
        self._wait_for_hash = start_hash(vit)
        self.size: int = self.vit.patch_embed.img_size[0]
        self.patch: int = self.vit.patch_embed.patch_size[0]
        self.prefix: int = getattr(vit, "num_prefix_tokens", 0)
        self.widths = self._widths()
        if not self.widths:
            raise DualPathError(f"backbone {name} has no layers; its depth must be at least 1")
        channels = self.vit.patch_embed.proj.in_channels
        if channels != 3:
            raise DualPathError(
                f"backbone {name} takes pictures of {number_of(channels, 'channel')}, but frames have 3; leave in_chans at 3"
            )
        self.pooled: int = self.vit.head_hidden_size
        self.features: int = self.vit.head.out_features if isinstance(vit.head, nn.Linear) else self.pooled
        self.gradient_checkpointing = False
        self.model_args: dict[str, Any] = {}
        self.frozen: dict[int, Any] = {}
        self.vit.register_load_state_dict_pre_hook(self._loading)
        self.vit.register_load_state_dict_post_hook(self._loaded)
        self._autocast: torch.dtype | None = None
        self.normalise_with(mean, std)

    # --- what it is

    @property
    def hash(self) -> str:
        """sha256 over the names and fp32 values of all weights as they came, before any conversion to bf16.

        Empty on torch's meta device, where weights have no values. It is found in a thread: whoever changes values in place
        asks for it first, as `unfreeze` and load_state_dict do.
        """
        return self._wait_for_hash()

    @property
    def width(self) -> int:
        """d of the tokens that enter the first layer."""
        return self.widths[0]

    @property
    def final_width(self) -> int:
        """d of the tokens behind the last layer."""
        return self.widths[-1]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.widths)

    @property
    def patch_grid(self) -> Size:
        """Rows and columns of patch tokens of its own pictures."""
        return self.grid_of((self.size, self.size))

    def grid_of(self, size: Size) -> Size:
        """Rows and columns of patch tokens of pictures of this size, in pixels."""
        return size[0] // self.patch, size[1] // self.patch

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.vit.patch_embed.proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the frozen weights are stored in and computed with."""
        return self.vit.patch_embed.proj.weight.dtype

    @abstractmethod
    def _widths(self) -> tuple[int, ...]: ...

    def _blocks(self) -> nn.Module:
        """All that lies between the patches and what is read out."""
        return self.vit.blocks

    # --- what can be set

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: the backbone is frozen, its dropout included."""
        del mode
        return super().train(False)

    def normalise_with(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes over the mean and standard deviation (of values 0..1) that a checkpoint was trained with."""
        self.mean, self.std = tuple(mean), tuple(std)
        device = self.vit.patch_embed.proj.weight.device
        self.register_buffer("_shift", torch.tensor(mean, device=device).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("_scale", 1 / (torch.tensor(std, device=device).view(-1, 1, 1) * 255), persistent=False)

    def normalised_with(self, mean: Sequence[float], std: Sequence[float]) -> Backbone:
        """One of the same weights, in the same memory, that takes pictures with another mean and standard deviation."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self) | {"_buffers": dict(self._buffers), "_modules": dict(self._modules)})
        twin.normalise_with(mean, std)
        return twin

    def forget_frozen(self) -> None:
        """To be called when weights were changed, moved, unfrozen or given company: copies of them may be in use."""
        self.frozen.clear()

    def _loading(self, *_: Any) -> None:
        self._wait_for_hash()

    def _loaded(self, module: nn.Module, keys: Any) -> None:
        del module, keys
        self.forget_frozen()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        """As torch does it; but angles of rotation, mean and deviation stay in fp32, see `store_in`."""
        self.forget_frozen()
        rope, self.vit.rope = getattr(self.vit, "rope", None), None
        super()._apply(fn, recurse)
        if rope is not None:
            rope._apply(lambda value: new if (new := fn(value)).dtype == value.dtype else value.to(new.device))
        self.vit.rope = rope
        self.normalise_with(self.mean, self.std)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Neither packed weights nor a thread can be copied or sent.
        return self.__dict__ | {"frozen": {}, "_wait_for_hash": partial(str, self.hash)}

    def store_in(self, dtype: torch.dtype) -> None:
        """Stores the weights in another type. Rotary positions stay in fp32: in bf16 their angles would be wrong."""
        self.forget_frozen()
        rope, self.vit.rope = getattr(self.vit, "rope", None), None
        self.vit.to(dtype)
        self.vit.rope = rope

    @property
    def token_bytes(self) -> int:
        """Of the tokens of one picture that enter the first layer; in no family do later ones have more."""
        down, across = self.grid_of((self.size, self.size))
        return self.dtype.itemsize * self.widths[0] * (self.prefix + down * across)

    @property
    def rounds(self) -> bool:
        """Whether it computes so coarsely that pixels may as well be whole values."""
        return self.dtype not in (torch.float32, torch.float64) or self.in_int8

    @property
    def in_int8(self) -> bool:
        """Whether the linear layers of its blocks are stored in int8."""
        return any(isinstance(module, Int8Linear) for module in self.vit.modules())

    def store_in_int8(self) -> None:
        """Stores the linear layers of all blocks in int8 (nn/int8.py); all else stays as it is.

        Raises:
            DualPathError: it is not on a CPU.
        """
        device = self.vit.patch_embed.proj.weight.device
        if device.type != "cpu":
            raise DualPathError(f"int8 is for processors, but {self.name} is on {device.type}; use precision bf16 there")
        self.forget_frozen()
        make_whole(self._blocks())

    def fuse_attention(self, fused: bool) -> None:
        """Whether torch's fused attention kernel is used.

        On a CPU its backward pass in bf16 takes 2 to 5 times as long as plain matrix products (EXPERIMENTS.md), so
        training there goes without.
        """
        for module in self.vit.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = fused

    def unfreeze(self, chosen: Callable[[str], bool]) -> None:
        """Trains the weights whose names are chosen: for the methods that tune the backbone itself.

        All weights are then stored in fp32, which is what AdamW needs, and `computing` casts where they were not.
        """
        self.forget_frozen()
        self._wait_for_hash()
        if self.dtype != torch.float32:
            self._autocast = self.dtype
            self.store_in(torch.float32)
        for name, value in self.vit.named_parameters():
            value.requires_grad_(chosen(name))

    def computing(self) -> AbstractContextManager[Any]:
        """Autocast to the type in which the weights were stored before they were unfrozen; else nothing."""
        if self._autocast is None:
            return nullcontext()
        device = self.vit.patch_embed.proj.weight.device
        return Autocast(self._autocast) if device.type == "meta" else torch.autocast(device.type, dtype=self._autocast)

    # --- what it does

    def normalise(self, pictures: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels 0..255 to the backbone's own mean and standard deviation, in its dtype."""
        shift, scale = self._shift.to(pictures.device), self._scale.to(pictures.device)
        return ((pictures.float() - shift) * scale).to(self.dtype)

    @abstractmethod
    def embed(
        self,
        pictures: Float[Tensor, "n c h w"],
        *,
        positions: Float[Tensor, "g p d"] | None = None,
        first: Float[Tensor, "m d"] | None = None,
        times: Float[Tensor, "t d"] | None = None,
    ) -> Float[Tensor, "n l d"]:
        """Normalised pictures to the tokens that enter the first layer.

        Args:
            pictures: of the backbone's own size, or of any whole number of patches if `positions` are given.
            positions: added to the patch tokens instead of the backbone's own table; n is a multiple of g, and picture
                i gets the positions of i modulo g. The tokens before the patches enter as they always do: the frozen
                blocks would not know them with anything added.
            first: the tokens before the patches, positions included, instead of the backbone's own.
            times: added to all tokens of a picture, where positions are (before CLIP's first norm); n is a multiple of t,
                and picture i gets the row of i modulo t.
        """

    @abstractmethod
    def layers(self, size: Size | None = None, *, extra: int = 0) -> Iterator[Layer]:
        """The layers, first to last, for pictures of a size (height, width), by default the backbone's own.

        Args:
            size: in pixels.
            extra: tokens that a method puts between the prefix and the patches.
        """

    def walk(
        self,
        tokens: Float[Tensor, "n l d"],
        step: Step,
        parts: Iterable[Any] | None = None,
        *,
        size: Size | None = None,
        extra: int = 0,
    ) -> Float[Tensor, "n m c"]:
        """Sends tokens through all layers, each with the method's part for it.

        Args:
            tokens: from `embed`.
            step: what a layer does, by default what it does in the backbone.
            parts: one for each layer, given to the step; None for each by default.
            size: of the pictures, as in `layers`.
            extra: tokens between the prefix and the patches, as in `layers`.
        """
        again = self.gradient_checkpointing and torch.is_grad_enabled()
        learning = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        for layer, part in zip(self.layers(size, extra=extra), parts or [None] * self.depth, strict=True):
            tokens = layer.enter(tokens)
            if again:
                tokens = checkpoint(step, layer, part, tokens, use_reentrant=False, context_fn=self._computing_again)
            elif learning:
                with (recompute := Recompute()):
                    tokens = step(replace(layer, recompute=recompute), part, tokens)
            else:
                tokens = step(layer, part, tokens)
        return tokens

    @property
    def last_norm(self) -> nn.Module:
        """The norm behind the last layer; one without weights where a pooling comes before the norm."""
        return self.vit.norm

    def _computing_again(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """Around a layer's first computation and around its second, which happens outside of the method's forward."""
        return nullcontext(), self.computing()

    @abstractmethod
    def finish(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The norm behind the last layer."""

    @abstractmethod
    def read(
        self, tokens: Float[Tensor, "n m d"], *, project: bool = True, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "n f"]:
        """Tokens behind the last layer to the features of each picture, as the family reads them, in fp32.

        Args:
            tokens: not normed yet.
            project: through the backbone's own projection, where it has one.
            norm: instead of `finish`, for the methods that train the last norm.
        """

    @abstractmethod
    def read_weights(self, tokens: int) -> Float[Tensor, " l"] | None:
        """How much of each token behind the last layer `read` takes, 1 in all; None where it attends to them itself.

        Raises:
            DualPathError: it takes what is largest, which is no share of each.
        """

    def forward(self, pictures: UInt8[Tensor, "n c h w"], *, project: bool = True) -> Float[Tensor, "n f"]:
        """The frozen backbone as it is: pictures to features."""
        return self.read(self.walk(self.embed(self.normalise(pictures)), plain_step), project=project)


def plain_step(layer: Layer, part: None, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
    """What a layer does in the frozen backbone itself."""
    del part
    tokens = layer.keep_read(tokens) + layer.attend_read(layer.norm1(tokens))
    return tokens + layer.transform(layer.norm2(tokens))
