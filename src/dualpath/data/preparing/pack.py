"""Pack a preparation into shards: the writing side of `data.shards`."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dualpath.data.formats.base import Split
from dualpath.data.preparing.journal import Finished, Preparation, sweep
from dualpath.data.preparing.prepare import ShardConfig
from dualpath.data.preparing.shards import INDEX, SPLITS, Index, Sample, Shard, read_index
from dualpath.errors import DualPathError
from dualpath.files import create, temporary_beside, write_whole


def write_shards(
    found: Preparation,
    classes: Sequence[str],
    *,
    config: ShardConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Packs prepared files into shards, and removes each file once the shard that holds it is on the disk.

    Goes on where it was stopped: a shard that has its final name is finished, and which files it holds depends on
    nothing but the preparation and `config`.

    Args:
        found: what was prepared.
        classes: names of the labels.
        config: their size, and the seed of their order.
        progress: called with (done, total) after each shard.

    Raises:
        DualPathError: the disk is full, or a file was changed; what is finished is kept.
    """
    if (found.output / INDEX).is_file():
        return read_index((found.output / INDEX).read_bytes(), source=found.output / INDEX)
    plans = _plan(found.finished, config.shard_mb * 10**6, config.shard_seed)
    shards = []
    try:
        for number, (name, split, numbers) in enumerate(plans):
            shards.append(_pack(found, name, split, numbers, classes))
            if progress is not None:
                progress(number + 1, len(plans))
        index = Index(tuple(classes), tuple(shards))
        write_whole(found.output / INDEX, index.to_json())
        for folder, _, _ in os.walk(found.output, topdown=False):  # those of the plain files, now empty
            if Path(folder) != found.output and not any(Path(folder).iterdir()):
                Path(folder).rmdir()
    except OSError as problem:
        raise DualPathError(
            f"{found.output} cannot be written to ({problem.strerror}); {len(shards)} of {len(plans)} shards are finished and "
            "kept: make room, then give the same command to go on"
        ) from problem
    finally:
        sweep(found.output)
    return index


def _plan(finished: Sequence[Finished], most: int, seed: int) -> list[tuple[str, Split, list[int]]]:
    """(name, split, places in `finished`) of each shard."""
    plans: list[tuple[str, Split, list[int]]] = []
    for number, split in enumerate(SPLITS):
        own = np.array([i for i, one in enumerate(finished) if one.video.split == split], dtype=np.int64)
        order = np.random.default_rng(np.random.SeedSequence((seed, number))).permutation(own).tolist()
        sizes = [finished[place].encoded.size + 4 * tarfile.BLOCKSIZE for place in order]  # headers, the JSON, padding
        count = math.ceil(sum(sizes) / most)
        parts: list[list[int]] = [[] for _ in range(count)]
        begin = 0
        for place, size in zip(order, sizes, strict=True):  # all about equally large
            parts[begin * count // sum(sizes)].append(place)
            begin += size
        for part in filter(None, parts):
            plans.append((f"{split}-{sum(p[1] == split for p in plans):06d}.tar", split, part))
    return plans


def _pack(found: Preparation, name: str, split: Split, numbers: Sequence[int], classes: Sequence[str]) -> Shard:
    path = found.output / name
    members = [(f"{number:08d}", found.finished[number]) for number in numbers]
    if not path.is_file():
        temporary = temporary_beside(path)
        with create(temporary) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for key, one in members:
                with (found.output / one.name).open("rb") as video:
                    _add(tar, f"{key}.mp4", video, one.encoded.size)
                told = {"label": one.video.label, "class": classes[one.video.label], "name": one.video.name}
                content = json.dumps(told | {"num_frames": one.encoded.num_frames}).encode()
                _add(tar, f"{key}.json", io.BytesIO(content), len(content))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    samples = _look(path, members)
    for _, one in members:  # the shard is whole and on the disk
        (found.output / one.name).unlink(missing_ok=True)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(name, split, path.stat().st_size, digest, samples)


def _add(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int) -> None:
    """One member; nothing in it (times, owners) depends on when and by whom it is written."""
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)


def _look(path: Path, members: Sequence[tuple[str, Finished]]) -> tuple[Sample, ...]:
    """The samples of a finished shard, at the places that the tar itself tells."""
    with tarfile.open(path, "r:") as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    samples = []
    for key, one in members:
        offset, size = places.get(f"{key}.mp4", (0, -1))
        if size != one.encoded.size:
            raise DualPathError(
                f"{path} holds other videos than were prepared; delete it and the plain files, and prepare again"
            )
        video = one.video
        samples.append(Sample(key, video.name, video.label, one.encoded.num_frames, offset, size, video.group))
    return tuple(samples)
