"""Writes what was measured of maps into docs/explain.md, between its marks, with a picture: from benchmarks/results/cpu.

    python scripts/make_explain.py            writes them
    python scripts/make_explain.py --check    writes nothing; exits with 1 if they are not what the results give

faithful.json is of benchmarks/faithful.py, explain.json of benchmarks/explain.py.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dualpath.errors import DualPathError
from dualpath.report.scatter import OURS, QUIET, THEIRS
from pages import write_or_check

ROOT = Path(__file__).resolve().parents[1]
MARKS = re.compile(r"(<!-- faithful -->\n).*?(<!-- /faithful -->)", flags=re.S)
KINDS = ("relevance", "rollout", "attention")
LINES = {
    "least": ("the least relevant ones", QUIET, ":"),
    "random": ("random ones", QUIET, "-"),
    "attention": ("most attended to", THEIRS, "--"),
    "rollout": ("most in the rollout", THEIRS, ":"),
    "relevance": ("most relevant ones", OURS, "-"),
}


def make_files(root: Path) -> dict[Path, str | bytes]:
    """What each file should hold.

    Raises:
        DualPathError: there are no results, or the page lacks its marks.
    """
    found, cost = (read(root / "benchmarks" / "results" / "cpu" / name) for name in ("faithful.json", "explain.json"))
    page = root / "docs" / "explain.md"
    text = page.read_text(encoding="utf-8")
    if not MARKS.search(text):
        raise DualPathError(f"{page} has no lines <!-- faithful --> and <!-- /faithful -->; put them where the table should be")
    told = section(found, cost)
    return {
        page: MARKS.sub(lambda marks: f"{marks[1]}{told}{marks[2]}", text),
        root / "docs" / "pictures" / "deletion.png": picture(found),
    }


def read(path: Path) -> dict[str, Any]:
    """One file of results."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as problem:
        raise DualPathError(f"{path} cannot be read ({problem}); make it with benchmarks/") from problem


def interval(value: dict[str, float], *, unit: str = "", digits: int = 2, times: float = 1) -> str:
    """Mean and its 95 % interval."""
    mean, low, high = (f"{times * value[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean}{unit} ({low} to {high})"


def section(found: dict[str, Any], cost: dict[str, Any]) -> str:
    """The measured part of the page."""
    cut, places = found["deletion"]["0.2"], found["places"]
    rows = [
        "| kind | score with 20 % of the patches silenced | lower than with random ones by | on the object, spatial path | "
        "on the object, temporal path | time of a prediction |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind in KINDS:
        cells = [
            f"`{kind}`", interval(cut[kind]), interval(cut[f"random - {kind}"]),
            interval(places[f"{kind} spatial"]["times"], unit=" x", digits=1),
            interval(places[f"{kind} temporal"]["times"], unit=" x", digits=1), f"{cost['ratios'][kind]:.1f} x",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    rows.append(f"| random patches | {interval(cut['random'])} | | 1 x | 1 x | |")
    rows.append(f"| the least relevant | {interval(cut['least'])} | {interval(cut['random - least'])} | | | |")
    weights = ", ".join(f"{interval(value)} for the {name} path" for name, value in found["weights"].items())
    area = places["relevance temporal"]["area"]
    return f"""
{found["clips"]} new drawn clips, 12 of each class, the demo's DualPath; without silencing its score for the class it predicts
is {interval(found["score"])}. *On the object* is the share of the map that lies on the moving object over the share of the
picture that it covers ({100 * area:.1f} %). Brackets are 95 % bootstrap intervals of the mean.

{chr(10).join(rows)}

![The class's score as patches are silenced](pictures/deletion.png)

With new random values in the trained parts the map becomes another one: the rank correlation with the old one is
{weights} (1 would be the same map).

`python benchmarks/faithful.py demo-output/dualpath --output benchmarks/results/cpu` on {found["machine"]}, fp32; the
last column is `python benchmarks/explain.py --output benchmarks/results/cpu/explain.json`: ViT-B/16, 32 frames, in the
precision that `predict` chooses there, reading the file included.
"""


def picture(found: dict[str, Any]) -> bytes:
    """The class's score over the share of patches that is silenced."""
    figure = Figure(figsize=(7.2, 4.0), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    fractions = [0.0, *(float(key) for key in found["deletion"])]
    for order, (words, colour, style) in LINES.items():
        values = [found["score"], *(cut[order] for cut in found["deletion"].values())]
        means, lows, highs = ([value[key] for value in values] for key in ("mean", "low", "high"))
        percent = [100 * fraction for fraction in fractions]
        axes.fill_between(percent, lows, highs, color=colour, alpha=0.12, linewidth=0)
        axes.plot(percent, means, style, color=colour, label=words, linewidth=2, marker="o", markersize=3.5)
    axes.set_xlabel("patches silenced in every block, %")
    axes.set_ylabel("score of the predicted class")
    axes.set_ylim(0, 1)
    axes.set_xlim(0, 100 * fractions[-1])
    axes.grid(color="#dfe2e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1, 0.38), title="silenced first", title_fontsize=9
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def main(words: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Writes or checks, see pages.py."""
    return write_or_check(make_files, words, root=root, told=__doc__)


if __name__ == "__main__":
    sys.exit(main())
