"""A comparison's table, page and picture say what was measured, and what is not equal."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from dualpath.engine.compare import Comparison
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.entries import make_entries
from dualpath.engine.one_run import RunResult
from dualpath.nn.zoo import EMBEDDED, BackboneConfig
from dualpath.report.compare import HEADS, as_json, cells, comparison_table, fold_tables, three, write_comparison
from dualpath.report.rows import make_rows, protocol, remarks
from dualpath.report.scatter import Point, draw, make_figure, short
from dualpath.video.protocols import ViewsConfig

BASE = RunConfig(backbone=BackboneConfig(EMBEDDED), views=ViewsConfig(4, 3), training=TrainConfig(epochs=3, lr=1e-2))
RUN = RunResult(
    seed=0, videos=50, right=40, undecodable=0, protocol="segment-16, 4x3 views", trainable=1_234_567, total=20_000_000,
    gmacs=3.5, versions={"torch": "2"}, step_seconds=0.25, waited_seconds=0.01, train_seconds=9.0, peak_ram_gb=1.5,
    peak_gpu_gb=None, clips_per_s=12.34, stored="bfloat16", machine="a box",
)  # fmt: skip


def made(asked: dict[str, dict[str, Any]], runs: dict[str, list[dict[str, Any]]], **changes: Any) -> Comparison:
    entries = make_entries(asked, base=BASE)
    results = {label: tuple(replace(RUN, seed=seed, **told) for seed, told in enumerate(some)) for label, some in runs.items()}
    seeds = tuple(range(max(len(some) for some in runs.values())))
    counts: Any = {None: {"train": 100, "val": 0, "test": 50}}
    comparison = Comparison(Path("/data/moves"), 10, counts, "test", BASE, entries, seeds, results)
    return replace(comparison, **changes)


@pytest.fixture
def two() -> Comparison:
    asked = {"dualpath": {"method": "dualpath"}, "probe": {"method": "linear_probe", "lr": 0.5, "epochs": 9}}
    return made(
        asked,
        {
            "dualpath": [
                {"right": 40, "step_seconds": 0.2, "mean_class": 0.72},
                {"right": 44, "step_seconds": 0.4, "mean_class": 0.87},
                {"right": 45, "step_seconds": 9.0, "mean_class": 0.87},
            ],
            "probe": [{"right": 20, "trainable": 850, "gmacs": 0.0123, "stored": "float32"}] * 3,
        },
    )


def test_cells_by_hand(two: Comparison) -> None:
    dual, probe = make_rows(two)
    # 80, 88 and 90 %: mean 86, squares 36 + 4 + 16 = 56, / 2 = 28, root 5.29; median of the steps, not their mean.
    assert cells(dual, long=True) == [
        "dualpath", "", "0.01", "86.0 ± 5.3 %", "82.0 ± 8.7 %", "1,234,567 (6.17 %)", "3.50 x 12 = 42.0", "0.400", "1.50 GB",
        "12.3",
    ]  # fmt: skip
    assert (dual.lowest, dual.highest) == (0.8, 0.9)
    assert cells(probe) == [
        "probe", "epochs 9, lr 0.5", "0.5", "40.0 ± 0.0 %", "-", "850", "0.0123 x 12 = 0.148", "0.250", "1.50 GB", "12.3",
    ]  # fmt: skip


def test_one_seed_has_no_spread() -> None:
    one = made({"dualpath": {"method": "dualpath"}}, {"dualpath": [{}]})
    (row,) = make_rows(one)
    assert row.spread is None
    assert cells(row)[3] == "80.0 %"
    # Wilson's interval of 40 of 50: 67.0 to 88.8 %.
    said = "the 95 % interval of a single accuracy on 50 videos is up to 10.9 points to either side"
    assert remarks(one, [row])[1] == f"One seed: there is no spread to judge differences by; {said}."
    assert remarks(one, [row])[2] == "All share one learning rate, 0.01: one that suits one method may not suit another."


def test_folds_count_alike_within_a_seed() -> None:
    """Two seeds on two splits of 50 and 10 videos: 80 and 40 %, then 90 and 60 %."""
    asked = {"dualpath": {"method": "dualpath"}}
    runs = tuple(
        replace(RUN, seed=seed, fold=fold, videos=videos, right=right)
        for seed, fold, videos, right in ((0, 1, 50, 40), (0, 3, 10, 4), (5, 1, 50, 45), (5, 3, 10, 6))
    )
    counts: Any = {1: {"train": 100, "val": 0, "test": 50}, 3: {"train": 140, "val": 0, "test": 10}}
    both = made(asked, {"dualpath": [{}]}, counts=counts, seeds=(0, 5), results={"dualpath": runs})
    (row,) = make_rows(both)
    assert row.seeds == pytest.approx((0.6, 0.75))
    assert (row.top1, row.spread) == pytest.approx((0.675, 0.15 / 2**0.5))  # over the seeds, not over the four runs
    assert (row.lowest, row.highest) == pytest.approx((0.6, 0.75))
    assert row.folds == {1: (0.8, 0.9), 3: (0.4, 0.6)}
    assert cells(row)[3] == "67.5 ± 10.6 %"
    by_split = ["dualpath", "85.0 ± 7.1 %", "50.0 ± 14.1 %", "67.5 ± 10.6 %"]
    assert fold_tables(both, [row]) == [(["top-1 by split", "split 1", "split 3", "mean"], [by_split])]
    told = as_json(both, [row], command="")
    assert (told["folds"], told["data"]["videos"]) == ([1, 3], {"1": counts[1], "3": counts[3]})
    (entry,) = told["entries"]
    assert entry["top1_of_seeds"] == pytest.approx([0.6, 0.75])
    assert entry["top1_of_folds"]["3"] == pytest.approx({"mean": 0.5, "sd": 0.2 / 2**0.5, "min": 0.4, "max": 0.6})
    assert [(run["seed"], run["fold"]) for run in entry["runs"]] == [(0, 1), (0, 3), (5, 1), (5, 3)]
    assert "on 10 to 50 videos is up to " in told["unequal"][1]
    assert told["unequal"][3].startswith("The accuracy of a seed is the mean of 2 runs, one on each official split")
    above = dict(protocol(both, [row]))
    assert above["data"] == "/data/moves: split 1 with 100 train, 50 test; split 3 with 140 train, 10 test videos of 10 classes"
    assert above["accuracy"].startswith("mean over the official splits 1, 3 (50, 10 test videos), segment-16")
    alike = replace(both, results={"dualpath": tuple(replace(run, mean_class=run.top1) for run in runs)})
    assert len(fold_tables(alike, make_rows(alike))) == 1  # nothing to tell
    uneven = replace(both, results={"dualpath": tuple(replace(run, mean_class=run.top1 / 2) for run in runs)})
    heads, (halves,) = fold_tables(uneven, make_rows(uneven))[1]
    assert heads[0] == "mean per class by split"
    assert halves == ["dualpath", "42.5 ± 3.5 %", "25.0 ± 7.1 %", "33.8 ± 5.3 %"]
    assert all(text in comparison_table(uneven) for text in ("mean per class by split", "42.5 ± 3.5 %"))
    (entry,) = as_json(uneven, make_rows(uneven), command="")["entries"]
    assert entry["mean_class_accuracy_of_folds"]["1"]["mean"] == pytest.approx(0.425)
    lost = replace(both, results={"dualpath": (replace(runs[0], undecodable=2, shared_clips=True), *runs[1:])})
    said = remarks(lost, make_rows(lost))
    assert "Up to 2 videos of a split could not be decoded and counted as wrong, for every entry." in said
    assert any(remark.startswith("The runs of a seed and split share decoded clips: ") for remark in said)
    assert all(text in comparison_table(both) for text in ("top-1 by split", "85.0 ± 7.1 %", "50.0 ± 14.1 %"))
    alone = replace(both, counts={3: counts[3]}, results={"dualpath": runs[1::2]})
    assert dict(protocol(alone, make_rows(alone)))["accuracy"].startswith("official split 3 (10 test videos), segment-16")


def test_what_is_unequal_is_told(two: Comparison) -> None:
    told = " ".join(remarks(two, make_rows(two)))
    assert "± is the sample standard deviation over 3 seeds; " in told
    assert "The learning rates are each entry's own, as listed" in told
    assert "probe differs in more than its method: epochs 9." in told
    assert "kept in different types (dualpath in bfloat16; probe in float32)" in told
    assert "what the training process held at most" in told
    for absent in ("no test videos", "could not be decoded", "different machines", "Memory is missing"):
        assert absent not in told
    odd = {"undecodable": 1, "machine": "another", "peak_gpu_gb": 7.0}
    worse = replace(two, split="val", results=two.results | {"probe": (RUN, RUN, replace(RUN, **odd))})
    rows = make_rows(worse)
    told = " ".join(remarks(worse, rows))
    assert "The data has no test videos" in told
    assert "1 video could not be decoded and counted as wrong" in told
    assert "on different machines: their times and memory cannot be compared" in told
    lost = replace(two, results=two.results | {"probe": (RUN, RUN, replace(RUN, peak_ram_gb=None))})
    assert "Memory is missing where" in " ".join(remarks(lost, make_rows(lost)))
    assert cells(make_rows(lost)[1])[HEADS.index("peak memory")] == "-"


def test_files(two: Comparison, tmp_path: Path) -> None:
    told = write_comparison(two, tmp_path, command="dualpath compare x")
    assert json.loads((tmp_path / "compare.json").read_text()) == told
    first = told["entries"][0]
    assert first["top1"] == pytest.approx({"mean": 0.86, "sd": 0.052915, "min": 0.8, "max": 0.9}, rel=1e-4)
    assert first["mean_class_accuracy"] == pytest.approx({"mean": 0.82, "sd": 0.0866, "min": 0.72, "max": 0.87}, rel=1e-3)
    assert told["entries"][1]["mean_class_accuracy"] is None
    assert first["gmacs"] == {"view": 3.5, "views": 12, "video": 42.0}
    assert first["runs"][0]["top1_interval95"] == pytest.approx([0.66963, 0.88756], abs=1e-4)
    assert (told["settings"]["epochs"], "seed" in told["settings"], told["seeds"]) == (3, False, [0, 1, 2])
    page = (tmp_path / "compare.md").read_text()
    lines = page.splitlines()
    head = lines.index(f"| {' | '.join(HEADS)} |")
    assert lines[head + 1].count("|") == len(HEADS) + 1
    for place, row in enumerate(make_rows(two)):
        assert lines[head + 2 + place] == f"| {' | '.join(cells(row, long=True))} |"
    assert lines[2:5] == ["```", "dualpath compare x", "```"]
    assert "- **accuracy**: on the 50 test videos, segment-16, 4x3 views, weights of the last epoch" in lines
    assert "- **machine**: a box" in lines
    assert "](compare.png)" in page
    assert all(f"- {remark}" in lines for remark in remarks(two, make_rows(two)))
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.size[0] > 1000
    table = comparison_table(two)
    assert all(text in table for row in make_rows(two) for text in cells(row))
    assert all(remark in table for remark in remarks(two, make_rows(two)))


def test_three_digits() -> None:
    values = [0.0, 0.01234, 0.999, 1.234, 12.34, 123.4, 12345.6]
    assert [three(value) for value in values] == ["0", "0.0123", "0.999", "1.23", "12.3", "123", "12,346"]
    assert [short(value) for value in (0.5, 200.0, 1500.0, 2e4, 3e6, 2e9)] == ["0.5", "200", "1.5k", "20k", "3M", "2G"]


CROWD = [
    ("linear_probe", 2e3, 17.5, 0.412, 0.004), ("dualpath", 9.96e6, 36.4, 0.713, 0.006),
    ("dualpath-spatial", 4.2e6, 18.2, 0.648, 0.007), ("dualpath-temporal", 4.9e6, 18.2, 0.689, 0.009),
    ("adaptformer", 1.26e6, 282, 0.645, 0.005), ("st_adapter", 7.1e6, 311, 0.701, 0.004),
    ("aim", 11.2e6, 404, 0.699, 0.008), ("vpt", 0.09e6, 285, 0.602, 0.011), ("bitfit", 0.1e6, 281, 0.61, 0.006),
    ("lora", 0.6e6, 281, 0.633, 0.01), ("full_tuning", 86e6, 281, 0.672, 0.013), ("$zero$", 14e6, 281, 0.702, 0.006),
]  # fmt: skip


def test_picture_shows_the_points_and_hides_no_label() -> None:
    points = [Point(label, int(trained), float(gmacs), top1, spread) for label, trained, gmacs, top1, spread in CROWD]
    title = "Accuracy over cost on a|$data$: " + "on the 38 test videos, segment-16, 1x1 views, weights of the last epoch " * 3
    figure = make_figure(points, title=title)
    assert figure.get_suptitle().replace("\n", " ") == title.strip()
    above = figure.texts[0].get_window_extent()
    assert above.x1 <= figure.bbox.x1
    assert above.y0 > max(axes.get_window_extent().y1 for axes in figure.axes)
    for axes, name in zip(figure.axes, ("trainable", "gmacs"), strict=True):
        bars = [drawn for drawn in axes.containers if isinstance(drawn, ErrorbarContainer)]
        for point, bar in zip(points, bars, strict=True):
            line, _, (reach,) = bar.lines
            assert line is not None
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (getattr(point, name), pytest.approx(100 * point.top1))  # pyright: ignore
            low, high = reach.get_segments()[0][:, 1]
            assert (high - low) / 2 == pytest.approx(100 * (point.spread or 0))
        assert axes.get_xscale() == "log"
        boxes = [Bbox.from_extents(*Text.get_window_extent(text).extents) for text in axes.texts]
        assert len(boxes) == len(points)
        frame = axes.get_window_extent()
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert [text.get_text().replace("\\", "") for text in axes.texts] == [point.label for point in points]


def test_picture_of_one_point_and_of_equal_ones() -> None:
    one = Point("alone", 0, 1.0, 1.0)
    assert make_figure([one], title="of one").axes[0].get_xscale() == "linear"
    picture = Image.open(BytesIO(draw([one, replace(one, label="twin")], title="of two")))
    assert picture.format == "PNG"
