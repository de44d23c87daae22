"""Comparisons: the figures are those of the runs, and whatever stops one, --resume ends with the same figures."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dualpath.cli import main
from dualpath.data.clips import TrainClips
from dualpath.data.manifest import Video, read_manifest
from dualpath.engine import compare, one_run, prepare
from dualpath.engine.child import last_step
from dualpath.engine.config import RunConfig
from dualpath.engine.entries import make_entries
from dualpath.engine.log import read_log
from dualpath.engine.many_runs import read_settings
from dualpath.engine.one_run import Job, inference_speed, read_result, run_job
from dualpath.errors import DualPathError, VideoError
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, random_backbone
from dualpath.report.compare import as_json, markdown
from dualpath.report.rows import make_rows
from runs import flags, scan_here
from tiny import randomise
from wrong_json import spoiled

SEEDS = (0, 3)
LABELS = ("dualpath", "linear_probe", "spatial")


ARCHITECTURE = {"embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a backbone that looks at pictures of 32 pixels."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        vit = random_backbone(BackboneConfig(EMBEDDED, image_size=32, model_args=ARCHITECTURE)).vit
    randomise(vit, seed=3)  # enough to tell colours
    save_file(vit.state_dict(), path)
    return path


TINY = ["--image-size", "32", "--model-args", json.dumps(ARCHITECTURE)]


def words(clips: Path, weights: Path, output: Path, *more: object) -> list[str]:
    methods = ["--methods", "dualpath,linear_probe", "--num-probe-frames", "0", "--seeds", ",".join(map(str, SEEDS))]
    return ["compare", str(clips), "--output", str(output), *flags(weights), *TINY, *methods, "--epochs", "2", *map(str, more)]


def here(job: Job, output: Path, *, progress: Callable[[int, float | None], None]) -> None:
    """`run_in_child` without the child."""
    del output
    run_job(job)
    progress(*last_step(job.folder))


@pytest.fixture(scope="module")
def spatial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("entries") / "entries.yaml"
    own = "method: dualpath, paths: spatial, num_spatial_frames: 1, bottleneck: 4, lr: 2e-2, num_frames: 2"
    path.write_text(f"spatial: {{{own}}}\n")
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path, spatial: Path) -> Path:
    """Three entries with two seeds, all in this process; not to be changed."""
    output = tmp_path_factory.mktemp("compare") / "out"
    scans: list[int] = []
    decoded: list[tuple[int, int]] = []

    def scan_once(videos: tuple[Video, ...], **options: Any) -> Any:
        scans.append(len(videos))
        return scan_here(videos, **options)

    with pytest.MonkeyPatch.context() as patch:
        count_decoded(patch, decoded)
        patch.setattr(prepare, "scan", scan_once)
        patch.setattr(compare, "run_in_child", here)
        patch.setattr(one_run, "SPEED_SECONDS", 0.0)
        assert main(words(clips, weights, output, "--entries", spatial)) == 0
    assert scans == [16]  # every video once, not once a run
    # 2 epochs of 12 clips of 4 frames for two entries, and of 2 frames for the third.
    assert sorted(decoded) == sorted((seed, frames) for seed in SEEDS for frames in (4, 2) for _ in range(2 * 12))
    assert not (output / ".clips").exists()
    return output


def count_decoded(patch: pytest.MonkeyPatch, decoded: list[tuple[int, int]], *, stop_after: int | None = None) -> None:
    """Notes (seed, frames) of each training clip that is decoded; after `stop_after` of them a video is broken."""
    read = TrainClips.__getitem__

    def noted(self: TrainClips, key: tuple[int, int]) -> tuple[int, torch.Tensor, int]:
        if len(decoded) == stop_after:
            raise VideoError(self.videos[key[1]].path, "is broken")
        decoded.append((self.seed, self.sampling.num_frames))
        return read(self, key)

    patch.setattr(TrainClips, "__getitem__", noted)


@pytest.fixture
def fresh(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "out"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    monkeypatch.setattr(compare, "run_in_child", here)
    monkeypatch.setattr(one_run, "SPEED_SECONDS", 0.0)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a video was read or a run started")


def result(output: Path) -> dict[str, Any]:
    return json.loads((output / "compare.json").read_text())


def steady(value: Any) -> Any:
    """Without what is measured anew each time, and without the command, which names the folder."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in ("measured", "command")}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def test_figures_are_those_of_the_runs(reference: Path, clips: Path) -> None:
    told = result(reference)
    assert told["split"] == "val"
    assert told["data"] == {"path": str(clips), "classes": 2, "videos": {"train": 12, "val": 4, "test": 0}}
    assert [entry["label"] for entry in told["entries"]] == list(LABELS)
    seen = set()
    for entry in told["entries"]:
        shares = []
        for seed, run in zip(SEEDS, entry["runs"], strict=True):
            folder = reference / entry["label"] / f"seed{seed}"
            evaluation = json.loads((folder / "val" / "evaluation.json").read_text())
            record = json.loads((folder / "run.json").read_text())
            assert (run["seed"], run["top1"], run["videos"]) == (seed, evaluation["top1"], 4)
            assert run["top1_interval95"][0] <= run["top1"] <= run["top1_interval95"][1] + 1e-9
            assert record["settings"]["seed"] == seed
            assert (record["settings"]["val_fraction"], record["settings"]["eval_every"]) == (0.0, 0)
            assert entry["gmacs"] == {"view": record["plan"]["gmacs"], "views": 1, "video": record["plan"]["gmacs"]}
            shares.append(evaluation["top1"])
            lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
            steps = [line["seconds"] - line["waited"] for line in lines if "loss" in line]
            assert len(steps) == 6
            assert all(0 <= line["waited"] <= line["seconds"] for line in lines if "loss" in line)
            assert run["measured"]["step_seconds"] == pytest.approx(np.median(steps[2:]))
        top1 = entry["top1"]
        assert (top1["mean"], top1["sd"]) == pytest.approx((np.mean(shares), np.std(shares, ddof=1)))
        assert (top1["min"], top1["max"]) == (min(shares), max(shares))
        tensors = load_file(reference / entry["label"] / "seed0" / "last" / "adapter_model.safetensors")
        assert entry["trainable_params"] == sum(value.numel() for value in tensors.values())
        seen.update(shares)
    assert len(seen) > 1  # or nothing above was put to the test


def test_entries_differ_in_what_they_say(reference: Path) -> None:
    entries = {entry["label"]: entry for entry in result(reference)["entries"]}
    common = {"grid": [2, 2], "num_spatial_frames": 1, "bottleneck": 8}
    assert entries["dualpath"]["own_settings"] == common
    assert entries["linear_probe"]["own_settings"] == {"num_probe_frames": 0}
    own = {"paths": "spatial", "num_spatial_frames": 1, "bottleneck": 4, "lr": 2e-2, "num_frames": 2}
    assert entries["spatial"]["own_settings"] == own
    assert [entries[label]["learning_rate"] for label in LABELS] == [1e-3, 1e-3, 2e-2]
    assert [entries[label]["protocol"] for label in LABELS] == [f"segment-{frames}, 1x1 views" for frames in (4, 4, 2)]
    # One spatial frame, the frameset left out: half of DualPath's two pictures; the probe looks at four.
    costs = [entries[label]["gmacs"]["view"] for label in LABELS]
    assert costs[1] / costs[0] == pytest.approx(2, rel=0.1)
    assert costs[2] / costs[0] == pytest.approx(0.5, rel=0.1)
    record = json.loads((reference / "spatial" / "seed3" / "run.json").read_text())["settings"]
    assert {name: record[name] for name in own} == own


def test_finished_is_not_run_again(
    fresh: Path, reference: Path, clips: Path, weights: Path, spatial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    monkeypatch.setattr(compare, "run_in_child", _never)
    (fresh / "compare.json").unlink()
    assert main([*words(clips, weights, fresh, "--entries", spatial), "--resume"]) == 0
    ours, theirs = result(fresh), result(reference)
    ours.pop("command")
    theirs.pop("command")
    assert ours == theirs  # the times too


@pytest.mark.usefixtures("in_process")
def test_what_a_kill_leaves_is_made_again(fresh: Path, reference: Path, clips: Path, weights: Path, spatial: Path) -> None:
    (fresh / "dualpath" / "seed0" / "measured.json").unlink()  # between the training and the record
    shutil.rmtree(fresh / "dualpath" / "seed3" / "val")  # before the evaluation
    (fresh / "linear_probe" / "seed3" / "training_state.safetensors").unlink()  # before the first state
    (fresh / "linear_probe" / "seed3" / "measured.json").unlink()
    shutil.rmtree(fresh / "spatial")
    (fresh / ".compare.json.7.tmp").write_text("half")
    assert main([*words(clips, weights, fresh, "--entries", spatial), "--resume"]) == 0
    ours, theirs = steady(result(fresh)), steady(result(reference))
    missing = ours["unequal"].pop()
    assert missing == "Memory is missing where a run was broken off between its last step and its record."
    assert ours == theirs
    memory = [[run["measured"]["peak_ram_gb"] for run in entry["runs"]] for entry in result(fresh)["entries"]]
    assert [[value is None for value in row] for row in memory] == [[True, False], [False, False], [False, False]]
    assert not list(fresh.glob(".*"))


@pytest.mark.usefixtures("in_process")
def test_seeds_can_be_added_but_nothing_changed(
    fresh: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = result(fresh)["entries"][0]["runs"]
    more = words(clips, weights, fresh, "--resume", "--seeds", "0,3,4")
    assert main(more) == 0
    assert "dualpath seed 3          top-1 " in capsys.readouterr().err
    entry, probe = result(fresh)["entries"]  # the third one is kept, but was not asked for
    assert entry["runs"][:2] == before
    assert [run["seed"] for run in entry["runs"]] == [run["seed"] for run in probe["runs"]] == [0, 3, 4]
    assert main([*more, "--lr", "2e-2"]) == 2
    assert "compares dualpath with other settings (lr was 0.001, now 0.02); resume with" in capsys.readouterr().err
    changed = words(clips, weights, fresh, "--resume", "--bottleneck", "4")
    assert main(changed) == 2
    assert "compares dualpath with other settings (bottleneck was 8, now 4)" in capsys.readouterr().err
    shutil.rmtree(fresh / "linear_probe")  # then it begins anew, and nothing is in the way
    assert main(words(clips, weights, fresh, "--resume", "--num-probe-frames", "2", "--seeds", "0")) == 0
    assert result(fresh)["entries"][1]["own_settings"] == {"num_probe_frames": 2}
    data = shutil.copytree(clips, fresh.parent / "data")
    shutil.move(data / "train/red/5.mp4", data / "train/blue/6.mp4")
    assert main(words(data, weights, fresh, "--resume")) == 2
    assert "compares on other videos, labels or splits" in capsys.readouterr().err


def test_signal_reaches_the_child_and_resume_equals_an_uninterrupted_run(
    fresh: Path,
    reference: Path,
    clips: Path,
    weights: Path,
    spatial: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through a real child."""
    run = fresh / "dualpath" / "seed3"
    shutil.rmtree(run)

    def stop() -> None:
        while last_step(run)[0] < 1:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    again = [*words(clips, weights, fresh, "--entries", spatial), "--resume"]
    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop)
    thread.start()
    assert main(again) == 143
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert f"; its state is in {fresh}, --resume continues it" in capsys.readouterr().err
    assert f"stopped by SIGTERM after step {last_step(run)[0]};" in (fresh / "dualpath" / "seed3.txt").read_text()
    assert not (run / "measured.json").exists()
    monkeypatch.setattr(compare, "run_in_child", here)
    assert main(again) == 0
    assert "resuming   after step " in capsys.readouterr().err
    assert steady(result(fresh)) == steady(result(reference))


def test_a_job_survives_its_way(reference: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(compare, "read_result", lambda folder, *, split, seed: None)
    monkeypatch.setattr(compare, "run_in_child", lambda job, output, *, progress: jobs.append(job))
    with pytest.raises(AssertionError, match="has no result"):
        main([*words(clips, weights, reference), "--resume"])
    (job,) = jobs
    assert Job.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()


def test_speed_is_a_median(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dualpath.engine.predict import load

    classifier = load(reference / "spatial" / "seed0" / "last")
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 40.0])  # batches of 1, 2 and 20 seconds
    monkeypatch.setattr(one_run, "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(one_run.time, "perf_counter", lambda: next(ticks))
    assert inference_speed(classifier) == 8 / 2


# --- decoded clips that are shared

SHARED = "The runs of a seed share decoded clips: the first to draw them decodes them for the others, waits longer for "


def same_runs(ours: Path, theirs: Path, *, labels: Sequence[str], seed: int) -> bool:
    """To the last bit: weights, predictions and losses."""
    for label in labels:
        one, other = (output / label / f"seed{seed}" for output in (ours, theirs))
        if (one / "val" / "predictions.csv").read_bytes() != (other / "val" / "predictions.csv").read_bytes():
            return False
        mine, its = (load_file(run / "training_state.safetensors") for run in (one, other))  # the moments too
        if mine.keys() != its.keys() or not all(torch.equal(value, its[name]) for name, value in mine.items()):
            return False
        if [line["loss"] for line in read_log(one)[0]] != [line["loss"] for line in read_log(other)[0]]:
            return False
    return True


def test_shared_clips_are_told(reference: Path) -> None:
    assert [remark.startswith(SHARED) for remark in result(reference)["unequal"]].count(True) == 1
    records = [json.loads((reference / label / "seed0" / "run.json").read_text()) for label in LABELS]
    assert [record["shared_clips"] for record in records] == [True, True, False]


@pytest.mark.parametrize("store", ["0", "8"], ids=["off", "full disk"])
def test_results_do_not_depend_on_the_store(
    reference: Path,
    clips: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    in_process: None,
    store: str,
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(prepare, "scan", scan_here)
    decoded: list[tuple[int, int]] = []
    count_decoded(monkeypatch, decoded)
    output = tmp_path / "out"
    assert main(words(clips, weights, output, "--seeds", "3", "--clip-store", store)) == 0
    assert decoded == [(3, 4)] * 2 * (2 * 12)
    assert same_runs(output, reference, labels=("dualpath", "linear_probe"), seed=3)
    assert not any(remark.startswith(SHARED) for remark in result(output)["unequal"])
    assert not (output / ".clips").exists()
    said = capsys.readouterr().err
    full_disk = f"decoded clips cannot be kept in {output}/.clips/seed3 (No space left on device): this run decodes its own"
    assert said.count(full_disk) == 2 * (store == "8")


@pytest.mark.usefixtures("in_process")
def test_a_run_that_was_stopped_goes_on_with_the_clips_that_it_left(
    fresh: Path, reference: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("dualpath", "linear_probe"):
        shutil.rmtree(fresh / label / "seed3")
    again = words(clips, weights, fresh, "--resume")
    decoded: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        count_decoded(patch, decoded, stop_after=18)  # in the second of three batches of the second epoch
        assert main(again) == 2
    assert "mend them, or leave them out with --max_bad_files" in capsys.readouterr().err
    assert [path.name for path in (fresh / ".clips").iterdir()] == ["seed3"]
    with pytest.MonkeyPatch.context() as patch:
        count_decoded(patch, decoded)
        assert main(again) == 0
    assert "resuming   after step 4 of 6" in capsys.readouterr().err
    assert decoded == [(3, 4)] * (2 * 12)  # both sessions and both entries together
    assert same_runs(fresh, reference, labels=LABELS, seed=3)
    assert not (fresh / ".clips").exists()


# --- bad files


def test_a_bad_test_file_counts_as_wrong_in_every_run(
    clips: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)
    monkeypatch.setattr(compare, "run_in_child", here)
    monkeypatch.setattr(one_run, "SPEED_SECONDS", 0.0)
    data = Path(shutil.copytree(clips, tmp_path / "data"))
    (data / "val/red/bad.mp4").write_text("no video")
    line = words(data, weights, tmp_path / "out", "--seeds", "0", "--epochs", "1")
    assert main(line) == 2
    assert "1 of 17 videos cannot be used" in capsys.readouterr().err  # the limit is one for the files of all splits
    assert main([*line, "--max-bad-files", "0.06"]) == 0
    reason = {"val/red/bad.mp4": "is not a video but a text file"}
    for label in ("dualpath", "linear_probe"):
        folder = tmp_path / "out" / label / "seed0"
        told = json.loads((folder / "val" / "evaluation.json").read_text())
        assert (told["videos"], told["quarantined"], told["undecodable"]) == (5, 1, reason)
        assert [sum(row) for row in told["confusion"]] == [2, 3]
        assert told["confusion"][1][-1] == 1
        assert json.loads((folder / "run.json").read_text())["data"]["left_out"] == reason
    assert all(run["videos"] == 5 for entry in result(tmp_path / "out")["entries"] for run in entry["runs"])


# --- what cannot be used


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--methods", "dualpath,foo"], "unknown method 'foo'; there are "),
        (["--methods", "dualpath,dualpath"], "the method dualpath is given twice; to compare it with itself, label both in a"),
        (["--methods", ""], "--methods has an empty value; give one, or leave it out"),
        (["--seeds", ""], "--seeds has an empty value; give one, or leave it out"),
        (["--seeds", "0,one"], "seeds are '0,one'; give whole numbers with commas between them"),
        (["--seeds", "0,2,0"], "the seed 0 is given twice"),
        (["--seeds", "-1"], "seeds are [-1]; give whole numbers from 0 on"),
        (["--seed", "1"], "unknown option --seed (did you mean --seeds?)"),
        (["--methods", "linear_probe"], "none of linear_probe has an option bottleneck; leave it out, or give it in the file"),
        (["--num-frames", "6"], "dualpath: 6 frames do not fill framesets of 2x2 = 4 frames"),
        (["--bottleneck", "wide"], "dualpath: bottleneck is 'wide', but it must be a whole number or null"),
        (["--backbone", "resnet18"], "dualpath, linear_probe: backbone resnet18 cannot be built with "),
        (["--clip-store", "-1"], "clip_store is -1.0, but it must be a number of GB, 0 (off) or more"),
        (["--epochs", "0"], "epochs is 0, but it must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_before_any_video_is_read(
    clips: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(clips, weights, tmp_path / "out", *more)) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"dualpath: {said}")
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_nothing_to_compare(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(clips), "--output", str(tmp_path / "out")]) == 2
    assert "nothing to compare: give methods with --methods or entries in a file with --entries" in capsys.readouterr().err


def test_common_settings_from_a_file(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "common.yaml"
    file.write_text("methods: dualpath\nprotocol: segment-6\ngrid: [2, 2]\n")
    line = ["compare", str(clips), "--output", str(tmp_path / "out"), "--config", str(file)]
    for more, said in (
        ([], "dualpath: 6 frames do not fill framesets of 2x2 = 4 frames"),
        (["--grid", "3x3"], "dualpath: 6 frames do not fill framesets of 3x3 = 9 frames"),
        (["--num-frames", "9"], "dualpath: 9 frames do not fill framesets of 2x2 = 4 frames"),
        (["--protocol", "segment-8", "--sampling-rate", "2"], "protocol segment-8 has no sampling_rate, but sampling_rate is "),
    ):
        assert main([*line, *more]) == 2
        assert capsys.readouterr().err.startswith(f"dualpath: {said}")
    file.write_text("views: 3x1\nnum_crops: 3\n")
    assert main(line) == 2
    assert capsys.readouterr().err.startswith(f"dualpath: {file}: views 3x1 means num_crops 1, but num_crops is given as 3")


def test_all_models_that_cannot_be_built_are_told_at_once(
    clips: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    (tmp_path / "e.yaml").write_text(
        "good: {method: linear_probe, num_probe_frames: 1}\n"
        "cut: {method: dualpath, grid: 3x3, num_frames: 9}\n"
        "other: {method: linear_probe, num_probe_frames: 1, image_size: 40}\n"
    )
    line = [
        "compare",
        str(clips),
        "--output",
        str(tmp_path / "out"),
        *flags(weights),
        *TINY,
        "--entries",
        str(tmp_path / "e.yaml"),
    ]
    of_dualpath = {"--grid", "--num-spatial-frames", "--bottleneck"}  # which say nothing without --methods
    line = [word for at, word in enumerate(line) if not of_dualpath & {word, line[at - 1]}]
    assert main(line) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "dualpath: 2 of the 3 entries cannot be trained:"
    assert lines[1].startswith("  cut: frames of 32x32 pixels cannot be cut into a grid of 3x3")
    assert lines[2].startswith("  other: ")
    assert "40" in lines[2]
    assert not (tmp_path / "out").exists()


def test_folder_and_data(
    clips: Path,
    weights: Path,
    tmp_path: Path,
    reference: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)

    def refused(*line: str) -> str:
        assert main(list(line)) == 2
        return capsys.readouterr().err

    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for resume in ([], ["--resume"]):
        assert "holds other files (mine.txt ...); give a new folder\n" in refused(*words(clips, weights, full), *resume)
    assert f"{full / 'mine.txt'} is a file" in refused(*words(clips, weights, full / "mine.txt"))
    assert "holds another comparison; give a new folder, or --resume" in refused(*words(clips, weights, reference))
    said = refused(*words(clips / "train", weights, tmp_path / "out"))
    assert "has neither test nor validation videos of its own, and a share split off by the seed" in said
    assert "no such file or folder" in refused(*words(tmp_path / "nope", weights, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_failure_of_a_run_is_told_in_its_words(
    fresh: Path, clips: Path, weights: Path, spatial: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualpath.engine import child

    shutil.rmtree(fresh / "dualpath" / "seed3")
    script = "import sys; sys.stdin.readline(); print('warned\\ndualpath: the loss is odd', file=sys.stderr); sys.exit({})"
    popen = child.subprocess.Popen

    def instead(line: list[str], code: str, **options: Any) -> Any:
        return popen([line[0], "-c", code], **options)

    line = [*words(clips, weights, fresh, "--entries", spatial), "--resume"]
    monkeypatch.setattr(child.subprocess, "Popen", lambda told, **options: instead(told, script.format(2), **options))
    assert main(line) == 2
    assert f"dualpath: dualpath seed 3: the loss is odd; the other runs are kept in {fresh}\n" in capsys.readouterr().err
    dead = "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(child.subprocess, "Popen", lambda told, **options: instead(told, dead, **options))
    assert main(line) == 2
    assert "dualpath seed 3 was ended from outside or crashed (SIGKILL); look at the memory and at " in capsys.readouterr().err
    monkeypatch.setattr(child.subprocess, "Popen", lambda told, **options: instead(told, script.format(1), **options))
    with pytest.raises(RuntimeError, match="failed with exit code 1; its output is in"):
        main(line)


def test_damaged_result(fresh: Path, clips: Path, weights: Path, spatial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*words(clips, weights, fresh, "--entries", spatial), "--resume"]
    damaged = fresh / "dualpath" / "seed0" / "val" / "evaluation.json"
    damaged.write_text("{}")
    assert main(line) == 2
    said = capsys.readouterr().err
    assert f"{damaged.parents[1]} holds a damaged record (KeyError('confusion')); delete it and --resume to run it" in said
    (fresh / "settings.json").write_text("[1")
    assert main(line) == 2
    assert f"{fresh / 'settings.json'} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["measured.json", "val/evaluation.json", "run.json"])
def test_whatever_a_result_holds_is_shown_or_refused(name: str, fresh: Path) -> None:
    folder = fresh / "dualpath" / "seed0"
    entries, told = make_entries({"dualpath": {"method": "dualpath"}}, base=RunConfig()), (folder / name).read_text()
    shown = compare.Comparison(
        Path("data"), 2, {None: {"train": 12, "val": 4, "test": 0}}, "val", RunConfig(), entries, (0,), {}
    )
    for changed in spoiled(json.loads(told)):
        (folder / name).write_text(json.dumps(changed))
        with suppress(DualPathError):
            if (result := read_result(folder, split="val", seed=0)) is not None:
                shown = replace(shown, results={"dualpath": (result,)})
                assert as_json(shown, make_rows(shown), command="")
                assert markdown(shown, make_rows(shown), command="")


def test_whatever_settings_hold_is_compared_or_refused(fresh: Path, clips: Path) -> None:
    manifests, entries = {None: read_manifest(clips)}, make_entries({"dualpath": {"method": "dualpath"}}, base=RunConfig())
    for changed in spoiled(compare._settings(manifests, "val", entries, None, fresh), depth=3):
        (fresh / "settings.json").write_text(json.dumps(changed))
        with suppress(DualPathError):
            before = read_settings(fresh, resume=True, what="comparison", key="entries")
            compare._settings(manifests, "val", entries, before, fresh)
