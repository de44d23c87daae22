"""An official data set through the command line: folds, counts in every result, what a checkpoint remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualpath.cli import main
from dualpath.data.checking import check as checking
from dualpath.engine import prepare
from dualpath.engine.checkpoint import CONFIG
from official import write
from runs import ask_here, flags, scan_here, write_clip

TAGS = {1: (1, 1, 2, 0), 2: (2, 1, 1, 1)}
COLOURS = {"wave": "red", "brush_hair": "blue"}


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two actions with clips; a third one is listed and not on disk."""
    root = tmp_path_factory.mktemp("official") / "hmdb51"
    for fold, tags in TAGS.items():
        for action in (*COLOURS, "kick"):
            lines = [f"F_{action}_f_cm_np1_fr_med_{i}.avi {tag}" for i, tag in enumerate(tags)]
            write(root, {f"splits/{action}_test_split{fold}.txt": "\n".join(lines)})
    for action, colour in COLOURS.items():
        for i in range(4):
            write_clip(root / "videos" / f"F_{action}_f_cm_np1_fr_med_{i}.mp4", colour, seed=i)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, hmdb51: Path, weights: Path) -> Path:
    output = tmp_path_factory.mktemp("run") / "second"
    words = [*("train", str(hmdb51), "--output", str(output), "--split", "2", "--epochs", "1", "--val-fraction", "0")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "scan", scan_here)
        assert main([*words, *flags(weights)]) == 0
    return output


def census(fold: int, train: int, test: int) -> dict[str, Any]:
    """Counts of the small set: a third of the listed videos is not there."""
    listed = {
        split: {"listed": 3 * n, "found": 2 * n, "missing": n, "unlabelled": 0, "official": official}
        for split, n, official in (("train", train, 3570), ("test", test, 1530))
    }
    return {"format": "hmdb51", "fold": fold, "listed": listed, "extra": 0}


def test_the_record_and_the_checkpoint_say_what_was_read(run):
    data = json.loads((run / "run.json").read_text())["data"]
    counts = {"brush_hair": 3, "kick": 0, "wave": 3}
    assert data.pop("counts")["train"] == counts
    data.pop("root")
    assert len(bytes.fromhex(data.pop("sha256"))) == 32
    assert data == census(2, 3, 1) | {"left_out": {}, "damaged": {}, "quarantined": 0}
    config = json.loads((run / "last" / CONFIG).read_text())
    assert config["data_split"] == {"seed": 0, "val_fraction": 0.0, "format": "hmdb51", "fold": 2}
    assert config["id2label"] == {"0": "brush_hair", "1": "kick", "2": "wave"}


def evaluated(run: Path, *words: object, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str, str]:
    capsys.readouterr()
    assert main(["evaluate", str(run), *map(str, words), "--workers", "0"]) == 0
    said = capsys.readouterr()
    folder = Path(said.err.split(" are in ")[1].strip())
    return json.loads((folder / "evaluation.json").read_text()), said.out, said.err


def test_evaluate_takes_the_fold_that_was_trained_on(run, hmdb51, tmp_path, capsys):
    figures, table, told = evaluated(run, hmdb51, "--output", tmp_path / "e", capsys=capsys)
    assert figures["data"] == census(2, 3, 1)
    assert figures["videos"] == 2
    assert "hmdb51 split 2: train 6 of 9 listed, official 3,570; test 2 of 3 listed, official 1,530" in table
    assert told.count("warning") == 1  # three classes instead of 51


def test_evaluate_warns_of_another_fold(run, hmdb51, capsys):
    figures, _, told = evaluated(run, hmdb51, "--split", 1, capsys=capsys)
    assert figures["data"]["fold"] == 1
    assert (run / "last" / "evaluation-test-1" / "predictions.csv").is_file() or (run / "best").is_dir()
    assert "warning: the model was trained on split 2 of" in told


def test_dry_run_tells_counts_and_missing_classes(hmdb51, weights, capsys):
    assert main(["train", str(hmdb51), "--dry-run", "--split", "1", *flags(weights)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "listed     train 4 of 6 listed, official 3,570; test 2 of 3 listed, official 1,530" in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "4"], "has no split 4: HMDB51 has the splits 1 to 3"),
        (["--split", "3"], "brush_hair_test_split3.txt is missing"),
        (["--format", "k400"], "unknown format 'k400'; there are auto, kinetics, ssv2, hmdb51"),
        (["--format", "ucf101"], "classInd.txt is missing"),
        (["--split", "one"], "--split one: expected is a whole number"),
    ],
)
def test_what_cannot_be(hmdb51, weights, capsys, words, expected):
    assert main(["train", str(hmdb51), "--dry-run", *words, *flags(weights)]) == 2
    assert expected in capsys.readouterr().err


def test_lists_without_training_videos(tmp_path, weights, capsys):
    write(
        tmp_path,
        {"val.csv": "label,youtube_id,time_start,time_end,split\na,x,0,1,val\nb,y,0,1,val\n", "x.mp4": "", "y.mp4": ""},
    )
    assert main(["train", str(tmp_path), "--dry-run", *flags(weights)]) == 2
    assert f"{tmp_path}: has no training videos (val 2 of 2 listed)" in capsys.readouterr().err


def test_a_check_tells_the_counts_too(hmdb51, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checking, "ask", ask_here)
    assert main(["data", "check", str(hmdb51), "--split", "2", "--output", str(tmp_path / "out")]) == 0
    assert "listed (hmdb51)" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "check.json").read_text())["data"] == census(2, 3, 1)
