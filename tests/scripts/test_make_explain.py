"""The page about maps says what the results give, and what lacks for it is told."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_make_speed import script

make_explain = script("make_explain")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    results = tmp_path / "benchmarks" / "results" / "cpu"
    results.mkdir(parents=True)
    for name in ("faithful.json", "explain.json"):
        shutil.copy(ROOT / "benchmarks" / "results" / "cpu" / name, results)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "explain.md").write_text("before\n<!-- faithful -->\nold\n<!-- /faithful -->\nafter\n")
    return tmp_path


def test_the_page_is_what_was_measured() -> None:
    made = make_explain.make_files(ROOT)
    assert made[ROOT / "docs" / "explain.md"] == (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    assert Image.open(io.BytesIO(made[ROOT / "docs" / "pictures" / "deletion.png"])).size[0] > 600


def test_figures_stand_between_the_marks_and_change_with_the_results(root: Path) -> None:
    path = root / "benchmarks" / "results" / "cpu" / "faithful.json"
    told = json.loads(path.read_text())
    told["deletion"]["0.2"]["relevance"] = {"mean": 0.123, "low": 0.1, "high": 0.2}
    path.write_text(json.dumps(told))
    assert make_explain.main([], root=root) == 0
    page = (root / "docs" / "explain.md").read_text()
    assert page.startswith("before\n<!-- faithful -->\n")
    assert page.endswith("<!-- /faithful -->\nafter\n")
    assert "old" not in page.splitlines()
    assert "| `relevance` | 0.12 (0.10 to 0.20) |" in page
    assert make_explain.main(["--check"], root=root) == 0


def test_what_lacks_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "docs" / "explain.md").write_text("no marks")
    assert make_explain.main([], root=root) == 2
    assert "has no lines <!-- faithful -->" in capsys.readouterr().err
    (root / "benchmarks" / "results" / "cpu" / "explain.json").unlink()
    assert make_explain.main([], root=root) == 2
    assert "make it with benchmarks/" in capsys.readouterr().err
