"""The command line as a user meets it: what it says, where it says it, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from safetensors.torch import load_file

import dualpath
from dualpath.cli import main
from dualpath.data.checking import check
from dualpath.engine import prepare
from dualpath.engine.record import Record
from dualpath.engine.recorded import read_summary
from dualpath.nn import hub
from dualpath.video.decode import probe
from runs import ask_here, flags, scan_here, write_clip

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs words that must end with exit code 2; gives the last thing said on stderr, nothing being on stdout."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("dualpath: ") == 1
        assert "Traceback" not in said.err
        return said.err.split("dualpath: ")[1].rstrip("\n")

    return run


@pytest.fixture
def train_words(clips: Path, weights: Path, tmp_path: Path) -> Callable[..., list[Any]]:
    def words(*more: object, data: Path = clips, output: Path | None = None) -> list[Any]:
        return ["train", data, "--output", output or tmp_path / "run", *flags(weights), "--epochs", "1", *more]

    return words


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from dualpath.cli import main; main([word for word in sys.argv[1:]]); "
        "print(sorted({'torch', 'numpy', 'timm', 'av', 'rich', 'jsonargparse'} & set(sys.modules)), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("usage: dualpath VERB ...\n")
    assert all(f"\n  {verb}" in told.stdout for verb in ("train", "evaluate", "predict", "info", "demo", "doctor"))
    assert told.stderr == "[]\n"
    told = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == (f"{dualpath.__version__}\n", "[]\n")


def test_a_run_as_a_user_sees_it(clips: Path, weights: Path, tmp_path: Path) -> None:
    """Through real processes: results on stdout, the story on stderr, and not one warning of a library."""

    def run(*words: object) -> tuple[str, list[str]]:
        line = [sys.executable, "-m", "dualpath.cli", *map(str, words)]
        told = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert told.returncode == 0, told.stderr
        return told.stdout, told.stderr.splitlines()

    output = tmp_path / "run"
    out, err = run("train", clips, "--output", output, *flags(weights), "--epochs", 1)
    assert re.fullmatch(
        r"trained 1 epoch, validation top-1 (\S+) %, mean per class \S+ % after the last \(segment-4, 1x1 views\), top-1 \1 % "
        r"at most; best/ was picked "
        rf"on these very videos, so judge it on others; checkpoints in {re.escape(str(output))}\n",
        out,
    )
    starts = ["checking videos 16/16", "method ", "parameters ", "a view ", "data ", "batch ", "length ", "memory ", "device ",
              "note: 4 validation videos are few: ", "training 3/3 epoch 1/1 loss "]  # fmt: skip
    assert len(err) == len(starts), err
    assert all(line.startswith(start) for line, start in zip(err, starts, strict=True)), err
    assert "clips/s" in err[-1]
    assert "decoded frames/s" in err[-1]
    out, err = run("predict", output, clips / "val/red/0.mp4", "--json")
    assert json.loads(out)[0]["predictions"][0].keys() == {"label", "score"}
    assert err == []


def test_hyphens_and_underscores_are_the_same(train_words: Callable[..., list[Any]], refused: Refused) -> None:
    assert refused(*train_words("--batch-size", 0)) == "batch_size is 0, but it must be at least 1"
    assert refused(*train_words("--batch_size=0")) == "batch_size is 0, but it must be at least 1"


def test_yaml_config_and_flags_that_win(train_words: Callable[..., list[Any]], tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("seed: 5\nclip_grad: 0.5\nlabel_smoothing: 0.0\n")
    words = train_words("--seed", 7, "--config", tmp_path / "small.yaml")
    assert main([str(word) for word in words]) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (settings["seed"], settings["clip_grad"], settings["label_smoothing"]) == (7, 0.5, 0.0)


def test_a_protocol_by_name_stands_in_all_that_a_run_leaves(
    train_words: Callable[..., list[Any]], refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text("protocol: dense-4x2\nviews: 2x3\n")
    words = [str(word) for word in train_words("--config", tmp_path / "small.yaml")]
    at = words.index("--num-frames")  # of the flags that all tests share
    del words[at : at + 2]
    assert main(words) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["protocol"] == "dense-4x2, 2x3 views"
    kept = {key: record["settings"][key] for key in ("num_frames", "sampling", "sampling_rate", "num_clips", "num_crops")}
    assert kept == {"num_frames": 4, "sampling": "dense", "sampling_rate": 2, "num_clips": 2, "num_crops": 3}
    config = json.loads((tmp_path / "run" / "best" / "adapter_config.json").read_text())
    assert config["sampling"] == {"protocol": "dense-4x2", "num_frames": 4, "sampling": "dense", "sampling_rate": 2}
    assert config["training"]["val_protocol"] == "dense-4x2, 2x3 views"
    assert "Clips: dense-4x2, 4 frames of " in (tmp_path / "run" / "best" / "README.md").read_text()
    assert refused(*words, "--protocol", "dense-4x2", "--sampling-rate", 3) == (
        "protocol dense-4x2 means sampling_rate 2, but sampling_rate is given as 3; leave one of them out"
    )


def test_dry_run_tells_the_plan_and_leaves_nothing(
    train_words: Callable[..., list[Any]], refused: Refused, tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--backbone", "vit_tiny_patch16_224", "--model-args", "depth=2", "--dry-run"]
    assert main(words) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(told) == ["method", "parameters", "a", "data", "batch", "length", "memory", "device"]
    assert told["data"] == "400 classes, no videos given"
    assert told["length"] == "30 epochs, at least 400 steps"
    assert main([*words, "--num-classes", "11", "--method=linear_probe"]) == 0
    said = capsys.readouterr().out
    assert "data       11 classes" in said
    assert f"trainable params: {192 * 11 + 11:,} ||" in said
    # With DATA its labels are read, but neither videos nor weights.
    full = [str(word) for word in train_words("--dry_run", "--batch_size", 8, "--weights", "/nope")]
    assert main(full) == 0
    said = capsys.readouterr()
    assert "data       12 train, 4 val videos of 2 classes\n" in said.out
    assert "length     1 epoch, 2 steps, 2 of them warm-up\n" in said.out
    assert said.err == ""
    assert not (tmp_path / "run").exists()
    assert refused(*full, "--num_classes", 5) == (
        f"num_classes is 5, but the classes are counted in {clips}; give one of the two"
    )
    assert refused(*words, "--num_classes", 1) == "num_classes is 1, but it must be at least 2"
    assert refused(*train_words("--num_classes", 5)) == (
        "the classes are counted in DATA; --num_classes is for --dry_run without it"
    )
    assert refused(*words, "--num_frames", 6).startswith("6 frames do not fill framesets of 4x4 = 16 frames")


def test_options_of_the_chosen_method_alone(
    train_words: Callable[..., list[Any]], refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = r"--num_probe_frames is an option of linear_probe.*, not of dualpath; leave it out, or choose --method linear_probe"
    assert re.match(wrong, refused("train", "--num-probe-frames", 4, "clips", "--dry-run"))
    file = tmp_path / "probe.yaml"
    file.write_text("num_probe_frames: 4\nnum_classes: 5\n")
    assert re.match(f"{file}: {wrong}", refused("train", "--config", file, "--dry-run"))
    file.write_text("method: linear_probe\nnum_probe_frames: 4\nbackbone: vit_tiny_patch16_224\nmodel_args: {depth: 2}\n")
    assert main(["train", "--dry-run", "--config", str(file)]) == 0
    assert "method     linear_probe on vit_tiny_patch16_224" in capsys.readouterr().out
    assert "--num_probe_frames is an option of " in refused("train", "--config", file, "--method", "dualpath", "--dry-run")
    for method, there, not_there in (
        ("dualpath", "--bottleneck N", "probe_frames"),
        ("linear_probe", "probe_frames N", "grid"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["train", "--method", method, "--help"])
        assert end.value.code == 0
        said = capsys.readouterr().out
        assert f"options of {method}:" in said
        assert there in said
        assert not_there not in said
        assert "dualpath train --method NAME --help" in said
    assert refused("train", "--method", "all", "--dry-run").startswith("unknown method 'all'; there are dualpath, ")


def test_info(refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["info", "--backbone", "vit_tiny_patch16_224", "--model-args", "depth=2", "--num-classes", "11"]
    assert main([*words, "--json", "--method", "linear_probe", "--num-probe-frames", "2", "--num-clips", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {key: told["backbone"][key] for key in ("size", "patch", "depth", "width")} == {
        "size": 224, "patch": 16, "depth": 2, "width": 192,
    }  # fmt: skip
    assert told["protocol"] == "segment-16, 3x1 views"
    (probe,) = told["methods"]
    assert (probe["method"], probe["trainable"]) == ("linear_probe", 192 * 11 + 11)
    assert probe["gmacs"] == pytest.approx(3 * probe["gmacs_a_view"])
    assert main([*words, "--json", "--protocol", "dense-32x2", "--views", "5x3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocol"] == "dense-32x2, 5x3 views"
    assert told["methods"][0]["gmacs"] == pytest.approx(15 * told["methods"][0]["gmacs_a_view"])
    assert refused(*words, "--protocol", "dense-32x2", "--num-frames", 16) == (
        "protocol dense-32x2 means num_frames 32, but num_frames is given as 16; leave one of them out"
    )
    assert main([*words, "--method", "all", "--num-frames", "6"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("vit_tiny_patch16_224: 224x224 pixels, patches of 16, 2 layers of width 192, ")
    assert "6 frames do not fill framesets of 4x4" in said
    assert refused(*words, "--num-frames", 6).startswith("6 frames do not fill framesets of 4x4 = 16 frames")
    assert refused(*words, "--method", "foo").startswith("unknown method 'foo'; there are dualpath, ")
    assert refused(*words, "--method", "all", "--bottleneck", 3).startswith("--bottleneck is an option of dualpath")
    assert refused(*words, "--weights", "file") == "unknown option --weights; see dualpath info --help"
    assert refused("info", "--num-classes", 1) == "num_classes is 1, but it must be at least 2"
    assert refused("info", "--precision", "auto").startswith("--precision auto: expected is one of bf16, fp32")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("depth=0", "backbone vit_tiny_patch16_224 has no layers; its depth must be at least 1"),
        ("depth=-1", "backbone vit_tiny_patch16_224 cannot be built with {'depth': -1,"),
        ("embed_dim=-5", "backbone vit_tiny_patch16_224 cannot be built with {'embed_dim': -5,"),
        ("in_chans=4", "backbone vit_tiny_patch16_224 takes pictures of 4 channels, but frames have 3; leave in_chans at 3"),
        ("num_heads=7", "backbone vit_tiny_patch16_224 cannot be built with {'num_heads': 7,"),
    ],
)
def test_architectures_that_cannot_be(refused: Refused, changes: str, said: str) -> None:
    assert refused("info", "--backbone", "vit_tiny_patch16_224", "--model-args", changes).startswith(said)


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["doctor", "--json"]) == 0
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "av", "cpu", "decoder", "embedded backbone", "hub", "disk"} <= found.keys()
    assert found["decoder"] == {"what": "decoder", "state": "ok", "detail": "PyAV's h264: wrote and read back 12 frames"}
    assert found["hub"]["state"] == "missing"
    assert all(finding["state"] in ("ok", "missing", "problem") for finding in found.values())
    assert main(["doctor"]) == 0
    assert "decoder" in capsys.readouterr().out


# --- what is given to train


def test_data_that_is_not_there(train_words: Callable[..., list[Any]], refused: Refused, tmp_path: Path, clips: Path) -> None:
    assert refused(*train_words(data=tmp_path / "nope")) == f"{tmp_path / 'nope'}: no such file or folder"
    (tmp_path / "empty").mkdir()
    assert refused(*train_words(data=tmp_path / "empty")).startswith(f"{tmp_path / 'empty'}: holds no videos; put each video")
    shutil.copytree(clips / "train" / "red", tmp_path / "one" / "red")
    assert refused(*train_words(data=tmp_path / "one")) == (
        f"{tmp_path / 'one'}: holds one class only ('red'); a classifier needs at least two"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,kind\nred.mp4,red\n", "t.csv has no column label (or class, labels, "),
        ("path,label,split\nred.mp4,red,foo\n", "t.csv line 2 has the split 'foo' for red.mp4; allowed are train, "),
        ("path,label\nred.mp4,red\nnope.mp4,blue\n", "t.csv line 3 names a file that is not there: "),
        (
            "path,label,split\nred.mp4,red,train\nblue.mp4,blue,train\n./red.mp4,red,val\n",
            "the same video is in two splits: red.mp4 (line 2) in train, red.mp4 (line 4) in val",
        ),
    ],
    ids=["column", "split", "file", "twice"],
)
def test_csv(
    train_words: Callable[..., list[Any]], refused: Refused, clips: Path, tmp_path: Path, text: str, said: str
) -> None:
    for colour in ("red", "blue"):
        shutil.copy(clips / "train" / colour / "0.mp4", tmp_path / f"{colour}.mp4")
    (tmp_path / "t.csv").write_text(text)
    assert said in refused(*train_words(data=tmp_path / "t.csv"))


def test_files_that_are_no_videos(train_words: Callable[..., list[Any]], refused: Refused, clips: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    (data / "train/red/text.mp4").write_text("hello")
    whole = (data / "train/red/0.mp4").read_bytes()
    (data / "train/red/cut.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(str(data / "train/red/sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(stream.encode(silence))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    lines = refused(*train_words(data=data)).splitlines()
    assert lines[0] == f"4 problems in {data}:"
    assert lines[1].startswith("  train/red/cut.mp4 ")
    assert lines[2:] == [
        "  train/red/sound.mp4 holds no video, only audio",
        "  train/red/text.mp4 is not a video but a text file",
        "  3 of 19 videos cannot be used; remove or replace them, or leave them out with --max_bad_files 0.16",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num-frames", "6"], "6 frames do not fill framesets of 2x2 = 4 frames; take a multiple of 4 (4, 8, 12 ...)"),
        (["--num-spatial-frames", "8"], "the spatial path takes 8 frames but a clip has 4; lower num_spatial_frames or"),
        (["--grid=3x3", "--num-frames", "9"], "frames of 128x128 pixels cannot be cut into a grid of 3x3; take a grid"),
        (["--method", "foo"], "unknown method 'foo'; there are dualpath, linear_probe"),
        (["--backbone", "vit_foo"], "unknown backbone 'vit_foo'; there are stills_vit_tiny_patch16_128, and timm's"),
        (
            ["--backbone", "resnet18"],
            "backbone resnet18 is a ResNet; adapters are placed around the attention and the MLP of pre-norm",
        ),
        (["--backbone", "vit_tiny_patch16_224.foo"], "unknown backbone 'vit_tiny_patch16_224.foo': Invalid pretrained tag"),
        (["--weights", "/nope"], "give the weights of stills_vit_tiny_patch16_128"),
        (["--epoch", "3"], "unknown option --epoch (did you mean --epochs?); see dualpath train --help"),
        (["--batchsize", "3"], "unknown option --batchsize (did you mean --batch_size?); see dualpath train --help"),
        (["--epochs", "three"], "--epochs three: expected is a whole number; see dualpath train --help"),
        (["--lr", "fast"], "--lr fast: expected is a number; see dualpath train --help"),
        (["--lr", "-1"], "lr is -1.0, but it must be a number above 0"),
        (["--grid", "2"], "--grid 2: expected is two whole numbers, such as 4x4; see dualpath train --help"),
        (["--hflip", "maybe"], "--hflip maybe: expected is one of auto, on, off; see dualpath train --help"),
        (["--workers", "-7"], "workers is -7, but it must be 0 or more, or -1 for a choice by the machine"),
        (["--val-fraction", "1.5"], "val_fraction is 1.5, but it must be at least 0 and below 1"),
        (
            ["--gradient-checkpointing", "maybe"],
            "--gradient_checkpointing maybe: expected is true or false; see dualpath train",
        ),
        (["--model-args", "3"], "--model_args 3: expected is names with whole numbers, such as depth=2,embed_dim=64; see"),
        (["--model-args", "foo=3"], "backbone stills_vit_tiny_patch16_128 cannot be built with {'foo': 3}"),
        (["--num-probe-frames", "3"], "--num_probe_frames is an option of linear_probe"),
        (["--config", "foo"], "there is no file and no recipe foo; recipes are diving48_vit_b16, "),
        (["--resume"], "it holds no training_state.safetensors; start without --resume"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_settings_come_before_any_video_is_read(
    train_words: Callable[..., list[Any]],
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the videos were read")

    monkeypatch.setattr(prepare, "scan", never)
    assert said in refused(*train_words(*words))
    assert not (tmp_path / "run").exists()


def test_draw_makes_a_data_set_of_its_options(refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["draw", "--output", str(tmp_path / "clips"), "--label_set", "both", "--train_clips", "1", "--test_clips", "1"]
    assert main(words) == 0
    assert "drawing 2 clips of each of 8 classes" in capsys.readouterr().err
    made = sorted(path.relative_to(tmp_path / "clips").parts[:2] for path in (tmp_path / "clips").rglob("*.mp4"))
    assert len(made) == 16
    assert ("test", "red disc moves left") in made
    assert refused(*words) == f"the output {tmp_path / 'clips'} exists and is not empty; give a new folder with --output"
    assert "label set 'colour'" in refused("draw", "--output", tmp_path / "new", "--label_set", "colour")
    assert refused("draw", "--output", tmp_path / "new", "--test_clips", "0") == "test_clips is 0, but it must be at least 1"


def test_unknown_verb_and_missing_words(refused: Refused) -> None:
    assert refused("trian").startswith("unknown verb 'trian' (did you mean train?); there are train, baseline, evaluate, ")
    assert refused("train") == "missing: data, --output; see dualpath train --help"


def test_hub_out_of_reach(refused: Refused, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 1.0)
    said = refused("train", clips, "--output", tmp_path / "run")
    assert said.startswith(
        "the weights of vit_base_patch16_clip_quickgelu_224.openai could not be fetched (http://127.0.0.1:9 "
    )
    assert "use --backbone stills_vit_tiny_patch16_128, which needs no download, or --weights FILE" in said
    assert constants.HF_HUB_OFFLINE is False
    assert not (tmp_path / "run").exists()


def test_output_folder(
    train_words: Callable[..., list[Any]], refused: Refused, trained: Path, clips: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert refused(*train_words(output=trained)) == (
        f"the output folder {trained} holds another run; give a new folder, or --resume to continue a run"
    )
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert "holds other files (train ...)" in refused(*train_words(output=clips))
    (tmp_path / "file").write_text("mine")
    assert f"{tmp_path / 'file'} is a file" in refused(*train_words(output=tmp_path / "file"))
    assert f"{tmp_path / 'file'} is a file" in refused(*train_words(output=tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "mine"
    assert "has 4 epochs, 4 of them done, and cannot be shortened to 1" in refused(*train_words("--resume", output=trained))
    assert "is complete (4 epochs)" in refused(*train_words("--epochs", 4, "--resume", output=trained))


def test_full_disk(train_words: Callable[..., list[Any]], tmp_path: Path, weights: Path) -> None:
    """A real limit on the size of files: the fresh state still fits, the one with AdamW's moments does not."""
    code = (
        "import resource, sys; from dualpath.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    words = [str(word) for word in train_words("--save-every", 0)]
    told = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert told.returncode == 2
    state = tmp_path / "run" / "training_state.safetensors"
    assert told.stderr.splitlines()[-1] == (
        f"dualpath: {state} could not be written (File too large); make room or choose another folder, what was there "
        "before is unchanged"
    )
    assert "Traceback" not in told.stderr
    assert all(value.isfinite().all() for value in load_file(state).values())
    assert not list((tmp_path / "run").glob(".*"))
    assert main([*words, "--resume"]) == 0


def test_full_disk_in_the_log(
    train_words: Callable[..., list[Any]], refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualpath.engine import log

    def full(self: object, event: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(log._Board, "add", lambda self, scalars, step: full(self, scalars))
    said = refused(*train_words())
    assert said.endswith(
        f"{tmp_path / 'run' / 'log.jsonl'} could not be written (No space left on device); make room and continue with --resume"
    )


# --- checkpoints, evaluate, predict


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "best", tmp_path / "checkpoint"))


def edit(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    config.pop("config_sha256", None)  # as older versions wrote it
    path.write_text(json.dumps(config))


def test_damaged_checkpoints(checkpoint: Path, clips: Path, refused: Refused) -> None:
    tensors, config = checkpoint / "adapter_model.safetensors", checkpoint / "adapter_config.json"
    video = clips / "val/red/0.mp4"
    data, text = tensors.read_bytes(), config.read_text()
    tensors.write_bytes(data[:-9])
    assert f"{tensors} is damaged: its {len(data) - 9:,} bytes are not those that" in refused("predict", checkpoint, video)
    tensors.unlink()
    assert refused("predict", checkpoint, video) == f"{tensors} is missing; restore it or train again"
    tensors.write_bytes(data)
    for damaged in (text[:200], "[]", "{}"):
        config.write_text(damaged)
        assert f"{config} is damaged (" in refused("predict", checkpoint, video)
    for key in ("backbone", "preprocessing", "method_config", "id2label", "sampling", "data_split"):
        config.write_text(text)
        edit(checkpoint, **{key: {}})
        said = refused("predict", checkpoint, video)
        # Without its options the method takes its defaults, and the tensors do not fit them.
        assert ("does not fit the model" if key == "method_config" else f"{config} is damaged (") in said
    config.write_text(text)
    edit(checkpoint, preprocessing=json.loads(text)["preprocessing"] | {"std": "0.5"})
    assert "std is 0.5, not three numbers" in refused("predict", checkpoint, video)
    config.unlink()
    assert "holds no checkpoint: adapter_config.json is missing" in refused("predict", checkpoint, video)
    assert "there is no such folder" in refused("evaluate", checkpoint / "nope", clips)


def test_checkpoint_of_another_backbone(checkpoint: Path, clips: Path, refused: Refused, tmp_path: Path) -> None:
    from runs import write_weights

    other = write_weights(tmp_path / "other.safetensors", seed=4)
    said = refused("predict", checkpoint, clips / "val/red/0.mp4", "--weights", other)
    assert "was trained on another backbone: stills_vit_tiny_patch16_128 here has weights " in said
    assert said.endswith("give the original weight file with --weights FILE")


def test_evaluate_prints_a_table_or_json(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    words = ["evaluate", str(trained), str(clips), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["videos"], figures["top1"], figures["undecodable"]) == (4, 1.0, {})
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == figures
    assert main(words) == 0
    said = capsys.readouterr()
    assert "100.00 %" in said.out
    assert "segment-4, 1x1 views" in said.out
    assert said.err.endswith(f"predictions.csv and evaluation.json are in {tmp_path / 'out'}\n")
    assert "no split of its own" not in said.err
    unsplit = [*words[:2], str(clips / "train"), *words[3:]]
    assert main(unsplit) == 0
    assert "evaluating the 2 of its 12 videos that training on it keeps for validation" in capsys.readouterr().err
    assert main([*unsplit, "--split", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 12
    assert "has no videos in the split 'test'" in refused(*words, "--split", "test")
    assert refused(*words, "--split", "foo") == "unknown split 'foo'; there are auto, train, val, test, all, 1, 2, 3"
    assert refused(*words, "--num-clips", "0") == "num_clips 0 must be at least 1"
    assert main([*words, "--protocol", "dense-8x1", "--views", "2x3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "dense-8x1, 2x3 views"
    assert main([*words, "--shuffle-frames", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "segment-4, 1x1 views, frames shuffled"
    assert refused(*words, "--protocol", "segment-5").startswith("5 frames do not fill framesets of 2x2 = 4 frames")
    assert refused(*words, "--protocol", "dense").startswith("there is no protocol 'dense'; give T frames")


@pytest.mark.parametrize("verb", ["evaluate", "worth"])
def test_a_test_split_is_not_said_to_be_trained_on(
    verb: str, trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(clips / "train", data / "train")
    shutil.copytree(clips / "val", data / "test")  # no val/: training splits one off, evaluation needs none
    words = [verb, str(trained), str(data), "--workers", "0", "--output", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "no split of its own" not in said.err
    assert "keeps for validation" not in said.err
    assert '"videos": 4' in said.out


def test_predict_answers_what_it_can(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    good = [str(clips / "val" / colour / "0.mp4") for colour in ("red", "blue")]
    words = ["predict", str(trained), good[0], str(tmp_path / "text.mp4"), "/nope.mp4", good[1]]
    assert main(words) == 1
    said = capsys.readouterr()
    assert all(video in said.out for video in good)
    assert said.err.splitlines() == [
        f"dualpath: {tmp_path / 'text.mp4'}: is not a video but a text file",
        "dualpath: /nope.mp4: there is no such file",
    ]
    assert main([*words, "--json", "--top-k", "1"]) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [answer["video"] for answer in answers] == words[2:]
    assert [[guess["label"] for guess in answer["predictions"]] for answer in answers] == [["red"], [], [], ["blue"]]
    assert ["error" in answer for answer in answers] == [False, True, True, False]
    assert main(["predict", str(trained), good[0], "--protocol", "dense-8x1", "--views", "2x3", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["predictions"][0]["label"] == "red"


def test_damaged_files_are_taken_where_asked_for_and_marked_in_every_result(
    trained: Path,
    clips: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "ask", ask_here)
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    broken = {}
    for name in ("train/red/0.mp4", "val/red/0.mp4"):
        with av.open(str(data / name)) as container:
            packet = [packet for packet in container.demux(video=0) if packet.size][4]
        content = bytearray((data / name).read_bytes())
        assert packet.pos is not None
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
        (data / name).write_bytes(content)
        broken[name] = probe(data / name, damaged="take").damage
    assert all(broken.values())

    def run(*words: object) -> int:
        capsys.readouterr()
        return main([str(word) for word in words])

    val = data / "val/red/0.mp4"
    assert run("predict", trained, val, "--json") == 2
    assert "could be decoded" in json.loads(capsys.readouterr().out)[0]["error"]
    assert run("predict", trained, val, "--json", "--damaged", "take") == 0
    assert json.loads(capsys.readouterr().out)[0]["damaged"] == broken["val/red/0.mp4"]
    words = ("evaluate", trained, data, "--json", "--workers", 0, "--split", "val", "--output", tmp_path / "judged")
    assert run(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (list(told["undecodable"]), told["damaged"]) == (["val/red/0.mp4"], {})
    assert run(*words, "--damaged", "take") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["undecodable"], told["damaged"]) == ({}, {"val/red/0.mp4": broken["val/red/0.mp4"]})
    checked = tmp_path / "checked"
    assert run("data", "check", data, "--output", checked, "--json", "--max_bad_files", 0.5) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bad_files"], told["damaged"]) == (2, {})
    assert run("data", "check", data, "--output", checked, "--json", "--damaged", "take") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bad_files"], told["damaged"]) == (0, broken)
    assert "damaged" in {finding["kind"] for finding in told["findings"]}
    plan = ("train", data, *flags(weights), "--epochs", 1, "--min_steps", 1, "--check", "full", "--output")
    for number, more in enumerate(((), ("--checked", checked))):
        assert run(*plan, tmp_path / f"refused{number}", "--max_bad_files", 0.5, *more) == 0
        record = json.loads((tmp_path / f"refused{number}/run.json").read_text())
        assert set(record["data"]["left_out"]) == set(broken)
        assert run(*plan, tmp_path / f"taken{number}", *more, "--damaged", "take") == 0
        record = json.loads((tmp_path / f"taken{number}/run.json").read_text())
        assert (record["data"]["left_out"], record["data"]["damaged"]) == ({}, broken)
        assert record["settings"]["damaged"] == "take"
        assert record["skipped"] == {}


def test_names_that_are_not_text_can_be_printed_and_written(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "ask", ask_here)
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    strange = data / "val/red" / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(data / "val/red/0.mp4", strange)
    assert main(["predict", str(trained), str(strange)]) == 0
    assert "caf\\udce9.mp4" in capsys.readouterr().out
    assert main(["data", "check", str(data), "--output", str(tmp_path / "checked")]) == 0
    assert "caf\\udce9.mp4" in capsys.readouterr().out  # a copy
    words = ["evaluate", str(trained), str(data), "--split", "val", "--workers", "0", "--output", str(tmp_path / "judged")]
    assert main([*words, "--checked", str(tmp_path / "checked")]) == 0
    assert b"val/red/caf\xe9.mp4,red," in (tmp_path / "judged/predictions.csv").read_bytes()
    assert len(read_summary(tmp_path / "judged").read().videos) == 5


def test_predict_tells_short_files_once(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = [str(write_clip(tmp_path / f"{i}.mp4", "red", seed=i, frames=2)) for i in range(3)]
    assert main(["predict", str(trained), *short]) == 0
    assert capsys.readouterr().err.count("its last one is repeated") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train DATA --output OUT --seed 18446744073709551616", "seed is 18446744073709551616, but it must be at most 92233"),
        ("train DATA --output OUT --bottleneck 1000000000000", "bottleneck is 1000000000000, but it must be at most 65536"),
        ("train DATA --output OUT --num_frames 1000000000000000", "num_frames is 1000000000000000, but it must be at most"),
        ("train DATA --output OUT --views 999999x1", "num_clips is 999999, but it must be at most 1000"),
        ("train DATA --output OUT --label_smoothing 1", "label_smoothing is 1.0, but it must be at least 0 and below 1"),
        ("train DATA --output OUT --workers -2", "workers is -2, but it must be 0 or more, or -1"),
        ("train DATA --output OUT --model_args depth=1000000000", "model_args depth=1000000000 is beyond all use"),
        ("evaluate DATA DATA --workers -2", "workers is -2, but it must be 0 or more, or -1"),
        ("train DATA --output LONG", "cannot be a folder (File name too long); give another one"),
        ("draw --output LONG", "cannot be a folder (File name too long); give another one"),
        ("predict LONG x.mp4", "there is no such folder; give the folder that `dualpath train` wrote"),
        ("draw --output OUT --seed -1", "seed is -1, but it must be 0 or more"),
        ("train DATA --output OUT --method=", "unknown method ''"),
        ("train DATA --output OUT --weights=", "--weights has an empty value; give one, or leave it out"),
        ("train EMPTY --output OUT", "one of the words is empty (''); leave it out"),
        ("train --dry_run --num_classes 1000000000000", "num_classes is 1000000000000, but it must be at most 1000000"),
    ],
)
def test_words_beyond_all_use(words: str, said: str, clips: Path, tmp_path: Path, refused: Refused) -> None:
    names: dict[str, object] = {"DATA": clips, "OUT": tmp_path / "out", "LONG": "x" * 300, "EMPTY": ""}
    assert said in refused(*(names.get(word, word) for word in words.split()))
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_nested_too_deeply(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "adapter_config.json").write_text("[" * 10**6)
    assert "adapter_config.json is damaged (ValueError('it is nested too deeply')" in refused("predict", tmp_path, "x.mp4")


def test_a_record_of_wrong_types_is_no_traceback(trained: Path, tmp_path: Path, refused: Refused) -> None:
    for name, value in (("plan", {"gmacs": "many"}), ("data", {"counts": [1]}), ("baseline", {"mean": 3})):
        run = Path(shutil.copytree(trained, tmp_path / name))
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(record | {name: value}))
        code = main(["report", str(run), "--mistakes", "0"])
        assert code in (0, 2)
        if code == 2:
            refused("report", run, "--mistakes", "0")
    (tmp_path / "run.json").write_text(json.dumps({"baseline": {"mean": 3}, "skipped": [1], "memory": {"a": 1}}))
    record = Record(tmp_path, data="", resume=True)
    assert (record.baseline, record.skipped_before, record.extensions) == ({}, {}, [])
