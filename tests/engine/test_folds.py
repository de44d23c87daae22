"""Official splits as folds: a run on each, a seed's result is their mean, and each video is checked once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dualpath.cli import main
from dualpath.data.clips import TrainClips
from dualpath.data.manifest import Video, read_manifest
from dualpath.engine import compare, one_run, prepare
from dualpath.engine.child import last_step
from dualpath.engine.config import DataConfig, RunConfig
from dualpath.engine.folds import all_videos, fingerprints, read_folds
from dualpath.engine.one_run import Job, RunResult, run_job
from dualpath.errors import DualPathError
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, random_backbone
from official import lay_out, touch, write
from runs import flags, scan_here, write_clip
from tiny import randomise

TAGS = {1: (1, 1, 2, 0), 2: (2, 1, 1, 1), 3: (1, 2, 1, 2)}
"""Of four clips an action: 1 is learnt from, 2 is tested on; the third split tests on twice as many."""
COLOURS = {"brush_hair": "blue", "wave": "red"}
TRAIN, TEST = {1: 4, 2: 6, 3: 4}, {1: 2, 2: 2, 3: 4}
LABELS = ("dualpath", "linear_probe")
ARCHITECTURE = {"embed_dim": 24, "depth": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("official") / "hmdb51"
    for fold, tags in TAGS.items():
        for action in COLOURS:
            lines = [f"F_{action}_f_cm_np1_fr_med_{i}.avi {tag}" for i, tag in enumerate(tags)]
            write(root, {f"splits/{action}_test_split{fold}.txt": "\n".join(lines)})
    for action, colour in COLOURS.items():
        for i in range(4):
            write_clip(root / "videos" / f"F_{action}_f_cm_np1_fr_med_{i}.mp4", colour, seed=i, frames=5)
    return root


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a backbone that looks at pictures of 32 pixels."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        vit = random_backbone(BackboneConfig(EMBEDDED, image_size=32, model_args=ARCHITECTURE)).vit
    randomise(vit, seed=5)
    save_file(vit.state_dict(), path)
    return path


def words(data: Path, weights: Path, output: Path, *more: str) -> list[str]:
    tiny = ["--image-size", "32", "--model-args", json.dumps(ARCHITECTURE), "--epochs", "1", "--num-probe-frames", "0"]
    return ["compare", str(data), "--output", str(output), *flags(weights), *tiny, "--methods", ",".join(LABELS), *more]


def here(job: Job, output: Path, *, progress: Callable[[int, float | None], None]) -> None:
    """`run_in_child` without the child, but as far as the job's way to it."""
    del output
    run_job(Job.from_json(job.to_json()))
    progress(*last_step(job.folder))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a video was read or a run started")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, hmdb51: Path, tiny_weights: Path) -> Path:
    """Two entries on three splits, all in this process; not to be changed."""
    output = tmp_path_factory.mktemp("folds") / "out"
    scans: list[list[str]] = []
    jobs: list[tuple[str, str | None]] = []
    decoded: list[int] = []
    read = TrainClips.__getitem__

    def scan_once(videos: tuple[Video, ...], **options: Any) -> Any:
        scans.append([video.path.name for video in videos])
        return scan_here(videos, **options)

    def run(job: Job, output: Path, **options: Any) -> None:
        jobs.append((job.name, job.kept.relative_to(output).as_posix() if job.kept else None))
        here(job, output, **options)

    def counted(self: TrainClips, key: tuple[int, int]) -> tuple[int, torch.Tensor, int]:
        decoded.append(len(self.videos))
        return read(self, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "scan", scan_once)
        patch.setattr(compare, "run_in_child", run)
        patch.setattr(one_run, "SPEED_SECONDS", 0.0)
        patch.setattr(TrainClips, "__getitem__", counted)
        assert main(words(hmdb51, tiny_weights, output, "--folds", "1,2,3")) == 0
    # Every video once, also the one that the first split does without.
    assert scans == [[f"F_{action}_f_cm_np1_fr_med_{i}.mp4" for action in COLOURS for i in range(4)]]
    told = [(f"{label} split {fold} seed 0", f".clips/seed0-split{fold}") for fold in TAGS for label in LABELS]
    assert jobs == told
    assert decoded == [TRAIN[fold] for fold in TAGS for _ in range(TRAIN[fold])]  # by the first entry, for both
    assert not (output / ".clips").exists()
    return output


@pytest.fixture
def fresh(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "out"))


def result(output: Path) -> dict[str, Any]:
    return json.loads((output / "compare.json").read_text())


def test_a_seed_is_the_mean_of_its_folds(reference: Path) -> None:
    told = result(reference)
    assert told["folds"] == [1, 2, 3]
    assert told["split"] == "test"
    assert told["data"]["videos"] == {str(fold): {"train": TRAIN[fold], "val": 0, "test": TEST[fold]} for fold in TAGS}
    pooled_alike = []
    for label, entry in zip(LABELS, told["entries"], strict=True):
        shares, right = {}, 0
        for fold, run in zip(TAGS, entry["runs"], strict=True):
            folder = reference / label / f"split{fold}" / "seed0"
            evaluation = json.loads((folder / "test" / "evaluation.json").read_text())
            record = json.loads((folder / "run.json").read_text())
            assert (evaluation["data"]["fold"], record["data"]["fold"], record["settings"]["split"]) == (fold, fold, fold)
            assert (evaluation["videos"], sum(record["data"]["counts"]["train"].values())) == (TEST[fold], TRAIN[fold])
            assert (run["seed"], run["fold"], run["top1"], run["videos"]) == (0, fold, evaluation["top1"], TEST[fold])
            shares[fold] = evaluation["top1"]
            right += run["right"]
        mean = (shares[1] + shares[2] + shares[3]) / 3
        assert entry["top1"] == {
            "mean": pytest.approx(mean),
            "sd": None,
            "min": pytest.approx(mean),
            "max": entry["top1"]["mean"],
        }
        assert entry["top1_of_seeds"] == [entry["top1"]["mean"]]
        alone = {str(fold): {"mean": share, "sd": None, "min": share, "max": share} for fold, share in shares.items()}
        assert entry["top1_of_folds"] == alone
        assert entry["own_settings"].keys() <= {"grid", "num_spatial_frames", "bottleneck", "num_probe_frames"}
        pooled_alike.append(right / 8 == pytest.approx(mean))
    assert not all(pooled_alike)  # or nothing above told a mean of means from one over all videos


def test_the_page_says_which_splits(reference: Path) -> None:
    lines = (reference / "compare.md").read_text().splitlines()
    counts = "split 1 with 4 train, 2 test; split 2 with 6 train, 2 test; split 3 with 4 train, 4 test videos of 2 classes"
    assert sum(line.endswith(counts) for line in lines) == 1
    accuracy = "- **accuracy**: mean over the official splits 1, 2, 3 (2, 2, 4 test videos), segment-4, 1x1 views, weights of "
    assert sum(line.startswith(accuracy) for line in lines) == 1
    head = lines.index("| top-1 by split | split 1 | split 2 | split 3 | mean |")
    assert lines[head + 1] == "|---|---:|---:|---:|---:|"
    for place, entry in enumerate(result(reference)["entries"]):
        shares = [f"{100 * run['top1']:.1f} %" for run in entry["runs"]] + [f"{100 * entry['top1']['mean']:.1f} %"]
        assert lines[head + 2 + place] == f"| {' | '.join([entry['label'], *shares])} |"


def test_only_what_is_missing_runs_again(
    fresh: Path,
    reference: Path,
    hmdb51: Path,
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run: list[str] = []

    def noted(job: Job, output: Path, **options: Any) -> None:
        run.append(job.folder.relative_to(output).as_posix())
        here(job, output, **options)

    monkeypatch.setattr(prepare, "scan", _never)
    monkeypatch.setattr(compare, "run_in_child", noted)
    monkeypatch.setattr(one_run, "SPEED_SECONDS", 0.0)
    shutil.rmtree(fresh / "linear_probe" / "split2")
    assert main(words(hmdb51, tiny_weights, fresh, "--folds", "1,2,3", "--resume")) == 0
    assert run == ["linear_probe/split2/seed0"]
    ours, theirs = result(fresh)["entries"], result(reference)["entries"]
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine["top1"], mine["top1_of_folds"]) == (its["top1"], its["top1_of_folds"])
    assert ours[0]["runs"] == theirs[0]["runs"]  # the times too
    assert "dualpath split 2 seed 0  top-1 " in capsys.readouterr().err
    for other in ([], ["--folds", "1,2"], ["--folds", "1"]):
        assert main(words(hmdb51, tiny_weights, fresh, *other, "--resume")) == 2
        told = (
            "compares on other videos, labels or splits (its own are --folds 1,2,3); resume with the same ones, or give a new"
        )
        assert told in capsys.readouterr().err
    assert run == ["linear_probe/split2/seed0"]


def test_without_folds_all_is_as_before(
    hmdb51: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings, folders and results of a comparison that was made before there were folds."""
    asked: list[str] = []
    run = RunResult(
        seed=0, videos=2, right=1, undecodable=0, protocol="segment-4", trainable=1, total=2, gmacs=1.0, versions={},
        step_seconds=1.0, waited_seconds=0.0, train_seconds=1.0, peak_ram_gb=None, peak_gpu_gb=None, clips_per_s=1.0,
        stored="float32", machine="a box",
    )  # fmt: skip

    def read(folder: Path, *, split: str, seed: int) -> RunResult:
        asked.append(folder.relative_to(tmp_path / "out").as_posix())
        return run

    monkeypatch.setattr(compare, "run_in_child", _never)
    monkeypatch.setattr(compare, "read_result", read)
    monkeypatch.setattr(prepare, "scan", scan_here)
    assert main(words(hmdb51, tiny_weights, tmp_path / "out", "--split", "2")) == 0
    made = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert made["data"] == fingerprints({None: read_manifest(hmdb51, val_fraction=0.0, fold=2)})
    assert made["data"] == "2e409f618bee1efaa92b037d88b43ba0e8a5e426e4f19ffdc924bb1bde05d08c"  # as it was
    assert (list(made), made["entries"]["dualpath"]["split"]) == (["data", "split", "entries"], 2)
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(hmdb51, tiny_weights, tmp_path / "out", "--split", "2", "--resume")) == 0
    assert asked == ["dualpath/seed0", "linear_probe/seed0"] * 2
    told = result(tmp_path / "out")
    assert told["data"]["videos"] == {"train": 6, "val": 0, "test": 2}
    assert told.keys().isdisjoint({"folds"})
    assert told["entries"][0].keys().isdisjoint({"top1_of_seeds", "top1_of_folds"})
    assert "fold" not in told["entries"][0]["runs"][0]
    assert "by split" not in (tmp_path / "out" / "compare.md").read_text()


def test_videos_of_all_folds_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds = read_folds(lay_out(tmp_path / "ucf", "ucf101"), RunConfig(), (1, 2, 3))
    assert [manifest.fold for manifest in folds.values()] == [1, 2, 3]
    names = [video.name for video in all_videos(folds).videos]
    assert names == sorted({video.name for manifest in folds.values() for video in manifest.videos})
    assert len(names) == 6
    # Split 1 of HMDB51's form learns from clip 0, tests on clip 1 and leaves clip 2 out; split 2 learns from both.
    root = lay_out(tmp_path / "hmdb", "hmdb51")
    capsys.readouterr()
    folds = read_folds(root, RunConfig(), (1, 2))
    assert capsys.readouterr().err == "warning: there are split files for 2 actions; HMDB51 has 51\n"  # once, not once a split
    assert [len(manifest.videos) for manifest in folds.values()] == [4, 6]
    assert [video.split for video in all_videos(folds).videos] == ["train"] * 6
    assert fingerprints(folds) == {str(fold): fingerprints({None: folds[fold]}) for fold in (1, 2)}
    assert len(set(fingerprints(folds).values())) == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_no_test_video_on_one_split(tmp_path: Path) -> None:
    lists = {"a_test_split1.txt": "x.avi 1\ny.avi 2\n", "a_test_split2.txt": "x.avi 1\n"}
    lists |= {name.replace("a_", "b_"): text.replace("x", "v").replace("y", "w") for name, text in lists.items()}
    root = touch(write(tmp_path / "data", dict(lists)), *(f"{name}.avi" for name in "xyvw"))
    folds = read_folds(root, RunConfig(), (1, 2))
    with pytest.raises(DualPathError, match=r"^split 2 of .*data has neither test nor validation videos of its own"):
        compare._test_split(folds, root)
    assert compare._test_split({1: folds[1]}, root) == "test"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["1,2", "--split", "1"], "--split 1 and --folds 1,2 are both given: a comparison has either one split or several"),
        (["1,2,1"], "the fold 1 is given twice"),
        (["1,4"], "{data}: has no split 4: HMDB51 has the splits 1 to 3"),
        (["0"], "{data}: has no split 0: HMDB51 has the splits 1 to 3"),
        (["1,two"], "folds are '1,two'; give whole numbers with commas between them, such as --folds 1,2,3"),
        ([""], "--folds has an empty value; give one, or leave it out"),
        (
            ["1,2", "--format", "kinetics"],
            "--folds 1,2: {data} has no official splits to choose from, as HMDB51 and UCF101 have; ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_folds_that_cannot_be(
    hmdb51: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(prepare, "scan", _never)
    assert main(words(hmdb51, tiny_weights, tmp_path / "out", "--folds", *more)) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(told) == 1
    assert told[0].startswith(f"dualpath: {said.format(data=hmdb51)}")
    assert not (tmp_path / "out").exists()


def test_data_without_folds(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"--folds 1,2: .* has no official splits to choose from, as HMDB51 and UCF101 have; leave --folds out"
    for data in (clips, lay_out(tmp_path / "k", "kinetics"), lay_out(tmp_path / "l", "lists")):
        with pytest.raises(DualPathError, match=told):
            read_folds(data, RunConfig(), (1, 2))
    with pytest.raises(DualPathError, match="nope: no such file or folder"):
        read_folds(tmp_path / "nope", RunConfig(), (1, 2))
    # Shards know of no split and take whichever is asked for.
    shards = read_manifest(clips)
    monkeypatch.setattr(prepare, "read_manifest", lambda data, **_: shards)
    with pytest.raises(DualPathError, match=told):
        read_folds(Path("http://localhost/shards"), RunConfig(), (1, 2))
    with pytest.raises(DualPathError, match="--split 2 and --folds 1,2 are both given"):
        read_folds(clips, RunConfig(data=DataConfig(split=2)), (1, 2))
