"""Who shares clips, for how long, and within how much of the disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dualpath.engine.clip_store import ClipStore, check_limit
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.one_run import Job
from dualpath.errors import DualPathError
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig

VIDEOS, SIDE, FRAMES, EPOCHS = 10, 100, 4, 5
NEEDED = EPOCHS * VIDEOS * FRAMES * 3 * SIDE * SIDE  # 6 MB


def job(output: Path, label: str, seed: int = 0, *, epochs: int = EPOCHS, frames: int = FRAMES, min_scale: float = 0.5) -> Job:
    config = RunConfig(
        sampling=SamplingConfig(frames),
        transform=TransformConfig(min_scale),
        training=TrainConfig(epochs=epochs, seed=seed),
    )
    return Job(Path("data"), output / "videos.json", "test", output / label / f"seed{seed}", config)


def store(
    output: Path, jobs: Sequence[Job], *, finished: Sequence[Job] = (), limit: float = 8.0, sides: dict[str, int] | None = None
) -> ClipStore:
    sizes = {job.folder: (sides or {}).get(job.folder.parent.name, SIDE) for job in jobs}
    done = [job.folder for job in finished]
    return ClipStore(output, jobs, finished=done, sizes=sizes, videos=VIDEOS, limit=limit)


def keep(folder: Path, size: int = 1) -> Path:
    """As if a run had kept clips."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0.clips").write_bytes(bytes(size))
    return folder


def test_those_that_draw_the_same_clips_share_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        *(job(tmp_path, "a"), job(tmp_path, "b", epochs=3)),
        *(job(tmp_path, "frames", frames=2), job(tmp_path, "crops", min_scale=0.6), job(tmp_path, "large")),
    ]
    found = store(tmp_path, jobs, sides={"large": 120})
    place = tmp_path / ".clips" / "seed0"
    assert [found.place(job) for job in jobs] == [place, place, None, None, None]
    size = f"{NEEDED / 1e9:.2g} GB"
    said = f"runs of one seed share their decoded clips: up to {size} in {tmp_path / '.clips'}, deleted at the end\n"
    assert capsys.readouterr().err == said


def test_clips_of_a_seed_go_with_its_last_entry(tmp_path: Path) -> None:
    jobs = [job(tmp_path, label, seed) for seed in (0, 3) for label in ("a", "b")]
    found = store(tmp_path, jobs)
    first, second = (tmp_path / ".clips" / f"seed{seed}" for seed in (0, 3))
    keep(second)  # seeds were asked for in another order before
    assert found.place(jobs[0]) == first
    assert not second.exists()  # at any time those of one seed at most
    keep(first)
    found.done(jobs[0])
    assert found.place(jobs[1]) == first
    assert first.exists()
    found.done(jobs[1])
    assert not first.exists()
    keep(found.place(jobs[2]) or tmp_path)
    found.done(jobs[2])
    assert second.exists()
    found.done(jobs[3])
    assert not (tmp_path / ".clips").exists()


def test_a_single_one_to_be_done_shares_only_what_is_there(tmp_path: Path) -> None:
    jobs = [job(tmp_path, label) for label in ("a", "b", "c")]
    assert store(tmp_path, jobs, finished=jobs[:2]).place(jobs[2]) is None
    place = keep(tmp_path / ".clips" / "seed0")
    assert store(tmp_path, jobs, finished=jobs[:2]).place(jobs[2]) == place
    assert store(tmp_path, jobs[2:]).place(jobs[2]) is None  # the others are no longer asked for
    assert not place.exists()


def test_leftovers_without_use_are_deleted(tmp_path: Path) -> None:
    jobs = [job(tmp_path, label) for label in ("a", "b")]
    for finished, limit in ((jobs, 8.0), ((), 0.0)):
        place = keep(tmp_path / ".clips" / "seed0")
        found = store(tmp_path, jobs, finished=finished, limit=limit)
        assert not place.parent.exists()
        assert found.place(jobs[0]) is None


def test_limit_counts_every_group_of_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path, label, seed, frames=frames)
            for seed in (0, 1) for label, frames in (("a", 4), ("b", 4), ("c", 2), ("d", 2))]  # fmt: skip
    needed = 1.5 * NEEDED / 1e9
    assert None not in map(store(tmp_path, jobs, limit=needed).place, jobs)
    assert capsys.readouterr().err.count(f"up to {needed:.2g} GB in ") == 1  # once, not once a seed
    found = store(tmp_path, jobs, limit=0.99 * needed)
    assert [found.place(job) for job in jobs] == [None] * 8
    assert capsys.readouterr().err == (
        f"every run decodes its own clips: keeping those of a seed takes {needed:.2g} GB, more than the "
        f"{0.99 * needed:g} GB of --clip_store\n"
    )
    longer = [replace(jobs[0], config=replace(jobs[0].config, training=TrainConfig(epochs=EPOCHS + 1))), *jobs[1:4]]
    assert store(tmp_path, longer, limit=needed).place(longer[1]) is None


def test_half_of_the_disk_stays_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(tmp_path, label) for label in ("a", "b")]
    free = 2 * NEEDED
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert store(tmp_path, jobs).place(jobs[0]) is not None
    capsys.readouterr()
    free -= 1
    assert store(tmp_path, jobs).place(jobs[0]) is None
    assert capsys.readouterr().err == (
        f"every run decodes its own clips: keeping those of a seed takes {NEEDED / 1e9:.2g} GB, more than half of the "
        f"{free / 1e9:.2g} GB that are free for {tmp_path}\n"
    )
    keep(tmp_path / ".clips" / "seed0" / "key", 1)  # what is taken already is not needed again
    assert store(tmp_path, jobs).place(jobs[0]) is not None


def test_folds_do_not_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [replace(job(tmp_path, label, seed), folder=tmp_path / label / f"split{fold}" / f"seed{seed}", fold=fold)
            for seed in (0, 3) for fold in (1, 2) for label in ("a", "b")]  # fmt: skip
    assert [one.name for one in jobs[1:4]] == ["b split 1 seed 0", "a split 2 seed 0", "b split 2 seed 0"]
    sizes = {one.folder: SIDE for one in jobs}
    found = ClipStore(tmp_path, jobs, finished=[], sizes=sizes, videos=VIDEOS, limit=8.0)
    before = None
    for one in jobs:
        place = found.place(one)
        assert place == tmp_path / ".clips" / f"seed{one.config.training.seed}-split{one.fold}"
        assert before in (None, place) or not before.exists()  # gone with the last entry of its split
        before = keep(place)
        found.done(one)
    assert not (tmp_path / ".clips").exists()
    assert capsys.readouterr().err.startswith("runs of one seed and split share their decoded clips: up to ")
    # One that is left to be done on a split has nobody to share with, whatever is to be done on the other.
    found = ClipStore(tmp_path, jobs, finished=[jobs[0].folder], sizes=sizes, videos=VIDEOS, limit=8.0)
    assert found.place(jobs[1]) is None
    assert found.place(jobs[2]) is not None


@pytest.mark.parametrize("limit", [-1.0, math.inf, math.nan])
def test_limit_is_a_number(limit: float) -> None:
    check_limit(0.0)
    with pytest.raises(DualPathError, match=rf"clip_store is {limit}, but it must be a number of GB, 0 \(off\) or more"):
        check_limit(limit)
