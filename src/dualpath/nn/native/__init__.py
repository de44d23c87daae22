"""The layers of int8.c: there if they were compiled when dualpath was installed (hatch_build.py) and the chip suits them.

The library has all of them twice, for AVX512 and for AVX2.

A layer is four tensors, outputs o and inputs i filled up with zeros to multiples of 64:

    whole numbers   (o / 64, i / 4, 64, 4) int8
    scales, bias    (o,) fp32
    starts          (groups of inputs, o, 2) int16: a and b of a + 128 b, minus the sum of the group's whole numbers
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn import functional as F

from dualpath.nn.opaque import opaque

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
LIBRARY = Path(__file__).with_name("_int8.so")
PANEL = 64
"""Outputs of a panel; and the only width of a head that `attention` knows."""
GROUP = 768
"""Inputs that share a range."""
NEEDED = {16: ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "avx512_vnni"), 8: ("avx2", "fma3", "avx_vnni")}
"""What a chip must know to compute with so many numbers at once, by torch's names."""
ACTIVATIONS = ("identity", "silu", "none", "tanh")
"""As int8.c counts them; "none" and "tanh" are kinds of GELU, as torch calls them."""


class _Weight(ctypes.Structure):
    _fields_ = (
        ("packed", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("outputs", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
    )


# --- whether it is there


def suits() -> bool:
    """Whether int8.c is there and the best way here."""
    return not why_not()


def wanted() -> bool:
    """Whether the chip is one that int8.c is for: it has its instructions, and no AMX, which oneDNN's products know."""
    return lanes() > 0 and not torch.cpu._is_amx_tile_supported()


@cache
def lanes() -> int:
    """How many numbers at once int8.c computes with here (lanes.h): 16, 8, or 0 where the chip has no VNNI."""
    return next(iter(kinds()), 0)


def kinds() -> list[int]:
    """All of `lanes` that the chip can do, the fastest first; 16 where torch too uses AVX512 (see ATEN_CPU_CAPABILITY)."""
    has, limit = torch.cpu.get_capabilities(), 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 8
    return [count for count, needed in NEEDED.items() if count <= limit and all(has.get(name) for name in needed)]


@cache
def why_not() -> str:
    """Why int8.c is not used; empty if it is."""
    if not wanted():
        return "the processor has AMX" if torch.cpu._is_amx_tile_supported() else "the processor has no VNNI"
    if not LIBRARY.is_file():
        return "they were not compiled: install a C compiler, then dualpath again"
    try:
        source = _function("source")
    except OSError as problem:
        return f"they cannot be loaded: {problem}"
    except AttributeError:
        return "the C compiler did not know this kind of processor: install a newer one, then dualpath again"
    source.restype = ctypes.c_char_p
    if source().decode() != hashlib.sha256(b"".join(file.read_bytes() for file in SOURCES)).hexdigest():
        return "they were compiled from another version: install dualpath again"
    return ""


def _function(name: str) -> Any:
    return getattr(_library(), f"{name}_{lanes()}")


@cache
def _library() -> ctypes.CDLL:
    # Its loops run in the threads of the OpenMP that torch has loaded: two sets of threads would wait for each other's cores.
    maps = Path("/proc/self/maps").read_text().splitlines()
    loaded = {line.split()[-1] for line in maps if any(name in line for name in ("libgomp", "libiomp5", "libomp"))}
    for name in sorted(loaded):
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(LIBRARY))


# --- how weights lie


def pack(whole: Int8[Tensor, "o i"], scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> list[Tensor]:
    """A layer as the products read it, from one end to the other."""
    filled = F.pad(whole, (0, -whole.shape[1] % PANEL, 0, -whole.shape[0] % PANEL))
    panels = filled.view(len(filled) // PANEL, PANEL, filled.shape[1] // 4, 4)
    sums = torch.stack([part.sum(dim=1, dtype=torch.int32) for part in filled.split(GROUP, dim=1)]).neg_()
    above = (sums + 64) // 128
    starts = torch.stack([sums - 128 * above, above], dim=-1).to(torch.int16)
    return repack([panels.transpose(1, 2).contiguous(), scales, bias, starts], scales, bias)


def repack(packed: list[Tensor], scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> list[Tensor]:
    """The same whole numbers, in the same memory, with other scales and another bias."""
    fill = (0, -len(scales) % PANEL)
    return [packed[0], F.pad(scales, fill), F.pad(bias, fill), packed[3]]


def unpack(packed: list[Tensor], outputs: int, inputs: int) -> Int8[Tensor, "o i"]:
    """The whole numbers; a copy."""
    panels = packed[0]
    whole = panels.transpose(1, 2).reshape(len(panels) * PANEL, -1)
    return whole[:outputs, :inputs].contiguous()


# --- what it does


@opaque(
    "(Tensor x, Tensor[] weight, int outputs) -> Tensor",
    like=lambda x, weight, outputs: _like(x, outputs),
)
def native_linear(x: Float[Tensor, "*n i"], weight: list[Tensor], outputs: int) -> Float[Tensor, "*n o"]:
    """x W' + b."""
    x, out = x.contiguous(), _like(x, outputs)
    _call("linear", x, _rows(x), _weight(weight, outputs, x.shape[-1]), out)
    return out


@opaque(
    "(Tensor x, Tensor[] enter, Tensor[] leave, int inner, int outputs, str activation) -> Tensor",
    like=lambda x, enter, leave, inner, outputs, activation: _like(x, outputs),
)
def native_mlp(
    x: Float[Tensor, "*n i"], enter: list[Tensor], leave: list[Tensor], inner: int, outputs: int, activation: str
) -> Float[Tensor, "*n o"]:
    """Two layers with an activation between them, of which nothing is written to memory."""
    x, out = x.contiguous(), _like(x, outputs)
    first, second = _weight(enter, inner, x.shape[-1]), _weight(leave, outputs, inner)
    _call("mlp", x, _rows(x), first, second, ACTIVATIONS.index(activation), out)
    return out


@opaque(
    "(Tensor x, Tensor[] weight, int heads, float scale) -> Tensor",
    like=lambda x, weight, heads, scale: _like(x, heads * PANEL),
)
def native_attention(x: Float[Tensor, "n l d"], weight: list[Tensor], heads: int, scale: float) -> Float[Tensor, "n l e"]:
    """What tokens find in each other, before the last product; queries, keys, values and weights in int8 too."""
    x, width = x.contiguous(), heads * PANEL
    whole, scales = x.new_empty(*x.shape[:2], 3 * width, dtype=torch.int8), x.new_empty(3 * heads, *x.shape[:2])
    found = _like(x, width)
    qkv = _weight(weight, 3 * width, x.shape[-1])
    _call("attention", x, x.shape[0], x.shape[1], heads, scale, qkv, whole, scales, found)
    return found


OPERATIONS: Any = torch.ops.dualpath
"""The above, as whoever counts operations meets them."""


def whole_products(x: Tensor, packed: Tensor, outputs: int, out: Tensor) -> None:
    """Products of whole numbers alone, as the ceiling of what the above can reach.

    Args:
        x: (b, m, k) uint8, k a multiple of 64.
        packed: b weights, one after the other.
        outputs: n of each, a multiple of 64.
        out: (b, m, n) int32.
    """
    times, rows, inputs = x.shape
    _call("products", x, rows, packed, inputs, outputs, times, out)


def _like(x: Tensor, width: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], width)


def _rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1]


def _weight(parts: list[Tensor], outputs: int, inputs: int) -> _Weight:
    return _Weight(*(part.data_ptr() for part in parts), outputs, inputs)


def _call(name: str, *given: Any) -> None:
    _function(name)(*map(_c, given), _c(torch.get_num_threads()))


def _c(value: Any) -> Any:
    """As C takes it."""
    match value:
        case Tensor():
            return ctypes.c_void_p(value.data_ptr())
        case _Weight():
            return ctypes.byref(value)
        case float():
            return ctypes.c_float(value)
    return ctypes.c_int64(value)
