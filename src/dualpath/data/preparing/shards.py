"""A prepared data set as a few large files: tars in WebDataset's form, and an index by which any sample is found.

    FOLDER/train-000000.tar     00000017.mp4, 00000017.json {label, name, num_frames}, 00000003.mp4, ...
    FOLDER/shards.json          classes; of each shard its bytes and hash, of each sample its place in it

Samples lie in a random (seeded) order, so a reader that goes through shard after shard sees mixed classes. The index
makes each sample a byte range of a local file (`video.places`): nothing is unpacked, any order can be read, and what is
random stays a pure function of (seed, epoch, sample). From a URL, shards are fetched whole (`video.fetched`).
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dualpath.data.formats.base import Split
from dualpath.data.manifest import DataError, Manifest, Video
from dualpath.errors import FetchError
from dualpath.video.decoding import fetched
from dualpath.video.decoding.places import Place

INDEX = "shards.json"
SOURCE = "shards"
"""The manifest's `source` of such a folder."""
SPLITS: tuple[Split, ...] = get_args(Split)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.tar")
_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Sample:
    """One video in a shard: `size` bytes from `offset` on."""

    key: str
    name: str
    label: int
    num_frames: int
    offset: int
    size: int
    group: str | None = None

    def __post_init__(self) -> None:
        whole = (self.label, self.num_frames, self.offset, self.size)
        if not all(type(value) is int and value >= 0 for value in whole) or self.num_frames < 1:
            raise ValueError(f"sample {self.key!r} has numbers that cannot be: {whole}")
        if not (isinstance(self.key, str) and _KEY.fullmatch(self.key) and isinstance(self.name, str) and self.name):
            raise ValueError(f"sample {self.key!r} has no proper key or name")
        if self.group is not None and not isinstance(self.group, str):
            raise ValueError(f"sample {self.key!r} has the group {self.group!r}")


@dataclass(frozen=True)
class Shard:
    """One tar.

    Attributes:
        name: of the file.
        split: of its samples.
        bytes: size of the file.
        sha256: of the file, in hexadecimal digits.
        samples: in the order in which they lie in it.
    """

    name: str
    split: Split
    bytes: int
    sha256: str
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"a shard is called {self.name!r}")
        if self.split not in SPLITS or type(self.bytes) is not int or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"shard {self.name} has no proper split, size or hash")
        beyond = next((one.key for one in self.samples if one.offset + one.size > self.bytes), None)
        if beyond is not None:
            raise ValueError(f"sample {beyond} lies beyond the end of {self.name}")


@dataclass(frozen=True)
class Index:
    """What shards.json holds."""

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]

    def __post_init__(self) -> None:
        if not self.classes or not all(isinstance(name, str) for name in self.classes):
            raise ValueError("its classes are no names")
        every = [sample for shard in self.shards for sample in shard.samples]
        for what, values in (
            ("class", self.classes),
            ("shard", [shard.name for shard in self.shards]),
            ("key", [sample.key for sample in every]),
            ("name", [sample.name for sample in every]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"a {what} is there twice")
        if any(sample.label >= len(self.classes) for sample in every):
            raise ValueError(f"a label is beyond its {len(self.classes)} classes")
        if not every:
            raise ValueError("it holds no samples")

    def to_json(self) -> str:
        """As `read_index` reads it; one line a sample."""
        shards = [
            json.dumps({"name": s.name, "split": s.split, "bytes": s.bytes, "sha256": s.sha256})[:-1]
            + ', "samples": [\n  '
            + ",\n  ".join(json.dumps({k: v for k, v in vars(one).items() if v is not None}) for one in s.samples)
            + "]}"
            for s in self.shards
        ]
        head = json.dumps({"version": 1, "classes": list(self.classes)})[:-1]
        return head + ', "shards": [\n ' + ",\n ".join(shards) + "]}\n"


def read_index(content: bytes, *, source: str | Path) -> Index:
    """Reads what `Index.to_json` wrote.

    Raises:
        DataError: anything else.
    """
    try:
        told: Any = json.loads(content)
        if told["version"] != 1:
            raise DataError(source, [f"is of version {told['version']!r}, this library reads 1; take a newer one"])
        shards = []
        for shard in told["shards"]:
            fields = {name: shard[name] for name in ("name", "split", "bytes", "sha256")}
            shards.append(Shard(**fields, samples=tuple(Sample(**sample) for sample in shard["samples"])))
        return Index(tuple(told["classes"]), tuple(shards))
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        said = f"{problem} is missing" if isinstance(problem, KeyError) else str(problem)[:200]
        raise DataError(source, [f"is no proper index of shards ({said}); prepare the data again"]) from problem


def to_manifest(index: Index, root: Path) -> Manifest:
    """Every sample as a video whose path is a byte range of a tar in `root`; sorted by name, nothing split off."""
    videos = [
        Video(
            Place(root / shard.name, sample.offset, sample.size).spelled,
            sample.name,
            sample.label,
            shard.split,
            sample.group,
            sample.num_frames,
        )
        for shard in index.shards
        for sample in shard.samples
    ]
    return Manifest(root, index.classes, tuple(sorted(videos, key=lambda video: video.name)), SOURCE)


def find_shards(data: str | Path) -> Manifest | None:
    """The shards at a URL, in a folder, or that a shards.json is the index of; None for anything else.

    Raises:
        DataError: shards that cannot be used.
    """
    url = fetched.as_url(data)
    if url is not None:
        return fetch_shards(url)
    folder = Path(data).parent if Path(data).name == INDEX else Path(data)
    return read_shards(folder) if (folder / INDEX).is_file() else None


def read_shards(folder: Path) -> Manifest:
    """Reads a folder of shards, and sees to it that they are there and whole.

    Raises:
        DataError: a damaged index; shards that are missing, cut off or others than the index says: all of them.
    """
    try:
        index = read_index((folder / INDEX).read_bytes(), source=folder / INDEX)
        problems = [problem for shard in index.shards if (problem := _wrong(folder / shard.name, shard))]
    except OSError as problem:
        raise DataError(folder, [f"{problem.filename} cannot be read ({problem.strerror})"]) from problem
    if problems:
        raise DataError(folder, problems)
    return to_manifest(index, folder)


def fetch_shards(data: str) -> Manifest:
    """Reads the index at a URL (its own, or that of the folder it lies in); the shards are fetched when they are wanted.

    Raises:
        DataError: no such index, or a damaged one.
    """
    url = data if data.endswith(".json") else f"{data.rstrip('/')}/{INDEX}"
    try:
        content = fetched.get(url)
    except FetchError as problem:
        raise DataError(url, [problem.reason]) from problem
    index = read_index(content, source=url)
    return to_manifest(index, fetched.register(url, content, {s.name: (s.bytes, s.sha256) for s in index.shards}))


def _wrong(path: Path, shard: Shard) -> str | None:
    """What is wrong with a tar: size, whether its first and last sample lie where the index says, and its hash."""
    if not path.is_file():
        return f"{shard.name} is missing"
    if (held := path.stat().st_size) != shard.bytes:
        kind = "is cut off" if held < shard.bytes else "is another file"
        return f"{shard.name} {kind}: it has {held} bytes, {INDEX} says {shard.bytes}"
    with path.open("rb") as file:
        for sample in shard.samples[:1] + shard.samples[-1:]:
            file.seek(max(0, sample.offset - tarfile.BLOCKSIZE))
            try:
                member = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
                found = (member.name, member.size)
            except tarfile.TarError:
                found = None
            if found != (f"{sample.key}.mp4", sample.size):
                return f"{shard.name} does not hold {sample.key}.mp4 where {INDEX} says; prepare the data again"
    if not fetched.has_digest(path, shard.sha256):
        return f"{shard.name} is damaged: its {shard.bytes} bytes are not those that {INDEX} says; prepare the data again"
    return None
