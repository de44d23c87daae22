"""The verb explain as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dualpath.cli import main
from dualpath.report.explanation import FILES


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
    from PIL import Image

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
