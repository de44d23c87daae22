"""Encode a data set once, so that every training after it reads quickly: `dualpath data prepare`.

    Manifest --a job a video, in child processes (scan.ask)--> <split>/<class>/<name>.mp4, a line in prepared.jsonl each
             --at the end--> labels.csv, prepared.json

A file has its final name only when it is whole and checked (see `video.encode`). Whatever stops a preparation, the same
call goes on where it was: what the journal names and the disk holds is done.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dualpath.data.manifest import DataError, Manifest
from dualpath.data.preparing.journal import Finished, Job, Journal, Preparation, sweep
from dualpath.data.preparing.prepared import LABELS, PREPARED
from dualpath.data.scan import Refusal, ask
from dualpath.errors import DualPathError
from dualpath.files import csv_cell, write_whole
from dualpath.settings import check_fields
from dualpath.video.encode import EncodeConfig, Encoded, reencode
from dualpath.video.mp4 import OutputError

SECONDS = 300.0
"""Time limit for a video, to which `scan.ask` adds 2 s a megabyte."""
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')


@dataclass(frozen=True)
class ShardConfig:
    """How prepared videos are packed.

    Attributes:
        shard_mb: 1e6 bytes a shard, about.
        shard_seed: of the order in which the samples lie in them.
    """

    shard_mb: int = 256
    shard_seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shard_mb < 1:
            raise DualPathError(f"shard_mb is {self.shard_mb}, but it must be at least 1")
        if self.shard_seed < 0:
            raise DualPathError(f"shard_seed is {self.shard_seed}, but it must be 0 or more")


def prepare(
    manifest: Manifest,
    output: Path,
    *,
    config: EncodeConfig,
    shards: ShardConfig | None = None,
    workers: int = 1,
    seconds: float = SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Encodes every video of a data set into `output`, or goes on with it.

    Args:
        manifest: from `read_manifest` with `val_fraction=0`: a validation share is split off when the result is read.
        output: new folder, or one that an interrupted preparation with the same settings has left.
        config: how videos are encoded.
        shards: given if they are to be packed afterwards by `data.pack.write_shards`; then nothing but a journal is
            written here.
        workers: child processes; each encodes with one thread.
        seconds: time limit for one video, to which come 2 s a megabyte.
        progress: called with (done, total) after each video.

    Raises:
        DualPathError: the folder cannot be used or written to (what is finished is kept), or no video can be read.
    """
    jobs = plan_jobs(manifest, output)
    journal = Journal(output, settings(config, shards), manifest)
    if journal.left_out is not None:  # all were encoded, and packing them may have begun
        journal.close()
        return journal.recall(jobs)
    done = {index: found for index, job in enumerate(jobs) if (found := journal.find(manifest.videos[index], job))}
    left_out: dict[str, str] = {}
    todo = [index for index in range(len(jobs)) if index not in done]
    if progress is not None and done:
        progress(len(done), len(jobs))
    with _telling(output, done, len(jobs)):
        try:
            for folder in sorted({jobs[index].target.parent for index in todo}):
                folder.mkdir(parents=True, exist_ok=True)
            todo_jobs = [jobs[index] for index in todo]
            encode = partial(encode_job, config=config)
            with closing(ask(todo_jobs, encode, workers=workers, seconds=seconds, few=2)) as answers:
                for place, answer in answers:
                    video = manifest.videos[todo[place]]
                    if isinstance(answer, OutputError):
                        raise answer
                    if isinstance(answer, Refusal):
                        left_out[video.name] = answer.reason
                    else:
                        done[todo[place]] = journal.add(video, todo_jobs[place], answer)
                    if progress is not None:
                        progress(len(done) + len(left_out), len(jobs))
            if shards is not None and done:
                journal.end(left_out)
        finally:
            journal.close()
            sweep(output)
    if not done:
        raise DataError(manifest.root, ["none of its videos can be read", *(f"{name} {why}" for name, why in left_out.items())])
    found = Preparation(output, tuple(done[index] for index in sorted(done)), dict(sorted(left_out.items())))
    if shards is None:
        _write_labels(found, manifest)
    _write_facts(found, manifest, settings(config, shards))
    return found


def encode_job(job: Job, *, config: EncodeConfig) -> Encoded | OutputError:
    """What runs in the children of `scan.ask`; only the source's own faults are raised, for `ask` to name."""
    try:
        return reencode(job.source, job.target, config=config, start=job.start, end=job.end)
    except OutputError as problem:
        return problem


def settings(config: EncodeConfig, shards: ShardConfig | None) -> dict[str, Any]:
    """What must stay the same when a preparation goes on."""
    return asdict(config) | {"shards": shards is not None} | (asdict(shards) if shards is not None else {})


def plan_jobs(manifest: Manifest, output: Path) -> list[Job]:
    """A target for each video: no two alike, also where capitals do not count; none hidden or outside the folder."""
    taken: set[str] = set()
    jobs = []
    for video in manifest.videos:
        folder = output / video.split / _plain(manifest.classes[video.label])
        stem, number = _plain(Path(video.file).stem), 1
        name = stem
        while f"{folder}/{name}".casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(f"{folder}/{name}".casefold())
        start, end = video.start, video.end
        jobs.append(Job(video.path, folder / f"{name}.mp4", start, end))
    return jobs


def _plain(name: str) -> str:
    """A name that every file system takes."""
    return _FORBIDDEN.sub("_", name).strip(". ")[:80].strip(". ") or "_"


@contextmanager
def _telling(output: Path, done: dict[int, Finished], total: int) -> Iterator[None]:
    """Says in one sentence that writing failed, and that nothing is lost."""
    try:
        yield
    except (OutputError, OSError) as problem:
        if not isinstance(problem, OutputError) and problem.errno is None:
            raise
        said = str(problem) if isinstance(problem, OutputError) else f"{output} cannot be written to ({problem.strerror})"
        raise DualPathError(
            f"{said}; {len(done)} of {total} videos are finished and kept: make room, then give the same command to go on"
        ) from problem


def _write_labels(found: Preparation, manifest: Manifest) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "split", "group"])
    for one in found.finished:
        row = (one.name, manifest.classes[one.video.label], one.video.split, one.video.group or "")
        writer.writerow(map(csv_cell, row))
    write_whole(found.output / LABELS, out.getvalue())


def _write_facts(found: Preparation, manifest: Manifest, used: dict[str, Any]) -> None:
    facts = {
        "settings": used,
        "source": {"root": str(manifest.root)} | manifest.census(),
        "classes": list(manifest.classes),
        "counts": {split: sum(one.video.split == split for one in found.finished) for split in ("train", "val", "test")},
        "bytes": {"before": found.bytes_before, "after": found.bytes_after},
        "left_out": found.left_out,
        "damaged": found.damaged,
        "videos": {
            one.name: {"num_frames": one.encoded.num_frames, "bytes": one.encoded.size, "source": one.video.name}
            for one in found.finished
        },
    }
    write_whole(found.output / PREPARED, json.dumps(facts, indent=1) + "\n")
