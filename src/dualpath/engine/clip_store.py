"""Which runs of a comparison share their decoded clips, and for how long: data/kept.py keeps them, this says when.

    <output>/.clips/seed<k>/    while seed k has entries to finish, and two at least draw the same clips
    .../seed<k>-split<f>/       where a comparison has several official splits: a seed draws other clips from each

No label of an entry begins with a dot: the folder cannot be that of an entry.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dualpath.engine.one_run import Job
from dualpath.engine.schedule import make_schedule
from dualpath.errors import DualPathError

Draw = tuple[int, int | None]
"""(seed, fold): runs that have both in common see the same videos and draw the same clips from them."""
FOLDER = ".clips"
CLIP_STORE_GB = 8.0


def check_limit(limit: float) -> None:
    """Raises DualPathError unless it is a number of GB."""
    if not 0 <= limit < math.inf:
        raise DualPathError(f"clip_store is {limit}, but it must be a number of GB, 0 (off) or more")


class ClipStore:
    """The clips of one comparison: at any time those of one seed, and one of its folds, at most."""

    def __init__(
        self,
        output: Path,
        jobs: Sequence[Job],
        *,
        finished: Collection[Path],
        sizes: Mapping[Path, int],
        videos: int,
        limit: float,
    ) -> None:
        """Looks at what is to be done; where that is nothing, the clips of an earlier try are deleted.

        Args:
            output: the comparison's folder.
            jobs: all of them, seed by seed, and within a seed fold by fold.
            finished: folders of those that are.
            sizes: side of the pictures in pixels, by job's folder.
            videos: that a run learns from, at most.
            limit: GB of disk space that the clips may take; 0 keeps none.
        """
        self._folder, self._jobs, self._sizes, self._videos, self._limit = output / FOLDER, jobs, sizes, videos, limit
        self._open = {job.folder for job in jobs if job.folder not in finished}
        self._draws: dict[Draw, frozenset[Path]] = {}
        self._whose = "seed" if all(job.fold is None for job in jobs) else "seed and split"
        self._told = ""
        if not self._open or not limit:
            shutil.rmtree(self._folder, ignore_errors=True)

    def place(self, job: Job) -> Path | None:
        """Where a job that is to be run now reads and keeps clips; None if it decodes its own."""
        draw = _draw(job)
        if draw not in self._draws:
            for other in self._folder.glob("seed*"):
                if other != self._of(draw):
                    shutil.rmtree(other, ignore_errors=True)
            self._draws[draw] = self._sharing(draw)
        return self._of(draw) if job.folder in self._draws[draw] else None

    def done(self, job: Job) -> None:
        """Takes note that a job is finished; the clips of a seed (and fold) go with its last one."""
        self._open.discard(job.folder)
        draw = _draw(job)
        if not any(other.folder in self._open for other in self._jobs if _draw(other) == draw):
            shutil.rmtree(self._of(draw), ignore_errors=True)
        if not self._open:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _of(self, draw: Draw) -> Path:
        seed, fold = draw
        return self._folder / (f"seed{seed}" if fold is None else f"seed{seed}-split{fold}")

    def _sharing(self, draw: Draw) -> frozenset[Path]:
        """The folders of the jobs that share clips, if there is room for these; a leftover without use goes."""
        groups: dict[tuple[object, ...], list[Job]] = {}
        for job in self._jobs if self._limit else ():
            if _draw(job) == draw:
                # Seed and fold decide the rest, and the classes, which are common, whether clips are mirrored.
                of_clips = (job.config.sampling, job.config.transform, self._sizes[job.folder])
                groups.setdefault(of_clips, []).append(job)
        # A single one to be done still gains by what the finished ones of its group have left.
        fewest = 1 if self._of(draw).is_dir() else 2
        shared = [
            group for group in groups.values() if len(group) > 1 and sum(job.folder in self._open for job in group) >= fewest
        ]
        needed = sum(self._bytes(group) for group in shared)
        if shared and self._has_room(draw, needed):
            return frozenset(job.folder for group in shared for job in group)
        shutil.rmtree(self._of(draw), ignore_errors=True)
        return frozenset()

    def _bytes(self, group: Sequence[Job]) -> int:
        """What the clips of jobs that share them take: one uint8 (T, 3, S, S) for each video and epoch."""
        epochs = max(make_schedule(self._videos, job.config.training).epochs for job in group)
        return epochs * self._videos * group[0].config.sampling.num_frames * 3 * self._sizes[group[0].folder] ** 2

    def _has_room(self, draw: Draw, needed: int) -> bool:
        """Whether the clips may be kept; what is decided is told, once."""
        held = sum(file.stat().st_size for file in self._of(draw).rglob("*") if file.is_file())
        free = shutil.disk_usage(self._folder.parent).free + held
        size = f"{needed / 1e9:.2g} GB"
        if needed > 1e9 * self._limit:
            self._tell(f"every run decodes its own clips: keeping those of a {self._whose} takes {size}, more than the "
                       f"{self._limit:g} GB of --clip_store")  # fmt: skip
        elif 2 * needed > free:
            self._tell(f"every run decodes its own clips: keeping those of a {self._whose} takes {size}, more than half of the "
                       f"{free / 1e9:.2g} GB that are free for {self._folder.parent}")  # fmt: skip
        else:
            self._tell(
                f"runs of one {self._whose} share their decoded clips: up to {size} in {self._folder}, deleted at the end"
            )
            return True
        return False

    def _tell(self, text: str) -> None:
        if text != self._told:
            print(text, file=sys.stderr)
        self._told = text


def _draw(job: Job) -> Draw:
    return job.config.training.seed, job.fold
