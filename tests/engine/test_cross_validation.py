"""`train --folds N`: figures are those of the runs, each video is judged once, and whatever stops it, --resume goes on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualpath.cli import main
from dualpath.data.manifest import HeldOutFold, Video, read_manifest
from dualpath.data.splits import assign_folds, divided_videos
from dualpath.engine import cross_validation, prepare
from dualpath.engine.checkpoint import load_checkpoint, read_config
from dualpath.engine.child import last_step
from dualpath.engine.config import RunConfig
from dualpath.engine.cross_validation import FoldResult
from dualpath.engine.log import read_log
from dualpath.engine.one_run import Job, run_job
from dualpath.engine.prepare import read_data, read_for
from dualpath.engine.recorded import read_summary
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, random_backbone
from dualpath.report.cross_validation import as_json, cross_validation_table
from official import write
from runs import flags, run_config, scan_here, write_clip
from tiny import randomise

ARCHITECTURE = {"embed_dim": 24, "depth": 2, "num_heads": 2}
BAD = {"train/red/bad.mp4": "is not a video but a text file"}
Figures = dict[str, Any]


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a backbone that looks at pictures of 32 pixels."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        vit = random_backbone(BackboneConfig(EMBEDDED, image_size=32, model_args=ARCHITECTURE)).vit
    randomise(vit, seed=3)
    save_file(vit.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """12 training and 4 validation videos, one that cannot be read, and 2 test videos that are no part of it."""
    root = Path(shutil.copytree(clips, tmp_path_factory.mktemp("data") / "colours"))
    (root / "train/red/bad.mp4").write_text("no video")
    for colour in ("blue", "red"):
        write_clip(root / "test" / colour / "0.mp4", colour, seed=7)
    return root


def words(data: Path, weights: Path, output: Path, *more: str) -> list[str]:
    tiny = ["--image-size", "32", "--model-args", json.dumps(ARCHITECTURE), "--epochs", "2", "--max-bad-files", "0.1"]
    return ["train", str(data), "--output", str(output), *flags(weights), *tiny, *more]


def here(job: Job, output: Path, *, progress: Callable[[int, float | None], None]) -> None:
    """`run_in_child` without the child, but as far as the job's way to it."""
    del output
    assert Job.from_json(job.to_json()) == job
    run_job(Job.from_json(job.to_json()))
    progress(*last_step(job.folder))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a video was read or a run started")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_weights: Path) -> Path:
    """Two folds, in this process; not to be changed."""
    output = tmp_path_factory.mktemp("folds") / "out"
    scans: list[list[str]] = []

    def scan_once(videos: tuple[Video, ...], **options: Any) -> Any:
        scans.append([video.name for video in videos])
        return scan_here(videos, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "scan", scan_once)
        patch.setattr(cross_validation, "run_in_child", here)
        assert main(words(data, tiny_weights, output, "--folds", "2")) == 0
    # Every video once, not once a fold, and no test video.
    assert scans == [[video.name for video in read_manifest(data).videos if video.split != "test"]]
    assert len(scans[0]) == 17
    return output


@pytest.fixture
def fresh(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "out"))


def figures_of(output: Path) -> Figures:
    return json.loads((output / "folds.json").read_text())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def folds_of(data: Path) -> dict[str, int]:
    return assign_folds(divided_videos(read_manifest(data)), num_folds=2, seed=0)


def test_each_video_is_judged_once_by_the_model_that_did_not_learn_from_it(reference: Path, data: Path) -> None:
    folds, rows = folds_of(data), rows_of(reference / "predictions.csv")
    assert [row["video"] for row in rows] == sorted(folds)
    assert {row["video"]: int(row["fold"]) for row in rows} == folds
    for fold in (1, 2):
        of_fold = rows_of(reference / f"fold{fold}" / "validation-last" / "predictions.csv")
        assert of_fold == [{k: v for k, v in row.items() if k != "fold"} for row in rows if row["fold"] == str(fold)]
        record = json.loads((reference / f"fold{fold}" / "run.json").read_text())
        learnt = [name for name, of in folds.items() if of != fold and name not in BAD]
        assert sum(record["data"]["counts"]["train"].values()) == len(learnt)
        told = {name: record["settings"][name] for name in ("num_folds", "held_out_fold", "eval_every", "seed")}
        assert told == {"num_folds": 2, "held_out_fold": fold, "eval_every": 0, "seed": 0}
        assert not (reference / f"fold{fold}" / "best").exists()
        assert len(read_log(reference / f"fold{fold}")[0]) == 2 * -(-len(learnt) // 4)
    (bad,) = [row for row in rows if row["video"] in BAD]
    assert (bad["label"], bad["prediction"], bad["red"]) == ("red", "", "")


def test_figures_are_those_of_the_folds(reference: Path, data: Path) -> None:
    told, rows = figures_of(reference), rows_of(reference / "predictions.csv")
    counts = {"path": str(data), "classes": 2, "videos": 17, "groups": 17, "test_videos_left_out": 2}
    assert told["data"] == counts
    assert told["weights"] == "last epoch"
    shares = []
    for fold in (1, 2):
        those = [row for row in rows if row["fold"] == str(fold)]
        share = sum(row["label"] == row["prediction"] for row in those) / len(those)
        bad = sum(row["video"] in BAD for row in those)
        by_class = [[row["label"] == row["prediction"] for row in those if row["label"] == label] for label in ("blue", "red")]
        assert told["folds"][fold - 1] == {
            "fold": fold,
            "train_videos": 17 - len(those) - (1 - bad),
            "held_out_videos": len(those),
            "undecodable": bad,
            "top1": pytest.approx(share),
            "mean_class_accuracy": pytest.approx(statistics.mean(map(statistics.fmean, filter(None, by_class)))),
        }
        shares.append(share)
    assert sorted(fold["held_out_videos"] for fold in told["folds"]) == [8, 9]
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert 0 < right < 17  # or nothing above was put to the test
    top1, (low, high) = told["top1"], told["top1"]["pooled_interval95"]
    assert (top1["mean"], top1["sd"]) == pytest.approx((statistics.mean(shares), statistics.stdev(shares)))
    assert (top1["right"], top1["videos"], top1["pooled"]) == (right, 17, pytest.approx(right / 17))
    for bound in (low, high):  # Wilson: where the share is 1.96 standard errors of the bound away
        assert abs(bound - right / 17) == pytest.approx(1.959964 * (bound * (1 - bound) / 17) ** 0.5, rel=1e-6)
    assert told["undecodable"] == BAD
    assert sum(map(sum, told["confusion"])) == 17
    assert told["confusion"][1][2] == 1
    assert told["settings"]["epochs"] == 2
    assert "num_folds" not in told["settings"]
    assert "baseline" not in told


def test_a_checkpoint_is_judged_on_its_held_out_videos(
    reference: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in (1, 2):
        target = tmp_path / str(fold)
        line = ["evaluate", str(reference / f"fold{fold}"), str(data), "--output", str(target)]
        assert main([*line, "--precision", "fp32", "--workers", "0"]) == 0
        assert "evaluating the videos of fold" in (said := capsys.readouterr().err)
        assert f"fold {fold} of 2, which the model was not trained on; --split test takes its 2 test videos\n" in said
        ours, theirs = rows_of(target / "predictions.csv"), rows_of(reference / f"fold{fold}/validation-last/predictions.csv")
        assert [(row["video"], row["prediction"]) for row in ours] == [(row["video"], row["prediction"]) for row in theirs]
        split = read_config(reference / f"fold{fold}" / "last")["data_split"]
        assert (split["num_folds"], split["held_out_fold"]) == (2, fold)
    line = ["evaluate", str(reference / "fold1"), str(data), "--split", "test", "--output", str(tmp_path / "t")]
    assert main([*line, "--workers", "0"]) == 0
    assert [row["video"] for row in rows_of(tmp_path / "t" / "predictions.csv")] == ["test/blue/0.mp4", "test/red/0.mp4"]


def test_other_data_that_cannot_be_divided_are_still_judged(reference: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "red" / "0.mp4", "red", seed=1)
    _, spec = load_checkpoint(reference / "fold2")
    manifest = read_for(spec, tmp_path)  # its only video is in the first fold
    assert [(video.name, video.split) for video in manifest.videos] == [("red/0.mp4", "train")]


def test_checkpoints_of_ordinary_runs_have_no_fold(trained: Path) -> None:
    assert not {"num_folds", "held_out_fold"} & read_config(trained / "best")["data_split"].keys()
    assert load_checkpoint(trained)[1].held_out is None
    plain = RunConfig().settings()  # to which nothing is added: older runs and comparisons can still be resumed
    assert RunConfig(held_out=HeldOutFold(5, 2)).settings() == plain | {"num_folds": 5, "held_out_fold": 2}
    assert not {"num_folds", "held_out_fold"} & plain.keys()


def test_finished_folds_are_not_run_again_and_baselines_are_shown(
    fresh: Path,
    reference: Path,
    data: Path,
    tiny_weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    monkeypatch.setattr(cross_validation, "run_in_child", _never)
    line = words(data, tiny_weights, fresh, "--folds", "2", "--resume")
    (fresh / "folds.json").unlink()
    assert main(line) == 0
    said = capsys.readouterr()
    assert "baseline" not in said.out
    assert [text.endswith("finished before") for text in said.err.splitlines() if text.startswith("fold ")] == [
        False,
        True,
        True,
    ]
    ours, theirs = figures_of(fresh), figures_of(reference)
    assert {**ours, "command": ""} == {**theirs, "command": ""}
    assert (fresh / "predictions.csv").read_bytes() == (reference / "predictions.csv").read_bytes()
    for fold, shares in ((1, (0.5, 0.75)), (2, (0.25, 0.5))):
        path = fresh / f"fold{fold}" / "run.json"
        baseline = {name: {"top1": share} for name, share in zip(("mean", "ordered"), shares, strict=True)}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"baseline": baseline}))
    assert main(line) == 0
    told, out = figures_of(fresh), capsys.readouterr().out
    assert told["baseline"] == {"mean": {"top1": 0.375}, "ordered": {"top1": 0.625}}
    assert told["folds"][0]["baseline"] == {"mean": {"top1": 0.5}, "ordered": {"top1": 0.75}}
    (mean,) = [text for text in out.splitlines() if text.startswith("│ mean")]
    assert "37.5 %" in mean
    assert "62.5 %" in mean
    path.write_text("{}")
    assert main(line) == 2
    assert f"{path} is damaged (KeyError('data')); delete {path.parent} and --resume" in capsys.readouterr().err


def test_damage_is_told_of_all_videos(reference: Path) -> None:
    parts = [read_summary(reference / f"fold{fold}" / "validation-last").read() for fold in (1, 2)]
    parts = [replace(part, damaged={1: part.videos[1].name}) for part in parts]
    folds = tuple(FoldResult(fold, 8, part, {}) for fold, part in enumerate(parts, 1))
    result = cross_validation.CrossValidation(Path("data"), RunConfig(), 17, 2, folds)
    named = {part.videos[1].name: part.videos[1].name for part in parts}
    assert result.pooled()[0].summary()["damaged"] == as_json(result, command="")["damaged"] == named
    table = cross_validation_table(result)
    assert "2 of them damaged, the rest was judged:\n" in table
    assert all(f"  {name} {name}" in table for name in named)


def test_the_table(
    fresh: Path, data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "run_in_child", _never)
    assert main(words(data, tiny_weights, fresh, "--folds", "2", "--resume")) == 0
    told, said = figures_of(fresh), capsys.readouterr()
    top1, (low, high) = told["top1"], told["top1"]["pooled_interval95"]
    assert f"top-1 {100 * top1['mean']:.1f} ± {100 * top1['sd']:.1f} %: mean and standard deviation of 2 folds\n" in said.out
    whole = f"top-1 {100 * top1['pooled']:.1f} % of all 17 videos ({top1['right']} right), 95 % interval "
    assert f"{whole}{100 * low:.1f} to {100 * high:.1f} %; segment-4, 1x1 views\n" in said.out
    assert "1 of them could not be decoded and counted as wrong:\n  train/red/bad.mp4 is not a video but a" in said.out
    for fold in told["folds"]:
        shares = [f"{100 * fold[key]:.1f} %" for key in ("top1", "mean_class_accuracy")]
        cells = [str(fold["fold"]), str(fold["train_videos"]), str(fold["held_out_videos"]), *shares]
        assert any([cell.strip() for cell in text.strip("│").split("│")] == cells for text in said.out.splitlines())
    assert "the 2 test videos are left out of the folds\n" in said.err
    assert (
        "the 4 validation videos are divided into folds together with the training videos\n17 videos in 2 folds\n" in said.err
    )
    assert "fold       fold 1 of 2 is held out as val, the others are trained likewise\n" in said.err


def test_signal_reaches_the_child_and_resume_equals_an_uninterrupted_run(
    fresh: Path,
    reference: Path,
    data: Path,
    tiny_weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through a real child."""
    monkeypatch.setattr(prepare, "scan", _never)
    run = fresh / "fold2"
    shutil.rmtree(run)
    shutil.rmtree(fresh / "fold1" / "validation-last")  # killed between its training and its evaluation

    def stop() -> None:
        while last_step(run)[0] < 1:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    line = words(data, tiny_weights, fresh, "--folds", "2", "--resume")
    # The first fold is finished in this process, the second one in a child.
    started = cross_validation.run_in_child
    monkeypatch.setattr(
        cross_validation,
        "run_in_child",
        lambda job, output, *, progress: (here if job.name == "fold 1 of 2" else started)(job, output, progress=progress),
    )
    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop)
    thread.start()
    assert main(line) == 143
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert f"; its state is in {fresh}, --resume continues it" in capsys.readouterr().err
    assert f"stopped by SIGTERM after step {last_step(run)[0]};" in (fresh / "fold2.txt").read_text()
    assert not (run / "validation-last").exists()
    monkeypatch.setattr(cross_validation, "run_in_child", here)
    assert main(line) == 0
    assert "resuming   after step " in capsys.readouterr().err
    assert {**figures_of(fresh), "command": ""} == {**figures_of(reference), "command": ""}
    assert (fresh / "predictions.csv").read_bytes() == (reference / "predictions.csv").read_bytes()
    ours, theirs = (load_file(output / "fold2" / "training_state.safetensors") for output in (fresh, reference))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_nothing_may_change_on_resume(
    fresh: Path, data: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*line: str) -> str:
        assert main(list(line)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    again = words(data, tiny_weights, fresh, "--resume")
    assert f"{fresh} holds a cross-validation of 2 folds, not of 3; resume with --folds 2, or" in refused(
        *again, "--folds", "3"
    )
    said = refused(*again, "--folds", "2", "--lr", "2e-2")
    assert f"{fresh} holds a cross-validation with other settings (lr was 0.001, now 0.02); resume with the same ones" in said
    assert f"{fresh} holds a cross-validation, not a single run: give --folds N too, to resume it" in refused(*again)
    said = refused(*words(data, tiny_weights, fresh, "--folds", "2"))
    assert f"the output folder {fresh} holds another cross-validation; give a new folder, or --resume" in said
    moved = Path(shutil.copytree(data, tmp_path / "data"))
    shutil.move(moved / "train/red/5.mp4", moved / "train/blue/6.mp4")
    said = refused(*words(moved, tiny_weights, fresh, "--folds", "2", "--resume"))
    assert "with other settings (other videos, labels, splits or groups); resume with the same ones" in said
    (fresh / "settings.json").write_text(json.dumps({"entries": {}}))
    assert f"{fresh} holds no cross-validation: its settings.json has no num_folds; give a" in refused(*again, "--folds", "2")
    (fresh / "settings.json").write_text(json.dumps({"num_folds": 2}))
    said = refused("compare", str(data), "--output", str(fresh), "--methods", "linear_probe", "--resume")
    assert f"{fresh} holds no comparison: its settings.json has no entries; give a new folder" in said


# --- what cannot be used


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--folds", "1"], "folds is 1, but at least 2 are needed, as one is held out; give --folds 5"),
        (["--folds", "0"], "folds is 0, but at least 2 are needed"),
        (["--folds", "five"], "--folds five: expected is a whole number"),
        (
            ["--folds", "18"],
            "{data}: 18 folds, but the data has only 17 videos to divide: give --folds 17 or less, or add videos",
        ),
        (["--folds", "5", "--val-fraction", "0.2"], "--folds 5 and --val_fraction 0.2 are both given, but each fold is the "),
        (["--folds", "5", "--num-classes", "3"], "the classes are counted in DATA; --num_classes is for --dry_run without it"),
        (["--folds", "2", "--num-frames", "6"], "6 frames do not fill framesets of 2x2 = 4 frames"),
        (["--folds", "2", "--dry-run", "--num-classes", "3"], "num_classes is 3, but the classes are counted in {data}"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_before_any_video_is_read(
    data: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(data, tiny_weights, tmp_path / "out", *more)) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith(f"dualpath: {said.format(data=data)}")
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_classes_that_a_fold_cannot_learn(
    clips: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    rows = [f"{clips}/train/{colour}/{i}.mp4,{colour},{colour[0]}{i // 3}" for colour in ("blue", "red") for i in range(6)]
    table = tmp_path / "labels.csv"
    line = words(table, tiny_weights, tmp_path / "out", "--folds", "2")
    table.write_text("\n".join(["path,label,group", *rows[:6], *(f"{row[:-1]}0" for row in rows[6:])]))
    assert main(line) == 2
    assert "class 'red' has 6 videos that are all in one group, so the model that holds it out" in capsys.readouterr().err
    table.write_text("\n".join(["path,label,group", *rows[:7]]))
    assert main([*line, "--dry-run"]) == 2
    assert "class 'red' has only one video, so the model that holds it out cannot learn it: add" in capsys.readouterr().err
    table.write_text("\n".join(["path,label,group", *rows]))
    assert main([*line[:-1], "5"]) == 2
    assert "5 folds, but the data has only 4 groups: give --folds 4 or less, or add videos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_class_whose_only_other_video_is_unreadable(
    clips: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)
    monkeypatch.setattr(cross_validation, "run_in_child", _never)
    root = Path(shutil.copytree(clips / "train", tmp_path / "data"))
    (root / "green").mkdir()
    shutil.move(root / "red" / "5.mp4", root / "green" / "0.mp4")
    (root / "green" / "1.mp4").write_text("no video")
    assert main(words(root, tiny_weights, tmp_path / "out", "--folds", "2")) == 2
    assert "class 'green' has only one readable video, so the model that holds it out" in capsys.readouterr().err


def test_missing_weights_are_told_before_the_videos_are_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(data, tmp_path / "nope.safetensors", tmp_path / "out", "--folds", "2")) == 2
    assert "nope.safetensors" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


# --- other ways in


def test_the_plan_is_that_of_a_fold(
    data: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(data, tiny_weights, tmp_path / "out", "--folds", "4", "--dry-run")) == 0
    out = capsys.readouterr().out
    sizes = [
        len(read_data(data, replace(run_config(tiny_weights), held_out=HeldOutFold(4, k))).split("val")) for k in (1, 2, 3, 4)
    ]
    assert sorted(sizes) == [4, 4, 4, 5]
    assert f"data       {17 - sizes[0]} train, {sizes[0]} val videos of 2 classes\n" in out
    assert "fold       fold 1 of 4 is held out as val, the others are trained likewise\n" in out
    assert not (tmp_path / "out").exists()


def test_eval_every_can_be_asked_for(data: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[RunConfig] = []

    def note(data: Path, output: Path, config: RunConfig, num_folds: int, **_: object) -> None:
        assert num_folds == 3
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "cross_validate", note)
    settings = tmp_path / "mine.yaml"
    settings.write_text("eval_every: 5\nfolds: 3\n")
    for more in (["--folds", "3"], ["--folds", "3", "--eval-every=1"], ["--config", str(settings)]):
        assert main(words(data, tiny_weights, tmp_path / "out", *more)) == 130
    assert [config.training.eval_every for config in configs] == [0, 1, 5]
    assert {config.held_out for config in configs} == {None}


def test_official_splits_are_pointed_to(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    root = tmp_path / "hmdb51"
    for action in ("wave", "brush_hair"):
        tags = {"one": 1, "two": 1, "three": 1, "four": 2}
        lines = [f"{film}_{action}_f_cm_np1_fr_med_0.avi {tag}" for film, tag in tags.items()]
        for split in (1, 2, 3):
            write(root, {f"splits/{action}_test_split{split}.txt": "\n".join(lines)})
        write(root, {f"videos/{film}_{action}_f_cm_np1_fr_med_0.avi": "" for film in tags})
    with pytest.raises(AssertionError, match="a video was read"):
        main(words(root, tiny_weights, tmp_path / "out", "--folds", "3"))
    said = capsys.readouterr().err
    told = (
        f"HMDB51 has official splits, and papers report their mean: dualpath compare {root} --folds 1,2,3; here the training "
    )
    assert f"{told}videos of split 1 are divided\nthe 2 test videos are left out of the folds\n" in said
    assert "6 videos in 3 folds\n" in said
