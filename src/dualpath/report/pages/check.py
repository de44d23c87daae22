"""A check of a data set for people: a table on the terminal, and a page with pictures (check.html.j2 says how it looks)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from dualpath.data.checking.check import Check
from dualpath.data.checking.findings import Finding
from dualpath.data.manifest import Video
from dualpath.engine.data_verbs import FILES_A_SET, SETS_SHOWN
from dualpath.errors import number_of
from dualpath.report.pages.making import write_page
from dualpath.report.tables import as_text
from dualpath.terminal import in_line

NAMES_SHOWN = 5  # of a finding, on the terminal
FILES_SHOWN, CLASSES_SHOWN, SHEETS_SHOWN = 200, 100, 60  # on the page
BINS = 20
NO_LABEL = "no label that can be used"


def check_table(check: Check) -> str:
    """What the files hold, and what was found."""
    told = check.as_json()
    table = Table("what", "found")
    bad = f", {len(check.bad):,} of them cannot be used" if check.bad else ""
    table.add_row("files", f"{told['files']:,}{bad}")
    if words := check.manifest.census_words():
        table.add_row(f"listed ({check.manifest.format})", words)
    for split, classes in told["usable_videos"].items():
        if any(told["videos"][split].values()):
            few, many = min(classes.values()), max(classes.values())
            table.add_row(
                f"usable in {split}",
                f"{sum(classes.values()):,} of {number_of(len(classes), 'class|classes')}, {few:,} to {many:,} a class",
            )
    table.add_row("decoded frames", f"{told['frames']:,}")
    for name, key, unit in (("length", "length_s", " s"), ("frames a video", "frames_a_video", ""), ("rate", "fps", " fps")):
        if told[key]:
            low, middle, high = (f"{told[key][at]:,.4g}" for at in ("smallest", "median", "largest"))
            table.add_row(name, f"{low} to {high}{unit}, half of them below {middle}{unit}")
    for name, key in (("size", "sizes"), ("codec", "codec"), ("container", "container"), ("pixels", "pixel_format")):
        if told[key]:
            table.add_row(name, _most(told[key]))
    table.add_row("with sound", f"{told['with_sound']:,}")
    table.add_row("variable rate", f"{told['variable_frame_rate']:,}")
    parts: list[Table | str] = [table]
    for finding in check.findings:
        parts.append(f"{finding.severity:<8} {finding.text}")
        if finding.kind == "unreadable":
            parts += [f"           {in_line(name)}: {check.bad[name]}" for name in finding.files[:NAMES_SHOWN]]
        elif finding.details:
            parts += [f"           {in_line(told)}" for told in finding.details[:NAMES_SHOWN]]
        elif finding.sets:
            parts += [f"           {in_line(' = '.join(names[:4]))}" for names in finding.sets[:NAMES_SHOWN]]
        elif finding.files and finding.severity != "note":
            parts.append(f"           {in_line(', '.join(finding.files[:NAMES_SHOWN]))}")
        more = len(finding.sets or finding.details or finding.files) - NAMES_SHOWN
        if more > 0 and finding.severity != "note":
            parts.append(f"           and {more:,} more, in check.json")
    return as_text(*parts)


def _most(tally: dict[str, int], most: int = 4) -> str:
    first = list(tally.items())[:most]
    rest = len(tally) - len(first)
    return ", ".join(f"{name} ({times:,})" for name, times in first) + (f" and {rest:,} more" if rest else "")


def verdict(check: Check) -> str:
    """The last line: whether the data can be used, and if not, the first reason."""
    errors = [finding for finding in check.findings if finding.severity == "error"]
    if not errors:
        left = f", {number_of(len(check.bad), 'file')} left out" if check.bad else ""
        return f"usable: {number_of(len(check.good), 'file')}{left}"
    more = f" (and {number_of(len(errors) - 1, 'error')} more)" if len(errors) > 1 else ""
    return f"not usable: {errors[0].text}{more}"


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: where it begins and ends, how many there are, and its height in per cent."""

    low: float
    high: float
    count: int
    height: float


def histogram(values: Sequence[float], *, bins: int = BINS) -> list[Bar]:
    """Counts values in even steps; a single bar where all are equal. The last step holds its end too."""
    if not values:
        return []
    low, high = min(values), max(values)
    if math.isclose(low, high):
        return [Bar(low, high, len(values), 100.0)]
    width = (high - low) / bins
    counts = Counter(min(int((value - low) / width), bins - 1) for value in values)
    top = max(counts.values())
    return [Bar(low + i * width, low + (i + 1) * width, counts[i], 100 * counts[i] / top) for i in range(bins)]


def write_check_page(path: Path, check: Check, *, data: str, output: str) -> None:
    """Writes the page: one file, no network, no script.

    Args:
        path: the HTML file.
        check: what was found; the pictures are those of its records.
        data: as it was given, to be named.
        output: the same, for the command with --checked.

    Raises:
        DualPathError: the page cannot be written.
    """
    good, bad, told = check.good, check.bad, check.as_json()
    write_page(
        path,
        "check.html.j2",
        data=data,
        output=output,
        told=told,
        verdict=verdict(check),
        hours=sum(seen.duration or 0 for seen in good.values()) / 3600,
        findings=[_told(finding) for finding in check.findings],
        bad=list(bad.items())[:FILES_SHOWN],
        bad_count=len(bad),
        histograms=[
            ("Length", "seconds", histogram([seen.duration for seen in good.values() if seen.duration])),
            ("Shorter side", "pixels", histogram([float(min(seen.width, seen.height)) for seen in good.values()])),
            ("Frame rate", "frames a second", histogram([seen.fps for seen in good.values() if seen.fps])),
        ],
        balance=_balance(told["usable_videos"]),
        hidden_classes=max(0, len(told["classes"]) - CLASSES_SHOWN),
        sheets=_sheets(check),
        hidden_sheets=max(0, len(told["classes"]) - SHEETS_SHOWN),
        copies=_copies(check),
        formats=[(name, told[key]) for name, key in (("Codec", "codec"), ("Container", "container"),
                 ("Pixel format", "pixel_format"), ("Size", "sizes"))],
    )  # fmt: skip


def _told(finding: Finding) -> dict[str, Any]:
    told = finding.details or finding.files
    return {"severity": finding.severity, "text": finding.text, "told": told[:FILES_SHOWN],
            "what": number_of(len(told), "problem" if finding.details else "file"),
            "more": max(0, len(told) - FILES_SHOWN)}  # fmt: skip


def _balance(counts: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Rows of the classes, the largest first: videos in each split, and the width of the bar in per cent."""
    classes = list(next(iter(counts.values())))
    totals = {name: sum(split[name] for split in counts.values()) for name in classes}
    top = max(totals.values(), default=0)
    order = sorted(classes, key=lambda name: -totals[name])
    if len(order) > CLASSES_SHOWN:  # both ends
        order = order[: CLASSES_SHOWN // 2] + order[-CLASSES_SHOWN // 2 :]
    return [
        {
            "name": name,
            "splits": [(split, counts[split][name], 100 * counts[split][name] / max(1, top)) for split in counts],
            "total": totals[name],
        }
        for name in order
    ]


def _sheets(check: Check) -> list[dict[str, Any]]:
    """Of each class the files with pictures."""
    by_label: dict[int, list[dict[str, Any]]] = {}
    good, first = check.good, _first_videos(check)
    for label, name in dict.fromkeys((video.label, video.file) for video in check.manifest.videos):
        if check.records[name].pictures and name in good and len(by_label.setdefault(label, [])) < 8:
            by_label[label].append(_card(check, first[name]))
    names = check.manifest.classes
    return [
        {"name": names[label] if 0 <= label < len(names) else NO_LABEL, "files": files}
        for label, files in sorted(by_label.items())
        if files
    ][:SHEETS_SHOWN]


def _copies(check: Check) -> list[dict[str, Any]]:
    """Sets of equal or similar files, with the pictures of the first of each."""
    first = _first_videos(check)
    return [
        {
            "text": finding.text,
            "severity": finding.severity,
            "sets": [[_card(check, first[name]) for name in names[:FILES_A_SET]] for names in finding.sets[:SETS_SHOWN]],
            "more": max(0, len(finding.sets) - SETS_SHOWN),
        }
        for finding in check.findings
        if finding.sets and finding.kind != "group-crosses"
    ]


def _first_videos(check: Check) -> dict[str, Video]:
    """By name of a file the first of the videos that are segments of it."""
    return {video.file: video for video in reversed(check.manifest.videos)}


def _card(check: Check, video: Video) -> dict[str, Any]:
    record, seen = check.records[video.file], check.records[video.file].inspection
    assert seen is not None
    classes = check.manifest.classes
    return {
        "name": video.file,
        "label": classes[video.label] if 0 <= video.label < len(classes) else NO_LABEL,
        "split": video.split,
        "pictures": [f"data:image/jpeg;base64,{picture}" for picture in record.pictures],
        "facts": f"{seen.width}x{seen.height}, {number_of(seen.num_frames, 'frame')}"
        + (f", {seen.duration:.1f} s" if seen.duration else ""),
    }
