"""The layers of nn/native/int8.c against the same written number by number, and where they are not to be used."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dualpath.nn import int8, native
from dualpath.nn.int8 import Int8Linear
from dualpath.nn.watch import watched
from dualpath.speed.products import gmacs, watch
from families import family_backbone
from oracles.int8 import GROUP, native_attention, native_linear, native_mlp
from tiny import random_clips


@pytest.fixture(params=native.NEEDED)
def lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both kinds of chips, where this one can do what both do."""
    if not native.suits() or request.param not in native.kinds():
        pytest.skip(f"no own layers with {request.param} lanes")
    monkeypatch.setattr(native, "lanes", lambda: request.param)
    return request.param


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(outputs: int, inputs: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    return drawn(outputs, inputs, seed=seed) / inputs**0.5, drawn(outputs, seed=seed + 1)


def off(found: Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.skipif(sys.platform != "linux" or not native.wanted() or shutil.which("cc") is None, reason="not for this machine")
def test_it_was_compiled() -> None:
    assert native.why_not() == ""


def test_sizes_are_those_of_c() -> None:
    header = (Path(native.__file__).parent / "values.h").read_text()
    sizes = {name: int(size) for name, size in re.findall(r"#define (\w+) (\d+)\b", header)}
    assert (sizes["PANEL"], sizes["GROUP"]) == (native.PANEL, native.GROUP) == (64, GROUP)
    kinds = re.search(r"enum Activation \{ (.*) \}", header)
    assert kinds is not None
    assert kinds[1].lower().split(", ") == ["none", "silu", "gelu", "gelu_tanh"]
    assert native.ACTIVATIONS == ("identity", "silu", "none", "tanh")


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (5, 40, 7), (7, 64, 96), (3, 770, 65), (2, 1000, 3)])
def test_linear_as_number_by_number(rows: int, inputs: int, outputs: int) -> None:
    x = drawn(rows, inputs) * 3 + 1
    if rows > 3:
        x[1] *= 1e4
        x[2] = 0
        x[3] = x[3].abs()
        x[4] = -x[4].abs() * 1e-6
    weight, bias = parameters(outputs, inputs)
    layer = Int8Linear(weight, bias)
    assert layer.is_native
    expected = native_linear(x.numpy(), weight.numpy(), bias.numpy())
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("kind", ["silu", "none", "tanh"])
def test_mlp_as_number_by_number(kind: str) -> None:
    x, enter, leave = drawn(9, 50), parameters(780, 50), parameters(20, 780, seed=3)
    layers = Int8Linear(*enter), Int8Linear(*leave)
    found = int8.mlp(x, *layers, kind)
    assert found is not None
    expected = native_mlp(x.numpy(), *[tuple(part.numpy() for part in pair) for pair in (enter, leave)], kind)
    assert off(found, expected) < 5e-4  # a value on the edge of two whole numbers may go to the other one
    inner = x @ enter[0].T + enter[1]
    act = torch.nn.functional.silu(inner) if kind == "silu" else torch.nn.functional.gelu(inner, approximate=kind)
    exact = act @ leave[0].T + leave[1]
    assert 0.002 < off(found, exact.numpy()) < 0.02


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("reach", [1.0, 30.0, 3e4])
@pytest.mark.parametrize("kind", ["silu", "none", "tanh"])
def test_activations_are_torchs(kind: str, reach: float) -> None:
    """Through layers of ones: each input alone, so that whole numbers lose nothing but the last product's eight bits."""
    values = torch.linspace(-reach, reach, 401)[:, None]
    found = int8.mlp(values, Int8Linear(torch.ones(1, 1), None), Int8Linear(torch.ones(1, 1), None), kind)
    assert found is not None
    functional = torch.nn.functional
    expected = functional.silu(values) if kind == "silu" else functional.gelu(values, approximate=kind)
    torch.testing.assert_close(found, expected, rtol=3e-6, atol=1e-6)


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("tokens", [1, 5, 17, 50, 65, 80])
def test_attention_as_number_by_number(tokens: int) -> None:
    x, (weight, bias) = drawn(2, tokens, 30), parameters(3 * 2 * 64, 30)
    weight = weight * 3
    found = int8.attention(x, Int8Linear(weight, bias), 2, 0.125)
    assert found is not None
    expected = np.stack([native_attention(one.numpy(), weight.numpy(), bias.numpy(), 2, 0.125) for one in x])
    assert off(found, expected) < 1e-3
    q, k, v = (x @ weight.T + bias).unflatten(-1, (3, 2, 64)).permute(2, 0, 3, 1, 4)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.125).transpose(1, 2).flatten(2)
    assert 0.002 < off(found, exact.numpy()) < 0.04


@pytest.mark.usefixtures("lanes")
def test_nothing_depends_on_threads_or_company(threads: int) -> None:
    x, wide = drawn(4, 50, 64), Int8Linear(*parameters(3 * 64, 64))
    enter, leave = Int8Linear(*parameters(100, 64)), Int8Linear(*parameters(64, 100))
    for layer in (wide, lambda x: int8.mlp(x, enter, leave, "none"), lambda x: int8.attention(x, wide, 1, 0.125)):
        found = layer(x)
        assert torch.equal(layer(x[1:2]), found[1:2])
        assert torch.equal(layer(x.transpose(0, 1).contiguous().transpose(0, 1)), found)
        torch.set_num_threads(1)
        assert torch.equal(layer(x), found)
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_shows_and_stays_where_it_is(odd: float) -> None:
    x, wide = drawn(2, 20, 64), Int8Linear(*parameters(3 * 64, 64))
    whole = wide(x), int8.mlp(x, wide, Int8Linear(*parameters(64, 3 * 64)), "silu"), int8.attention(x, wide, 1, 0.125)
    x[1, 3, 5] = odd
    found = wide(x), int8.mlp(x, wide, Int8Linear(*parameters(64, 3 * 64)), "silu"), int8.attention(x, wide, 1, 0.125)
    for before, after in zip(whole, found, strict=True):
        assert before is not None
        assert after is not None
        assert torch.equal(before[0], after[0])
        assert after[1, 3].isnan().all()
    assert found[2] is not None
    assert found[2][1].isnan().all()  # every token attends to that one


@given(st.integers(1, 130), st.integers(1, 800), st.integers(0, 9))
def test_packing_loses_nothing(outputs: int, inputs: int, seed: int) -> None:
    whole = torch.randint(-127, 128, (outputs, inputs), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    packed = native.pack(whole, torch.ones(outputs), torch.zeros(outputs))
    assert torch.equal(native.unpack(packed, outputs, inputs), whole)
    starts = packed[3].int()
    sums = torch.stack([part.int().sum(dim=1) for part in whole.split(native.GROUP, dim=1)])
    assert torch.equal((starts[..., 0] + 128 * starts[..., 1])[:, :outputs], -sums)
    again = native.repack(packed, torch.full((outputs,), 2.0), torch.ones(outputs))
    assert again[0].data_ptr() == packed[0].data_ptr()
    assert torch.equal(again[1][:outputs], torch.full((outputs,), 2.0))


@pytest.mark.usefixtures("lanes")
def test_where_a_gradient_is_wanted_layers_are_called_one_by_one() -> None:
    x, wide, back = drawn(1, 20, 64), Int8Linear(*parameters(3 * 64, 64)), Int8Linear(*parameters(64, 3 * 64))
    for layer in (lambda x: int8.mlp(x, wide, back, "silu"), lambda x: int8.attention(x, wide, 1, 1.0)):
        assert layer(x) is not None
        x.requires_grad_()
        assert layer(x) is None
        with torch.no_grad():
            assert layer(x) is not None
        x.requires_grad_(False)


@pytest.mark.usefixtures("lanes")
def test_whoever_looks_on_sees_the_attention() -> None:
    backbone = family_backbone("CLIP", embed_dim=128, num_heads=2)
    backbone.store_in_int8()
    pictures = random_clips(3, size=backbone.size)
    with torch.no_grad(), watched(backbone) as seen:
        backbone(pictures)
    assert len(seen) == backbone.depth
    torch.testing.assert_close(seen[0].sum(dim=-1), torch.ones(seen[0].shape[:-1]))


@pytest.mark.usefixtures("lanes")
def test_its_products_are_counted() -> None:
    backbone = family_backbone("CLIP", embed_dim=128, num_heads=2)
    pictures = random_clips(3, size=backbone.size)

    def count() -> float:
        with torch.inference_mode():
            return gmacs(watch(lambda: backbone(pictures)))

    plain = count()
    backbone.store_in_int8()
    assert count() == plain > 0


@pytest.mark.usefixtures("lanes")
def test_products_alone() -> None:
    """What the ceiling is measured with multiplies, too."""
    whole = torch.randint(-127, 128, (2, 128, 64), dtype=torch.int8)
    x = torch.randint(0, 256, (2, 70, 64), dtype=torch.uint8)
    packed = torch.stack([native.pack(one, torch.ones(128), torch.zeros(128))[0].flatten() for one in whole])
    out = torch.empty(2, 70, 128, dtype=torch.int32)
    native.whole_products(x, packed, 128, out)
    assert torch.equal(out, (x.int() @ whole.int().transpose(1, 2)).int())


def test_torchs_own_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = dict.fromkeys((name for needed in native.NEEDED.values() for name in needed), True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert native.kinds() == [8]


@pytest.mark.parametrize(
    ("has", "lanes"), [(needed, lanes) for lanes, needed in native.NEEDED.items()] + [(("avx2", "fma3"), 0)]
)
def test_chips(monkeypatch: pytest.MonkeyPatch, has: tuple[str, ...], lanes: int) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(has, True) | {"architecture": "x86_64"})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert native.lanes.__wrapped__() == lanes
    monkeypatch.setattr(native, "lanes", lambda: lanes)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert native.wanted() == (lanes > 0)
    if not lanes:
        assert native.why_not.__wrapped__() == "the processor has no VNNI"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert native.why_not.__wrapped__() == "the processor has AMX"


def test_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "wanted", lambda: True)
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    assert native.why_not.__wrapped__() == "they were not compiled: install a C compiler, then dualpath again"
    if native.suits():
        monkeypatch.undo()
        monkeypatch.setattr(native, "SOURCES", native.SOURCES[:1])
        assert native.why_not.__wrapped__() == "they were compiled from another version: install dualpath again"
        monkeypatch.setattr(native, "lanes", lambda: 4)
        assert native.why_not.__wrapped__().startswith("the C compiler did not know this kind of processor")
