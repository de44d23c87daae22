"""Patches, attention and MLP of a plain vision transformer, computed as weights allow that never change.

    attend      x --qkv--> q k v --softmax(q k' / sqrt w) v--> --proj-->
    transform   x --fc1--> activation --fc2-->

Equal to the block's own modules (tests/nn/test_frozen.py holds them against timm's), at a fraction of the cost:

    packed      in bf16 on a CPU the weights lie in the layout in which oneDNN multiplies best; nothing is cast
    QuickGELU   x sigmoid(1.702 x) is SiLU(1.702 x) / 1.702: both factors go into the products beside it
    asked       where only [CLS] is read behind an attention, only its query is made
    backward    keeps q, k, v and what enters the activation; scores are computed again; no weight gets a gradient

    n pictures   l tokens   r of them asked, the first ones   d width   h heads   w width of a head
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.activations import QuickGELU
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dualpath.nn import int8
from dualpath.nn.int8 import Int8Linear
from dualpath.nn.opaque import Backed, opaque

QUICK = 1.702
"""QuickGELU's factor."""


class FrozenLinear:
    """x W' + b with a W that never changes; and a gradient's way back, which needs W alone.

    Args:
        weight: W, (outputs, inputs).
        bias: b; None for zero.
        factor: of x W', which a product takes along for nothing; `weight` stays the one in memory.

    Attributes:
        is_packed: whether W is kept in the layout in which the chip's own library multiplies best.
    """

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None, *, factor: float = 1.0) -> None:
        self._factor = factor
        self.bias = None if bias is None else bias.detach()
        self.is_packed = _is_packed(weight)
        self._weight: Tensor | None = weight.detach()  # until it is packed, when it is first used
        self._packed: Tensor | None = None
        self._turned: Tensor | None = None

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """W without the factor; a copy where it was packed."""
        if self._weight is not None:
            return self._weight
        assert self._packed is not None
        return self._packed.to_dense()

    def times(self, factor: float, *, bias: float = 1.0) -> FrozenLinear:
        """One with W times `factor` and b times `bias`, rounded once: torch multiplies a bf16 value by a number in fp32."""
        b = None if self.bias is None else self.bias * bias
        return FrozenLinear(self.weight * factor, b) if self.is_packed else FrozenLinear(self.weight, b, factor=factor)

    def part(self, first: int, last: int | None = None) -> FrozenLinear:
        """One that has some of the outputs."""
        bias = None if self.bias is None else self.bias[first:last]
        return FrozenLinear(self.weight[first:last], bias, factor=self._factor)

    def __call__(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """Forwards."""
        if not self.is_packed:
            return self._plain(x, self.weight.t(), self.bias)
        if self._packed is None:
            self._packed, self._weight = _pack(self.weight), None
        if torch.is_grad_enabled() and x.requires_grad:
            return Backed.apply(x, self)  # pyright: ignore[reportReturnType]
        return packed_linear(x, self._packed, self.bias)

    def back(self, grad: Float[Tensor, "*n o"]) -> Float[Tensor, "*n i"]:
        """The gradient of what came out to that of what went in."""
        if not self.is_packed:
            return self._plain(grad, self.weight, None)
        if self._turned is None:
            self._turned = _pack(self.weight.t())
        return packed_linear(grad, self._turned, None)

    def _plain(self, x: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        if self._factor == 1:
            return F.linear(x, turned.t(), bias)
        added, beta = (x.new_zeros(1), 0) if bias is None else (bias, 1)
        return torch.addmm(added, x.flatten(0, -2), turned, beta=beta, alpha=self._factor).unflatten(0, x.shape[:-1])


Linear = FrozenLinear | Int8Linear


def _frozen(layer: Any) -> Linear:
    return layer if isinstance(layer, Int8Linear) else FrozenLinear(layer.weight, layer.bias)


def _pack(weight: Float[Tensor, "o i"]) -> Tensor:
    """In oneDNN's own layout."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())


@opaque("(Tensor x, Tensor packed, Tensor? bias) -> Tensor")
def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x W' + b with what `_pack` made of W."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def _is_packed(weight: Tensor) -> bool:
    """Whether packing gains something: 10 to 20 % of a product in bf16, nothing in fp32."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass
class FrozenAttention:
    """timm's Attention.

    Attributes:
        qkv: d to 3 h w, queries first.
        query, key_value: its parts, made when only some tokens are asked.
        proj: h w to d.
        heads: h.
        scale: of the scores.
    """

    qkv: Linear
    proj: Linear
    heads: int
    scale: float
    query: Linear | None = None
    key_value: Linear | None = None

    @classmethod
    def of(cls, module: Any) -> FrozenAttention | None:
        """None if it is another kind, does more than what is computed here, or is trained."""
        if type(module) is not Attention or not _is_frozen(module, "qkv", "proj"):
            return None
        if module.gate is not None or any(
            type(part) is not nn.Identity for part in (module.q_norm, module.k_norm, module.norm)
        ):
            return None
        return cls(_frozen(module.qkv), _frozen(module.proj), module.num_heads, module.scale)

    def __call__(self, x: Float[Tensor, "n l d"], *, asked: int | None = None, fused: bool = True) -> Float[Tensor, "n r d"]:
        """What the first tokens, by default all, find in all.

        Args:
            x: normed tokens.
            asked: r.
            fused: by torch's kernel; else by plain products, in the backward pass too.
        """
        if fused:
            found = int8.attention(x, self.qkv, self.heads, self.scale) if asked is None else None
            if found is not None:
                return self.proj(found)
            q, k, v = self.split(x, asked)
            found = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
            return self.proj(found.transpose(1, 2).flatten(2))
        return _Attend.apply(x, self, asked)  # pyright: ignore[reportReturnType]

    def split(self, x: Float[Tensor, "n l d"], asked: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (n, h, r, w), keys and values (n, h, l, w): views of what the products gave."""
        if asked is None:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            return q, k, v
        query, key_value = self._parts()
        k, v = key_value(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query(x[:, :asked]).unflatten(-1, (self.heads, -1)).transpose(1, 2), k, v

    def join(self, q: Float[Tensor, "n h r w"] | None, rest: Float[Tensor, "m n h l w"]) -> Float[Tensor, "n l d"]:
        """The gradients of what `split` gave to that of its x: all three in one tensor, or those of the queries apart."""
        rest = rest.permute(1, 3, 0, 2, 4).flatten(2)
        if q is None:
            return self.qkv.back(rest)
        query, key_value = self._parts()
        x = key_value.back(rest)
        x[:, : q.shape[2]] += query.back(q.transpose(1, 2).flatten(2))
        return x

    def _parts(self) -> tuple[Linear, Linear]:
        if self.query is None or self.key_value is None:
            queries = self.qkv.weight.shape[0] // 3
            self.query, self.key_value = self.qkv.part(0, queries), self.qkv.part(queries)
        return self.query, self.key_value


class _Attend(torch.autograd.Function):
    """Attention by plain products, which on a CPU in bf16 are faster backwards than the fused kernel (EXPERIMENTS.md)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, attention: FrozenAttention, asked: int | None) -> Tensor:
        q, k, v = (part.contiguous() for part in attention.split(x, asked))
        ctx.attention = attention
        ctx.save_for_backward(q, k, v)
        found = _weights(q.flatten(0, 1), k.flatten(0, 1), attention.scale) @ v.flatten(0, 1)
        return attention.proj(found.unflatten(0, q.shape[:2]).transpose(1, 2).flatten(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        attention: FrozenAttention = ctx.attention
        q, k, v = (part.flatten(0, 1) for part in ctx.saved_tensors)
        found = attention.proj.back(grads[0]).unflatten(-1, (attention.heads, -1)).transpose(1, 2).flatten(0, 1)
        weights = _weights(q, k, attention.scale)
        scores = torch.ops.aten._softmax_backward_data(found @ v.transpose(1, 2), weights, -1, q.dtype)
        all_asked = q.shape == k.shape
        made = k.new_empty(3, *k.shape)
        of_q = made[0] if all_asked else torch.empty_like(q)
        torch.baddbmm(of_q, scores, k, beta=0, alpha=attention.scale, out=of_q)
        torch.baddbmm(made[1], scores.transpose(1, 2), q, beta=0, alpha=attention.scale, out=made[1])
        torch.bmm(weights.transpose(1, 2), found, out=made[2])
        made = made.unflatten(1, (-1, attention.heads))
        if all_asked:
            return attention.join(None, made), None, None
        return attention.join(of_q.unflatten(0, (-1, attention.heads)), made[1:]), None, None


def _weights(q: Float[Tensor, "m r w"], k: Float[Tensor, "m l w"], scale: float) -> Float[Tensor, "m r l"]:
    """softmax(q k' scale)."""
    scores = q.new_empty(*q.shape[:2], k.shape[1])
    torch.baddbmm(scores, q, k.transpose(1, 2), beta=0, alpha=scale, out=scores)
    return torch.softmax(scores, dim=-1, out=scores)


@dataclass
class FrozenMlp:
    """timm's Mlp.

    Attributes:
        enter: fc1.
        leave: fc2.
        activation: GELU's kind, "none" or "tanh"; "silu" for QuickGELU, whose factors are in both products.
    """

    enter: Linear
    leave: Linear
    activation: str

    @classmethod
    def of(cls, module: Any) -> FrozenMlp | None:
        """None if it is another kind, does more than what is computed here, or is trained."""
        if type(module) is not Mlp or not _is_frozen(module, "fc1", "fc2") or type(module.norm) is not nn.Identity:
            return None
        enter, leave, activation = _frozen(module.fc1), _frozen(module.fc2), module.act
        if type(activation) is nn.GELU:
            return cls(enter, leave, activation.approximate)
        if type(activation) is not QuickGELU:
            return None
        return cls(enter.times(QUICK, bias=QUICK), leave.times(1 / QUICK), "silu")

    def __call__(self, x: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """Normed tokens to what the MLP makes of them."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Transform.apply(x, self)  # pyright: ignore[reportReturnType]
        made = int8.mlp(x, self.enter, self.leave, self.activation)
        if made is not None:
            return made
        inner = self.enter(x)
        return self.leave(self.activate(inner, out=inner))

    def activate(self, inner: Tensor, out: Tensor) -> Tensor:
        """Of each value, into `out`, which may be the same tensor."""
        if self.activation == "silu":
            return torch.ops.aten.silu.out(inner, out=out)
        return torch.ops.aten.gelu.out(inner, approximate=self.activation, out=out)

    def activate_back(self, grad: Tensor, inner: Tensor) -> Tensor:
        """A gradient through the activation, in place."""
        if self.activation == "silu":
            return torch.ops.aten.silu_backward.grad_input(grad, inner, grad_input=grad)
        return torch.ops.aten.gelu_backward.grad_input(grad, inner, approximate=self.activation, grad_input=grad)


class _Transform(torch.autograd.Function):
    """The MLP, of which the backward pass needs what entered the activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mlp: FrozenMlp) -> Tensor:
        inner = mlp.enter(x)
        ctx.mlp = mlp
        ctx.save_for_backward(inner)
        return mlp.leave(mlp.activate(inner, out=torch.empty_like(inner)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        mlp: FrozenMlp = ctx.mlp
        (inner,) = ctx.saved_tensors
        return mlp.enter.back(mlp.activate_back(mlp.leave.back(grads[0]), inner)), None


class FrozenPatches:
    """timm's PatchEmbed as one product of all patches, a fifth of the time of its convolution in bf16 and int8 on a CPU.

    Args:
        module: with patches that do not overlap.
        whole: in int8: values of 8 bits lose at most half a step of theirs.
    """

    def __init__(self, module: Any, *, whole: bool) -> None:
        self.side: tuple[int, int] = module.proj.kernel_size
        self.linear = (Int8Linear if whole else FrozenLinear)(module.proj.weight.flatten(1), module.proj.bias)

    @classmethod
    def of(cls, module: Any, *, whole: bool) -> FrozenPatches | None:
        """None if it is another kind, is trained or would gain nothing."""
        if (
            type(module) is not PatchEmbed
            or not module.flatten
            or module.dynamic_img_pad
            or type(module.norm) is not nn.Identity
        ):
            return None
        proj = module.proj
        plain = type(proj) is nn.Conv2d and proj.stride == proj.kernel_size and proj.padding == (0, 0)
        gains = whole or _is_packed(proj.weight)
        return cls(module, whole=whole) if plain and gains and not proj.weight.requires_grad else None

    def __call__(self, pictures: Float[Tensor, "n c y x"]) -> Float[Tensor, "n p d"]:
        """Normalised pictures to patch tokens, row by row."""
        n, c, height, width = pictures.shape
        high, wide = self.side
        patches = pictures.reshape(n, c, height // high, high, width // wide, wide).permute(0, 2, 4, 1, 3, 5)
        return self.linear(patches.reshape(n, -1, c * high * wide))


def _is_frozen(module: nn.Module, *layers: str) -> bool:
    """Whether these are plain layers without anything to train; LoRA puts others in their place."""
    return all(type(getattr(module, name)) in (nn.Linear, Int8Linear) for name in layers) and not any(
        value.requires_grad for value in module.parameters()
    )
