"""The verbs `explain` and `worth` as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualpath.cli import main
from dualpath.report.maps.explanation import FILES

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs words that must end with exit code 2 and nothing on stdout; gives the last thing said on stderr."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return said.err.split("dualpath: ")[-1].rstrip("\n")

    return run


def test_explain_writes_all_its_files(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, output, exact = clips / "val/red/0.mp4", tmp_path / "out", ["--precision", "fp32"]
    assert main(["explain", str(trained), str(video), "--output", str(output), "--class", "blue", *exact]) == 0
    said = capsys.readouterr()
    predicted, explained, *paths = said.out.splitlines()
    assert predicted.startswith("predicted “")
    assert explained.startswith("explained “blue”, score 0.")
    assert [word in line for word, line in zip(("spatial", "temporal"), paths, strict=True)] == [True, True]
    assert said.err == f"sheet.png, overlay.mp4, maps.npz and explanation.json are in {output}\n"
    assert sorted(path.name for path in output.iterdir()) == sorted(FILES)
    with np.load(output / "maps.npz", allow_pickle=False) as arrays:
        assert arrays["temporal_frames"].tolist() == [0, 1, 2, 3]
        assert arrays["times"] == pytest.approx(arrays["indices"] / 25)
        assert str(arrays["label"]) == "blue"
        assert float(arrays["temporal_shares"].sum()) == pytest.approx(1, abs=1e-4)
    assert main(["predict", str(trained), str(video), "--json", *exact]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    best = answer["predictions"][0]
    words = json.loads((output / "explanation.json").read_text())
    assert words["predicted"] == {"label": best["label"], "score": pytest.approx(best["score"], abs=1e-5)}
    assert words["command"] == f"dualpath explain {trained} {video} --output {output} --class blue --precision fp32"

    second = [str(trained), str(video), "--output", str(tmp_path / "block"), "--kind", "attention", "--block", "1", "--json"]
    assert main(["explain", *second]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["block"], told["explained"]["label"]) == ("attention", 1, best["label"])
    assert told == json.loads((tmp_path / "block/explanation.json").read_text())


def test_what_cannot_be_explained_is_told_in_a_sentence(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, output = str(clips / "val/red/0.mp4"), str(tmp_path / "out")
    (tmp_path / "words.mp4").write_text("no video\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    plain = [str(trained), video, "--output", output]
    cases = [
        ([str(trained), str(tmp_path / "words.mp4"), "--output", output], "words.mp4: is not a video but a text file"),
        ([str(trained), video, "--output", str(tmp_path / "full")], "full exists and is not empty; give a new folder"),
        ([*plain, "--class", "bleu"], "the model has no class 'bleu' (did you mean blue?)"),
        ([*plain, "--kind", "rolout"], "unknown kind 'rolout' (did you mean rollout?)"),
        ([*plain, "--block", "0"], "block 0 has no effect on kind relevance"),
        ([*plain, "--kind", "attention", "--block", "77"], "block 77 does not exist"),
        ([*plain, "--block", "first"], "--block first: expected is a whole number"),
        ([str(tmp_path / "none"), video, "--output", output], "none"),
    ]
    for words, sentence in cases:
        assert main(["explain", *words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("dualpath: ")
        assert sentence in said.err
        assert said.err.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "words.mp4"]


def test_a_folder_of_pictures_has_no_times(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (64, 48), (200, 40 * number, 40)).save(folder / f"{number + 1:05d}.jpg")
    assert main(["explain", str(trained), str(folder), "--output", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [frame["time"] for frame in told["frames"]] == [None] * 4
    shutil.rmtree(tmp_path / "out")


def test_the_help_says_which_kinds_there_are_and_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["explain", "--help"])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "relevance: what speaks for the class",
        "rollout:",
        "attention:",
        "Swin",
        "plain vision transformers",
        "pools",
    ):
        assert words in said


def test_worth_says_what_evaluate_says(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(clips / "val", data / "test")
    (data / "test/red/broken.mp4").write_text("no video")
    ways = ["--workers", "0", "--views", "2x1", "--precision", "fp32", "--batch-size", "3"]

    def run(verb: str, *more: str) -> dict:
        assert main([verb, str(trained), str(data), *ways, *more, "--output", str(tmp_path / verb), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    worth, plain, shuffled = run("worth"), run("evaluate"), run("evaluate", "--shuffle-frames")
    assert worth == json.loads((tmp_path / "worth/worth.json").read_text())
    assert (worth["rows"]["in_order"]["top1"], worth["rows"]["shuffled"]["top1"]) == (plain["top1"], shuffled["top1"])
    for name in ("videos", "protocol", "undecodable", "quarantined", "data"):
        assert worth[name] == plain[name]
    assert worth["undecodable"] == {"test/red/broken.mp4": "is not a video but a text file"}
    assert worth["command"].startswith(f"dualpath worth {trained} {data} --workers 0 --views 2x1")
    assert worth["rows"].keys() == {"in_order", "reversed", "shuffled", "one_frame", "no_spatial", "no_temporal"}
    assert sorted(path.name for path in (tmp_path / "worth").iterdir()) == ["worth.csv", "worth.json", "worth.md", "worth.png"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "worth/worth.csv").read_text())))
    assert [line["in_order"] for line in lines] == ["blue", "blue", "red", "red", ""]


def test_worth_prints_a_table(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "last", run)
    assert main(["worth", str(run), str(clips), "--workers", "0"]) == 0
    said = capsys.readouterr()
    assert "temporal path silenced" in said.out
    assert "too few, 2 classes: too few videos to say" in said.out
    assert said.err.endswith(f"worth.json, worth.csv, worth.md and worth.png are in {run / 'worth-val'}\n")
    assert (run / "worth-val/worth.png").is_file()


def test_worth_refuses_what_evaluate_refuses(trained: Path, clips: Path, tmp_path: Path, refused: Refused) -> None:
    words = ["worth", trained, clips, "--workers", "0", "--output", tmp_path / "out"]
    others = tmp_path / "others"
    shutil.copytree(clips / "val/red", others / "test/green")
    wrong = ("--split foo", "--batch-size 0", "--num-clips 0", "--protocol segment-5", "--wrokers 1", "--format foo")
    for more in map(str.split, wrong):
        said = refused(*words, *more)
        assert said == refused("evaluate", *words[1:], *more).replace("evaluate --help", "worth --help")
    assert refused(*words, "--split", "foo") == "unknown split 'foo'; there are auto, train, val, test, all, 1, 2, 3"
    assert refused("worth", trained, others, *words[3:]) == refused("evaluate", trained, others, *words[3:])
    assert "green" in refused("worth", trained, others, *words[3:])
    assert "there is no such folder" in refused("worth", tmp_path / "nope", clips)
    assert "missing: " in refused("worth", trained)
    (tmp_path / "file").write_text("")
    said = refused(*words[:-1], tmp_path / "file")
    assert said == f"the output {tmp_path / 'file'} cannot be a folder (File exists); give another one"
    assert not (tmp_path / "out").exists()
