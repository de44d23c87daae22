"""Videos that are deleted or replaced while a training runs: skipped and named, and the advice that is given works."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dualpath.data.clips import TrainClips
from dualpath.data.manifest import Video
from dualpath.data.replaced import EDGE, Seen, look_at, look_at_all, why_replaced
from dualpath.engine.train import train
from dualpath.errors import DualPathError, VideoError
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from runs import at_step, run_config, write_clip


def table(data: Path) -> Path:
    rows = [f"{p.relative_to(data)},{p.parent.name},{p.parts[-3]}" for p in sorted(data.glob("*/*/*.mp4"))]
    (data / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    return data


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("unsplit", [False, True])
def test_a_deleted_video_does_not_end_a_run_for_good(
    tmp_path: Path, clips: Path, weights: Path, listed: bool, unsplit: bool
) -> None:
    shutil.copytree(clips, tmp_path / "data")
    data = table(tmp_path / "data") if listed else tmp_path / "data"
    if unsplit and not listed:
        shutil.rmtree(data / "val")
    victim = data / "train/red/3.mp4"
    told = ""
    for step in (1, 2, 3, 4, 5):  # it may have been read ahead, or be one of the validation share
        run = tmp_path / f"run{step}"
        try:
            with at_step(step, lambda: victim.unlink(missing_ok=True)):
                train(data, run, run_config(weights, max_bad_files=0.0, epochs=3))
        except DualPathError as problem:
            told = str(problem)
            break
        shutil.copy(data / "train/red/2.mp4", victim)
    assert "cannot be used, the last ones found in training (train/red/3.mp4)" in told or unsplit
    if "found in training" in told:
        train(data, run, run_config(weights, max_bad_files=0.1, epochs=3), resume=True)
        record = json.loads((run / "run.json").read_text())
        assert "train/red/3.mp4" in record["skipped"]


def test_replaced_videos_are_all_noticed_and_the_run_goes_on(tmp_path: Path, clips: Path, weights: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(clips, data)
    names = [f"train/{colour}/{number}.mp4" for colour in ("red", "blue") for number in (1, 2)]

    def replace() -> None:
        for name in names:
            write_clip(data / name, "red", seed=77, frames=23)

    with at_step(1, replace), pytest.raises(DualPathError, match="found in training") as caught:
        train(data, run, run_config(weights, epochs=3))
    assert "--resume continues it" in str(caught.value)
    train(data, run, run_config(weights, epochs=3, max_bad_files=0.5), resume=True)
    skipped = json.loads((run / "run.json").read_text())["skipped"]
    assert set(skipped) == set(names)
    assert all("was replaced after the training began: it had" in reason for reason in skipped.values())


def of_the_same_size(path: Path) -> None:
    """Puts another video of as many bytes there: players read none behind the end of the last box."""
    size = path.stat().st_size
    write_clip(path, "blue", seed=78, frames=5)
    assert path.stat().st_size <= size
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))


def test_videos_replaced_by_as_many_bytes_are_noticed_in_training_and_validation(
    tmp_path: Path, clips: Path, weights: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(clips, data)
    with at_step(1, lambda: [of_the_same_size(data / f"{split}/red/1.mp4") for split in ("train", "val")]):
        train(data, run, run_config(weights, epochs=3, max_bad_files=0.5, eval_every=1))
    record = json.loads((run / "run.json").read_text())
    reason = "was replaced after the training began: it had other content of the same size"
    assert {name for name, told in record["skipped"].items() if reason in told} == {"val/red/1.mp4", "train/red/1.mp4"}
    assert record["validation"]["undecodable"].keys() == {"val/red/1.mp4"}


def test_a_run_is_resumed_on_a_copy_of_its_data(tmp_path: Path, clips: Path, weights: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    train(clips, run, run_config(weights, epochs=1))
    shutil.copytree(clips, copy, copy_function=shutil.copyfile)  # at other times
    of_the_same_size(copy / "train/blue/2.mp4")
    train(copy, run, run_config(weights, epochs=3, max_bad_files=0.5), resume=True)
    assert json.loads((run / "run.json").read_text())["skipped"].keys() == {"train/blue/2.mp4"}


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", "red", seed=1)
    video = Video(path, "x.mp4", 0, "train", None, 8)
    settings = {"sampling": SamplingConfig(4), "transform": TransformConfig(), "size": 32, "flip": False, "seed": 0}
    seen = look_at_all([path, tmp_path / "nowhere.mp4", tmp_path], lambda done, total: None)
    assert seen.keys() == {path}
    clips = TrainClips([video], seen=seen, **settings)  # pyright: ignore[reportArgumentType]
    path.touch()
    assert clips[0, 0][0] == 0
    of_the_same_size(path)
    with pytest.raises(VideoError, match="was replaced after the training began: it had other content of the same size"):
        clips[0, 0]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(VideoError, match=f"it had {seen[path].size} bytes, now it has {seen[path].size + 1}"):
        clips[0, 0]


@pytest.mark.parametrize("size", [0, 1, EDGE, EDGE + 1, 3 * EDGE])
def test_a_change_at_either_end_is_seen_whatever_the_size(tmp_path: Path, size: int) -> None:
    path, times = tmp_path / "x", iter(range(1, 9))

    def write(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, ns=(0, next(times)))

    write(bytes(size))
    seen = look_at(path)
    assert seen is not None
    assert (seen.size, seen.mtime_ns) == (size, 1)
    write(bytes(size))
    assert why_replaced(path, seen) is None
    for place in {0, size - 1} if size else ():
        write(bytes(place) + b"x" + bytes(size - place - 1))
        assert why_replaced(path, seen) is not None
    assert why_replaced(path, Seen(size, 1)) is None  # of a run of before there is no hash
