"""Files of tensors: all that torch and safetensors write is read, nothing is run, what is damaged is told."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from archives import old_torchscript, write_archive
from dualpath.errors import DualPathError
from dualpath.nn.weights import read_state

STATE = {
    "a.weight": torch.arange(12.0).view(3, 4),
    "a.bias": torch.tensor([0.5, -2.0], dtype=torch.float16),
    "b.0.count": torch.tensor(7),
}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def as_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path)
    return path


def as_zip(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def as_before_zip(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


WRITERS = pytest.mark.parametrize("write", [as_safetensors, as_zip, as_before_zip, write_archive])


@WRITERS
@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w"])
def test_every_file_gives_its_tensors_under_its_own_names(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    same(read_state(write(STATE, tmp_path / name)), STATE)  # whatever it is called: its content says what it is


def test_an_archive_holds_views_shared_and_empty_tensors_of_every_type(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    state = {
        "part": whole[1:3, ::2],
        "turned": whole.T,
        "whole": whole,
        "empty": torch.zeros(0, 3),
        "yes": torch.tensor([True]),
    }
    for dtype in (torch.float64, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8):
        state[f"of {dtype}".replace(".", " ")] = torch.tensor([1, 2, 3], dtype=dtype)

    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in state.items():
                self.register_buffer(name, value)  # not cloned: three of them share one storage
            self.number, self.numbers, self.word, self.nothing = 3, [1, 2], "x", None

        def forward(self, x: Tensor) -> Tensor:
            return x

    with old_torchscript():
        torch.jit.trace(Holder(), torch.zeros(1)).save(tmp_path / "w.pt")
    same(read_state(tmp_path / "w.pt"), state)


def test_an_archive_is_never_loaded_by_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_archive(STATE, tmp_path / "w.pt")
    for module, name in ((torch, "load"), (torch.jit, "load"), (torch._C, "import_ir_module")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("loaded by torch"))
    same(read_state(path), STATE)


# What trainers wrap around


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "module", "model_ema", "state_dict_ema", "encoder"])
def test_a_trainers_checkpoint_is_unwrapped(wrapper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {
        wrapper: STATE,
        "epoch": 3,
        "loss": torch.tensor(0.1),
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {}},
    }
    torch.save(held, tmp_path / "w.pth")
    same(read_state(tmp_path / "w.pth"), STATE)
    torch.save({"model": {"state_dict": STATE}}, tmp_path / "w.pth")
    same(read_state(tmp_path / "w.pth"), STATE)
    assert capsys.readouterr().err == ""


def test_of_two_states_the_average_is_read_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth")["a"].item() == 1
    assert capsys.readouterr().err == f"{tmp_path / 'w.pth'} holds model_ema, model: model_ema is read\n"


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ([1, 2], "holds a list, not named tensors; save the model's state_dict"),
        (torch.ones(2), "holds a Tensor, not named tensors"),
        ({"epoch": 3, "best": 0.5}, "holds no named tensors, but epoch, best;"),
        ({}, "holds no named tensors, but nothing;"),
    ],
)
def test_what_is_no_state_is_refused(held: Any, found: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(DualPathError, match=f"w.pth {found}"):
        read_state(tmp_path / "w.pth")


# Folders


@pytest.mark.parametrize(
    "name", ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin", "mine.pth"]
)
def test_a_folder_is_read_by_the_file_in_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (as_safetensors if name.endswith("safetensors") else as_zip)(STATE, tmp_path / name)
    same(read_state(tmp_path), STATE)


def test_the_best_file_of_a_folder_is_read(tmp_path: Path) -> None:
    as_zip({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    as_safetensors({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert read_state(tmp_path)["a"].item() == 1


def test_a_folder_without_one_weight_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=rf"folder {tmp_path} holds no weight file; safetensors, .pth, .pt and .bin"):
        read_state(tmp_path)
    for name in "abcd":
        as_zip(STATE, tmp_path / f"{name}.pth")
    with pytest.raises(DualPathError, match=r"holds several weight files \(a.pth, b.pth, c.pth ...\): name one of them"):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["training_state.safetensors", "adapter_model.safetensors"])
def test_a_run_is_no_backbone(name: str, tmp_path: Path) -> None:
    save_file({"spatial.0.up.weight": torch.ones(2)}, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DualPathError, match=f"^{path} holds what a run of dualpath has trained .*--init_from"):
            read_state(path)


@pytest.mark.parametrize("direct", [True, False])
def test_a_model_in_several_files_is_read_whole(direct: bool, tmp_path: Path) -> None:
    as_safetensors({"a.weight": STATE["a.weight"]}, tmp_path / "model-00001-of-00002.safetensors")
    as_safetensors({name: STATE[name] for name in ("a.bias", "b.0.count")}, tmp_path / "model-00002-of-00002.safetensors")
    of = {name: f"model-0000{1 if name == 'a.weight' else 2}-of-00002.safetensors" for name in STATE}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": of}))
    same(read_state(index if direct else tmp_path), STATE)


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ("no json", "does not list the files of a model"),
        ("[]", "does not list the files of a model"),
        ('{"weight_map": {"a": 3}}', "does not list the files of a model"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "names '../secret.safetensors', which is no file beside it"),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', "which is no file beside it"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "no weight file .*gone.safetensors"),
    ],
)
def test_a_wrong_list_of_files_is_refused(index: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(DualPathError, match=found):
        read_state(tmp_path)


# Damage


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("w.pth", b"", "w.pth is empty; safetensors"),
        ("w.safetensors", b"", "w.safetensors is not a whole safetensors file"),
        ("w.bin", b"<!DOCTYPE html><p>Sign in", r"w.bin is no weight file \(it starts with b'<!DOCTYPE ht'\)"),
        ("w.pt", b"PK\x03\x04 and no more", "w.pt is not a whole file of torch.save"),
        ("w.pt", b"\x80\x02 and no more", "w.pt is not a whole file of torch.save"),
        (
            "w.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer, .*git lfs pull",
        ),
        ("w.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer, .*git lfs pull"),
    ],
)
def test_what_is_no_weight_file_is_told(name: str, content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DualPathError, match=found):
        read_state(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DualPathError, match=rf"no weight file {tmp_path}/none.pt; safetensors, .pth, .pt and .bin files are read"
    ):
        read_state(tmp_path / "none.pt")


@WRITERS
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_half_a_file_is_told(part: float, write: Callable[..., Path], tmp_path: Path) -> None:
    path = write({"a": torch.arange(4000.0)}, tmp_path / "w.bin")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DualPathError, match=r"w.bin is not a whole (safetensors file|file of torch.save)"):
        read_state(path)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    writers = (as_safetensors, as_zip, as_before_zip, write_archive)
    return [write(STATE, folder / str(number)).read_bytes() for number, write in enumerate(writers)]


def test_a_zip_of_a_version_that_there_is_none_of_is_damaged(whole_files: list[bytes], tmp_path: Path) -> None:
    content = bytearray(whole_files[1])
    content[content.index(b"PK\x01\x02") + 6] = 64
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DualPathError, match=r"is not a whole file of torch.save \(zip file version 6.4\); fetch it again"):
        read_state(path)


@settings(max_examples=150, deadline=None)
@given(which=st.integers(0, 3), places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_file_is_told_or_gives_tensors(
    which: int, places: list[tuple[float, int]], whole_files: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(whole_files[which])
    for place, value in places:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with suppress(DualPathError):  # and no other error
        found = read_state(path)
        assert found
        assert all(isinstance(value, Tensor) for value in found.values())


# Pickled code


class Evil:
    """Pickled, it is a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def into_archive(pickled: bytes, path: Path) -> Path:
    """A TorchScript archive whose modules are this pickle."""
    original = write_archive(STATE, path.with_suffix(".original"))
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("/data.pkl") else source.read(name))
    return path


@pytest.mark.parametrize("kind", ["zip", "before zip", "archive", "plain pickle"])
def test_pickled_code_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "w.pt"
    held = {"a": torch.ones(1), "b": Evil(trace)}
    if kind == "archive":
        into_archive(pickle.dumps({"a": 1, "b": Evil(trace)}, protocol=2), path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(Evil(trace), protocol=2))
    else:
        torch.save(held, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        DualPathError, match=r"w\.pt holds pickled code \((posix|nt)\.mkdir\), which is never run; save"
    ) as caught:
        read_state(path)
    assert not trace.exists()
    assert "\n" not in str(caught.value)
    pickle.loads(pickle.dumps(Evil(trace)))  # what it would have done
    assert trace.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(X\x04\x00\x00\x001+11tR.",
        b"cbuiltins\ngetattr\n.",
        b"ctorch\nload\n.",
        b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.",
        b"ccollections\nOrderedDict.fromkeys\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"c__torch__x\nT\n.",
        b"ctorch.jit._pickle\nrestore_type_tag\n.",
    ],
)
def test_only_what_is_listed_can_be_named_in_an_archive(code: bytes, tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=r"w.pt holds pickled code \([\w.]+\), which is never run"):
        read_state(into_archive(code, tmp_path / "w.pt"))


def test_an_archive_cannot_reach_outside_its_storages(tmp_path: Path) -> None:
    def archive(count: int, rest: bytes) -> Path:
        """One tensor over the first storage, said to hold `count` values; `rest` is offset, size and stride."""
        module = b"c__torch__\nT\n)\x81}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"
        return into_archive(module + storage % count + rest + b"\x89NtRsb.", tmp_path / "w.pt")

    assert torch.equal(read_state(archive(12, b"K\x00(K\x0ct(K\x01t"))["a"], torch.arange(12.0))
    for count, rest in (
        (12, b"K\x00(K\x0dt(K\x01t"),  # thirteen values of twelve
        (12, b"K\x0b(K\x02t(K\x01t"),  # the last one and one more
        (200, b"K\x00(K\x01t(K\x01t"),  # a storage larger than its file
        (12, b"K\x00(K\x02t(J\xff\xff\xff\xfft"),  # backwards
    ):
        with pytest.raises(DualPathError, match=r"w\.pt is not a whole TorchScript archive"):
            read_state(archive(count, rest))


def test_modules_within_themselves_end(tmp_path: Path) -> None:
    path = into_archive(b"c__torch__\nT\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb.", tmp_path / "w.pt")
    with pytest.raises(DualPathError, match=r"w\.pt holds no tensors;"):
        read_state(path)
