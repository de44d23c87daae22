"""What `dualpath data check` and `dualpath data prepare` do with paths: read, show how far it is, say what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dualpath.data.checking.check import Check, CheckConfig, Progress, check_data, check_folder, with_pictures
from dualpath.data.preparing.journal import Preparation
from dualpath.data.preparing.pack import write_shards
from dualpath.data.preparing.prepare import ShardConfig, prepare
from dualpath.engine.config import DataConfig
from dualpath.engine.prepare import find_segments, read_labels, tell_warnings
from dualpath.engine.progress import Bar
from dualpath.errors import DualPathError, number_of
from dualpath.files import owns_output
from dualpath.hardware import cores
from dualpath.terminal import in_line
from dualpath.video.decoding.fetched import as_url
from dualpath.video.encode import EncodeConfig

SETS_SHOWN, FILES_A_SET = 12, 4
MOST_NAMES = 20


@owns_output
def check_files(data: Path, output: Path, config: CheckConfig, *, annotations: DataConfig | None = None) -> Check:
    """Checks a data set and leaves files.jsonl, check.json and quarantine.csv in `output`; run again, it goes on.

    What is wrong with the labels is a finding; the files are looked into nevertheless.

    Raises:
        DataError: the list cannot be read as a whole, or leads to no file.
        DualPathError: the folder cannot be used.
    """
    check_folder(output)  # before a tree of many files is walked
    annotations = annotations or DataConfig()
    manifest = read_labels(data, val_fraction=0.0, format=annotations.format, fold=annotations.split, strict=False)
    manifest = find_segments(manifest, workers=config.workers, damaged=config.damaged)
    began = time.monotonic()
    with Bar("checking", total=len({video.file for video in manifest.videos})) as bar:

        def tell(progress: Progress) -> None:
            gone = max(time.monotonic() - began, 1e-9)
            bar.begin_at(progress.done - progress.files)
            bar.update(progress.done, f"{progress.files / gone:.1f} files/s {progress.frames / gone:,.0f} decoded frames/s")

        found = check_data(manifest, output, config, progress=tell)
    sets = [files[:FILES_A_SET] for finding in found.findings for files in finding.sets[:SETS_SHOWN]]
    found = with_pictures(found, output, [name for files in sets for name in files])
    found.write(output)
    return found


@dataclass(frozen=True)
class Summary:
    """What a preparation came to.

    Attributes:
        found: what was prepared.
        shards: number of them; None for plain files.
        bytes_after: of all videos, or of all shards.
    """

    found: Preparation
    shards: int | None
    bytes_after: int

    def __str__(self) -> str:
        videos, left_out = len(self.found.finished), len(self.found.left_out)
        where = (
            f"{number_of(self.shards, 'shard')} in {self.found.output}" if self.shards is not None else str(self.found.output)
        )
        return (
            f"prepared {videos} of {number_of(videos + left_out, 'video')}, {_megabytes(self.found.bytes_before)} before, "
            f"{_megabytes(self.bytes_after)} after, in {where}: dualpath train {self.found.output} --output DIR"
        )


@owns_output
def prepare_data(
    data: Path,
    output: Path,
    *,
    encode: EncodeConfig,
    shards: ShardConfig | None = None,
    workers: int = -1,
    annotations: DataConfig | None = None,
) -> Summary:
    """Encodes a data set once, so that every training after it reads quickly; told on the way on stderr.

    Args:
        data: folder or CSV file, see `read_manifest`.
        output: new folder, or one that an interrupted preparation has left.
        encode: how videos are encoded.
        shards: how they are packed; None leaves plain files.
        workers: processes; -1 takes all cores.
        annotations: their format and official split, where they are not to be recognised.

    Raises:
        DualPathError: the data or the folder cannot be used; what is finished is kept.
    """
    if workers < -1 or workers == 0:
        raise DualPathError(f"workers is {workers}, but it must be 1 or more, or -1 for one a core")
    if as_url(data) is not None:
        raise DualPathError(f"{data} was prepared already; give the videos themselves")
    annotations = annotations or DataConfig()
    manifest = read_labels(data, val_fraction=0.0, format=annotations.format, fold=annotations.split)
    tell_warnings(manifest)
    manifest = find_segments(manifest, workers=workers, damaged=encode.damaged)
    began = time.monotonic()
    with Bar("preparing videos", total=len(manifest.videos)) as bar:
        first: list[int] = []

        def tell(done: int, total: int) -> None:
            del total
            first.append(done) if not first else None
            gone, made = time.monotonic() - began, done - first[0]
            bar.update(done, f"{made / gone:.1f} files/s" if made and gone else "")

        workers = cores() if workers == -1 else workers
        found = prepare(manifest, output, config=encode, shards=shards, workers=workers, progress=tell)
    _tell_names("left out {}:", "unreadable video", found.left_out)
    _tell_names("warning: {}:", "damaged video", found.damaged)
    if shards is None:
        return Summary(found, None, found.bytes_after)
    with Bar("packing shards", total=1) as bar:
        index = write_shards(found, manifest.classes, config=shards, progress=bar.tell)
    return Summary(found, len(index.shards), sum(shard.bytes for shard in index.shards))


def _tell_names(told: str, what: str, reasons: Mapping[str, str]) -> None:
    """How many videos there is something to tell of, and the first of them; nothing if there are none."""
    named = [f"{in_line(name)} {reason}" for name, reason in reasons.items()]
    more = [f"and {len(named) - MOST_NAMES} more, see prepared.json"] if len(named) > MOST_NAMES else []
    if named:
        print(told.format(number_of(len(named), what)), *named[:MOST_NAMES], *more, sep="\n  ", file=sys.stderr)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
