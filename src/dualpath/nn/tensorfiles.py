"""Files of named tensors: safetensors, torch.save, TorchScript. Nothing in them is ever run.

A pickle can name any function and call it. `torch.load(weights_only=True)` reads only tensors and containers, but no
TorchScript archive, as which OpenAI published CLIP; and `torch.jit.load` runs what it loads. So such an archive is read
here as what it is: a zip file with the tensors' bytes (data/0, data/1 ...) and a pickle (data.pkl) of modules that hold
them, which may name torch's storage types, its function that lays a tensor over a storage, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import mmap
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dualpath.errors import DualPathError
from dualpath.terminal import in_line

# What the owners of formats call the file in a folder, the best first.
_IN_FOLDER = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_OF_RUNS = ("training_state.safetensors", "adapter_model.safetensors")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_KNOWN = "safetensors, .pth, .pt and .bin files are read, and folders with one of them"

# Under which names trainers store the tensors, the best first: an average over the training before its last step.
_WRAPPERS = ("state_dict_ema", "model_ema", "model", "module", "state_dict", "encoder")

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_state(path: Path) -> dict[str, Tensor]:
    """Every tensor of a weight file, or of the one in a folder, under the file's own name and in its own type.

    A trainer's checkpoint is unwrapped ("model", "state_dict" ...) and what is no tensor left aside.

    Raises:
        DualPathError: no such file, several or none in the folder, damaged, of no known format, holds pickled code.
    """
    given = path
    if path.is_dir():
        path = _in_folder(path)
    if path.name in _OF_RUNS:
        raise DualPathError(
            f"{given} holds what a run of dualpath has trained and not the weights of its backbone; to begin a training with "
            "that, give it with --init_from, not with --weights"
        )
    state = _read(path)
    if not state:
        raise DualPathError(f"{path} holds no tensors; {_KNOWN}")
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """By what it is, whatever it is called."""
    if not path.is_file():
        raise DualPathError(f"no weight file {path}; {_KNOWN}")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"version https://git-lfs"):
        raise DualPathError(f"{path} is a Git LFS pointer, not the weights themselves; fetch them with: git lfs pull")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path)
    if not start:
        raise DualPathError(f"{path} is empty; {_KNOWN}")
    if start.startswith(b"PK") and _is_torchscript(path):
        return _read_torchscript(path)
    if start.startswith((b"PK", b"\x80")):
        return _read_pickle(path, zipped=start.startswith(b"PK"))
    raise DualPathError(f"{path} is no weight file (it starts with {start[:12]!r}); {_KNOWN}")


def _in_folder(folder: Path) -> Path:
    for name in _IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(found) == 1:
        return found[0]
    held = ", ".join(path.name for path in found[:3]) + (" ..." if len(found) > 3 else "")
    raise DualPathError(
        f"folder {folder} holds {f'several weight files ({held}): name one of them' if found else f'no weight file; {_KNOWN}'}"
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    """A model in several files, as transformers saves large ones: the index says which tensor lies in which."""
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        strange = [shard for shard in shards if Path(shard).name != shard or shard.endswith(".index.json")]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DualPathError(f"{index} does not list the files of a model; fetch it again") from problem
    if strange:
        raise DualPathError(f"{index} names {strange[0]!r}, which is no file beside it; fetch the model again")
    return {name: value for shard in shards for name, value in read_state(index.parent / shard).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as problem:  # the reader's own errors, OSError, KeyError for an unknown type: one answer to all
        raise DualPathError(f"{path} is not a whole safetensors file ({first_line(problem)}); fetch it again") from problem


def _read_pickle(path: Path, *, zipped: bool) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # many trainers store their arguments beside
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as problem:
        named = re.search(r"GLOBAL ([\w.]+)", str(problem))
        if named is None:
            raise DualPathError(f"{path} is not a whole file of torch.save; fetch it again") from problem
        raise _code(path, named.group(1)) from problem
    except Exception as problem:  # RuntimeError, EOFError, KeyError, struct.error ...: one answer to all
        raise DualPathError(f"{path} is not a whole file of torch.save ({first_line(problem)}); fetch it again") from problem
    return _unwrap(held, path)


def _unwrap(held: Any, path: Path) -> dict[str, Tensor]:
    """The named tensors in what a trainer saved."""
    if not isinstance(held, dict):
        raise DualPathError(f"{path} holds a {type(held).__name__}, not named tensors; save the model's state_dict()")
    inner = [name for name in _WRAPPERS if isinstance(held.get(name), dict) and held[name]]
    if inner:
        if len(inner) > 1:
            print(in_line(f"{path} holds {', '.join(inner)}: {inner[0]} is read"), file=sys.stderr)
        return _unwrap(held[inner[0]], path)
    state = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, list(held)[:3])) or "nothing"
        raise DualPathError(f"{path} holds no named tensors, but {keys}; save the model's state_dict()")
    return state


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(map(_is_constants, archive.namelist()))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as problem:  # the last: a version there is none of
        raise DualPathError(f"{path} is not a whole file of torch.save ({first_line(problem)}); fetch it again") from problem


def _is_constants(name: str) -> bool:
    """Whether a member of a zip file is the one that TorchScript archives have and files of torch.save have not."""
    return re.fullmatch(r"[^/]+/constants\.pkl", name) is not None


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            root = next(name for name in archive.namelist() if _is_constants(name)).removesuffix("constants.pkl")
            with archive.open(f"{root}data.pkl") as pickled:
                top = _Reader(pickled, _Records(path, archive, root)).load()
        return dict(_walk(top, prefix="", above=()))
    except DualPathError:
        raise
    except Exception as problem:  # a damaged pickle can end in any error there is: one answer to all
        raise DualPathError(f"{path} is not a whole TorchScript archive ({first_line(problem)}); fetch it again") from problem


class _Module:
    """Stands for a module of an archive, whose class (`__torch__...`) is neither looked for nor run."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, held: Any) -> None:
        self.held = dict(held)


class _Records:
    """The archive's storages as mapped memory: only the bytes of tensors that somebody looks at are ever read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self.path = path
        self._archive, self._root = archive, root
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        info = self._archive.getinfo(f"{self._root}data/{key}")
        # A zip file's own header of a member: 30 bytes, of which the last four are the lengths of its name and extras.
        name, extra = struct.unpack_from("<HH", self._bytes, info.header_offset + 26)
        start = info.header_offset + 30 + name + extra
        if info.compress_type != zipfile.ZIP_STORED or not 0 <= count * dtype.itemsize <= info.file_size:
            raise ValueError(f"storage {key} is not {count} plain values of {dtype}")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=start)


class _Reader(pickle.Unpickler):
    """Reads the pickle of an archive. A name that is not listed here is an error before anything is made of it."""

    def __init__(self, file: Any, records: _Records) -> None:
        super().__init__(file)
        self._records = records

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.partition(".")[0] == "__torch__":
            return _Module
        if module_name == "torch" and global_name in _STORAGES:
            return _STORAGES[global_name]
        if (module_name, global_name) not in _ALLOWED:
            raise _code(self._records.path, f"{module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]

    def persistent_load(self, pid: Any, /) -> Tensor:
        kind, dtype, key, _device, count = pid
        if kind != "storage":
            raise ValueError(f"{kind} is no storage")
        return self._records.storage(key, dtype, count)


def _lay(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor over a storage; torch refuses what would reach over its ends."""
    return torch.as_strided(storage, size, stride, offset)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _lay,
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
}


def _walk(module: Any, *, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, _Module) or id(module) in above:
        return
    for name, value in module.held.items():
        if isinstance(value, Tensor):
            yield prefix + str(name), value
        else:
            yield from _walk(value, prefix=f"{prefix}{name}.", above=(*above, id(module)))


def _code(path: Path, name: str) -> DualPathError:
    return DualPathError(
        f"{path} holds pickled code ({name}), which is never run; save the model's state_dict() alone, best as safetensors"
    )


def first_line(problem: BaseException) -> str:
    """An error's first line, short enough to stand in a sentence."""
    text = str(problem).strip().splitlines()
    return (text[0] if text else type(problem).__name__)[:160]
