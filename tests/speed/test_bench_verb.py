"""`dualpath bench` from the words to the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualpath.cli import main
from dualpath.nn.zoo import EMBEDDED


def test_bench_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--methods", "linear_probe", "--backbone", EMBEDDED, "--num_frames", "8", "--mode", "inference"]
    assert main([*words, "--rounds", "1", "--seconds", "0.01", "--output", str(tmp_path / "out")]) == 0
    assert "linear_probe" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    one, ceiling = told["candidates"]
    assert (one["label"], ceiling["label"]) == ("linear_probe", "linear_probe: ceiling")
    assert one["share_of_ceiling"] == pytest.approx(ceiling["seconds_a_clip"] / one["seconds_a_clip"])
    assert one["gmacs_a_clip"] == pytest.approx(ceiling["gmacs_a_clip"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bench.json", "bench.md", "bench.png"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--methods", "nonsense"], "unknown method 'nonsense'"),
        (["--methods", ""], "--methods has an empty value"),
        (["--num_frames", "5"], "5 frames do not fill framesets"),
        (["--rounds", "0"], "rounds is 0"),
        (["--output", "/dev/null"], "the output /dev/null cannot be a folder"),
    ],
)
def test_what_cannot_be_measured_ends_with_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--backbone", EMBEDDED, *words]) == 2
    assert told in capsys.readouterr().err
