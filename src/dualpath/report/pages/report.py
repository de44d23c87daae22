"""A training run or an evaluation as one HTML page, or two side by side: report.html.j2 says how it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.engine.checkpoint import versions
from dualpath.engine.evaluate import Evaluation
from dualpath.errors import DualPathError
from dualpath.report.curves import Curve, plot, smooth, wilson
from dualpath.report.maps.heat import TICKS, place, scale_bar
from dualpath.report.pages.calibration import calibration_of, reliability
from dualpath.report.pages.cards import ClipCard, best_guesses
from dualpath.report.pages.classes import class_rows, confusion_rows, worst_pairs
from dualpath.report.pages.contents import bad_files, commands, cost_rows, data_rows, merged, names_of, repeat_rows, title
from dualpath.report.pages.making import write_page
from dualpath.report.pages.pairing import Sides, match
from dualpath.report.pages.sheets import Sheets
from dualpath.report.pages.sources import Source
from dualpath.report.pictures import choose_wrong, in_pairs, inline
from dualpath.settings import check_fields

MANY_CLASSES = 24
"""More are not shown in one matrix."""
BARS_SHOWN, PAIRS_SHOWN, PAIRS_IN_MATRIX = 30, 10, 8
FILES_SHOWN, LINES_SHOWN = 200, 12


@dataclass(frozen=True)
class ReportConfig:
    """What a report shows.

    Attributes:
        mistakes: of the most confident mistakes, or, of two models, of the clips on which they differ most, so many are
            shown with pictures; 0 for none, which is quick.
    """

    mistakes: int = 6

    def __post_init__(self) -> None:
        check_fields(self)
        if self.mistakes < 0:
            raise DualPathError(f"mistakes is {self.mistakes}, but it must be at least 0")


def write_report_page(
    path: Path,
    source: Source,
    *,
    against: Source | None = None,
    config: ReportConfig | None = None,
    weights: str | None = None,
    data: Path | None = None,
) -> None:
    """Writes the page: one file, no network, no script.

    Args:
        path: the HTML file.
        source: what is reported.
        against: what it is compared with, on the same videos.
        config: how much of it.
        weights: local file with the backbone's weights, if it has moved: for the pictures.
        data: the videos' folder or list, if it has moved: for the pictures.

    Raises:
        DualPathError: what is recorded is damaged, or the two are not of the same videos; or the page cannot be written.
    """
    config = config or ReportConfig()
    sides = None
    if against is not None:
        source, against, sides = match(source, against)
    sources = [source] if against is None else [source, against]
    found = [sides.first, sides.second] if sides else [source.evaluation]
    try:
        subjects = [
            _subject(f"s{i}", names_of(one, sources[1 - i] if against is not None else None), one, evaluation)
            for i, (one, evaluation) in enumerate(zip(sources, found, strict=True))
        ]
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        if isinstance(problem, DualPathError):
            raise
        folders = " or ".join(str(one.folder) for one in sources)
        raise DualPathError(
            f"a record in {folders} (run.json, measured.json) holds what dualpath never writes ({problem!r}); restore it"
        ) from problem
    first = found[0]
    sheets = Sheets(source, first, weights=weights, data=data) if first is not None else None
    cards = _mistakes(sheets, config.mistakes) if sheets and not sides else []
    write_page(
        path,
        "report.html.j2",
        subjects=subjects,
        version=versions()["dualpath"],
        first=first,
        chance=1 / len(first.classes) if first is not None else None,
        plots=_plots(subjects, sources, first),
        tables=[
            (name, told, merged([subject["rows"][name] for subject in subjects]))
            for name, told in (("data", "Protocol and data"), ("cost", "Speed and size"), ("repeat", "Versions and hashes"))
        ],
        classes=_classes(subjects, found) if first is not None else None,
        sides=_sides(sides, subjects, sheets, config.mistakes) if sides and sheets else None,
        cards=cards,
        wanted=config.mistakes,
        mistakes=len(choose_wrong(first, len(first.videos))) if first is not None else 0,
        **_pictures(sheets),
        files_shown=FILES_SHOWN,
    )


def _subject(series: str, name: str, source: Source, evaluation: Evaluation | None) -> dict[str, Any]:
    """What the page says of one of them."""
    right = int((evaluation.predictions == evaluation.labels).sum()) if evaluation is not None else 0
    bad = bad_files(source, evaluation)
    calibration = calibration_of(evaluation) if evaluation is not None else None
    shown = confused = None
    if evaluation is not None:
        pairs = worst_pairs(evaluation, max(PAIRS_SHOWN, PAIRS_IN_MATRIX))
        many = len(evaluation.classes) > MANY_CLASSES
        chosen = [label for pair in pairs[:PAIRS_IN_MATRIX] for label in (pair.true, pair.taken)]
        shown = list(dict.fromkeys(chosen)) if many else in_pairs(evaluation.classes)
        names = evaluation.classes
        confused = {
            "pairs": [(names[pair.true], names[pair.taken], pair) for pair in pairs[:PAIRS_SHOWN]],
            "columns": [names[label] for label in shown],
            "rows": confusion_rows(evaluation, shown),
            "part": many,
        }
    return {
        "series": series,
        "name": name,
        "method": title(source.method) if source.method else "",
        "folder": str(source.folder),
        "evaluation": evaluation,
        "right": right,
        "interval": wilson(right, len(evaluation.videos)) if evaluation is not None else None,
        "figures": evaluation.summary() if evaluation is not None else None,
        "rows": {"data": data_rows(source, evaluation), "cost": cost_rows(source), "repeat": repeat_rows(source)},
        "others": [
            (one.folder.name, one, one.origin.split, wilson(round(one.top1 * one.videos), one.videos))
            for one in source.evaluations[1:]
        ],
        "confusion": confused,
        "calibration": reliability(calibration) if calibration is not None else None,
        "commands": commands(source),
        "bad": bad[:FILES_SHOWN],
        "bad_count": len(bad),
        "is_run": source.run is not None,
        "epochs": [line for line in source.epochs if "val_top1" in line],
        "lines": _lines(source),
    }


def _lines(source: Source) -> list[tuple[int, float, float | None]]:
    """(step, smoothed loss, learning rate) at even distances, for those who do not see the curves."""
    steps = [line for line in source.steps if math.isfinite(line["loss"])]
    losses = smooth([float(line["loss"]) for line in steps])
    chosen = sorted({round(i) for i in np.linspace(0, len(steps) - 1, min(LINES_SHOWN, len(steps))).tolist()}) if steps else []
    return [(steps[i]["step"], losses[i], steps[i].get("lr")) for i in chosen]


def _plots(subjects: Sequence[dict[str, Any]], sources: Sequence[Source], first: Evaluation | None) -> list[dict[str, Any]]:
    """Loss, learning rate and validation accuracy over the steps, of those that have logged them."""

    def curves(key: str, *, epochs: bool, rough: bool = False) -> list[Curve]:
        told = []
        for subject, source in zip(subjects, sources, strict=True):
            lines = source.epochs if epochs else source.steps
            points = [(line["step"], float(line[key])) for line in lines if isinstance(line.get(key), int | float)]
            if points:
                told.append(Curve(subject["name"], subject["series"], points, rough=rough))
        return told

    losses, rates, tops = curves("loss", epochs=False, rough=True), curves("lr", epochs=False), curves("val_top1", epochs=True)
    guessing = math.log(len(first.classes)) if first is not None else None
    mark = (guessing, "guessing") if guessing else None
    plots: list[dict[str, Any]] = []
    if losses:
        plots.append({"name": "Loss", "digits": 3, "plot": plot(losses, title="optimizer steps", mark=mark, fitted=True)})
    if rates:
        plots.append({"name": "Learning rate", "digits": 6, "plot": plot(rates, title="optimizer steps", told=_small)})
    if tops:
        drawn = plot(tops, title="optimizer steps", top=1.0, told=lambda value: f"{100 * value:.0f} %")
        plots.append({"name": "Validation top-1", "digits": 3, "plot": drawn})
    return plots


def _small(value: float) -> str:
    """0.00025 -> "2.5e-4"; what is short anyway stays."""
    plain = f"{value:g}"
    if len(plain) < 6 and "e" not in plain:
        return plain
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _classes(subjects: Sequence[dict[str, Any]], found: Sequence[Evaluation | None]) -> dict[str, Any]:
    """Bars of the classes; of many, only of those that say most, and a table of all."""
    told = [(s["series"], one) for s, one in zip(subjects, found, strict=True) if one is not None]
    first = told[0][1]
    order = in_pairs(first.classes)
    paired = order != list(range(len(order)))
    counts = first.confusion().sum(axis=1)
    there = [label for label in order if counts[label]]
    many = len(there) > BARS_SHOWN
    chosen = order
    if many:
        shares = first.per_class()
        by_share = sorted(there, key=lambda label: (shares[first.classes[label]] or 0.0, label))
        chosen = [*by_share[: 2 * BARS_SHOWN // 3], *by_share[len(by_share) - BARS_SHOWN // 3 :]]
    rows = class_rows(told, chosen, paired=paired and not many)
    return {
        "rows": rows,
        "many": many,
        "worst": 2 * BARS_SHOWN // 3,
        "best": BARS_SHOWN // 3,
        "all": [(int(counts[label]), row) for label, row in zip(order, class_rows(told, order), strict=True)],
        "heads": [(s["series"], s["name"]) for s in subjects],
        "paired": paired and not many,
    }


def _pictures(sheets: Sheets | None) -> dict[str, Any]:
    """What the page says of its pictures: why there are none, or what the maps' colours mean, or why there are no maps."""
    told: dict[str, Any] = {"no_pictures": sheets.problem if sheets else "", "scale": None, "pathless": ""}
    method = sheets.source.method if sheets and sheets.shown else None
    if method == "dualpath":
        bar = np.asarray(scale_bar(480, 24))
        told["scale"] = {"picture": inline(bar), "ticks": list(zip(TICKS, 100 * place(np.array(TICKS, float)), strict=True))}
    elif method:
        told["pathless"] = title(method)
    return told


def _mistakes(sheets: Sheets, count: int) -> list[ClipCard]:
    return [sheets.card(index) for index in choose_wrong(sheets.evaluation, count)]


def _sides(sides: Sides, subjects: Sequence[dict[str, Any]], sheets: Sheets, count: int) -> dict[str, Any]:
    """What only two together can say."""
    first, second = (subject["name"] for subject in subjects)

    def both(indices: Sequence[int]) -> list[ClipCard]:
        return [replace(sheets.card(index), rival=(first, second, best_guesses(sides.second, index))) for index in indices]

    up, down = sides.differ_most((count + 1) // 2)
    gaps = sides.class_gaps()
    return {
        "told": sides,
        "gaps": [(sides.first.classes[label], a, b) for label, a, b in gaps[:BARS_SHOWN]],
        "hidden": max(0, len(gaps) - BARS_SHOWN),
        "up": both(up),
        "down": both(down),
    }
