"""What a report says of one run or evaluation, in words: rows of tables, each value one cell. "not recorded" is said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualpath.engine.baseline import describe_baseline
from dualpath.engine.evaluate import Evaluation
from dualpath.errors import number_of
from dualpath.report.curves import duration
from dualpath.report.pages.sources import Source

MISSING = "not recorded"


def names_of(source: Source, other: Source | None = None) -> str:
    """What to call it: the method where that tells it from the other one, else its folder."""
    if source.method and (other is None or other.method not in (None, source.method)):
        return title(source.method)
    return source.name if other is None or other.name != source.name else str(source.folder)


def title(method: str) -> str:
    """dualpath -> DualPath; the others as they are given on the command line, without underscores."""
    return "DualPath" if method == "dualpath" else method.replace("_", " ")


def data_rows(source: Source, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Protocol and counts."""
    rows: list[tuple[str, str]] = []
    origin, record, training = source.origin, _part(source.record, "data"), _part(source.model, "training")
    settings = _part(source.record, "settings")
    rows.append(("Model", _model(source)))
    if evaluation is not None:
        split = f"{origin.split} of {origin.data}" if origin.split else MISSING
        rows += [
            ("Protocol", evaluation.protocol),
            ("Videos from", split),
            ("Videos judged", f"{len(evaluation.videos):,} of {len(evaluation.classes):,} classes"),
            ("Could not be read, counted as wrong", f"{len(evaluation.failures):,}"),
            ("of these, found by dualpath data check", f"{evaluation.quarantined:,}"),
            ("Of the official list", evaluation.listed_words() or "this data set has none"),
        ]
    if source.record:
        counts = _part(record, "counts")
        usable = [f"{split} {sum(found.values()):,}" for split, found in counts.items() if isinstance(found, Mapping)]
        left_out, skipped = record.get("left_out"), source.record.get("skipped")
        rows += [
            ("Training data", str(record.get("root", MISSING))),
            ("Usable videos", ", ".join(usable) or MISSING),
            ("Left out before training", MISSING if left_out is None else f"{len(left_out):,}"),
            (
                "of these, quarantined by dualpath data check",
                f"{record['quarantined']:,}" if "quarantined" in record else MISSING,
            ),
            ("Skipped in training", MISSING if skipped is None else f"{len(skipped):,}"),
        ]
    if baseline := _part(source.record, "baseline"):
        rows.append(("Frozen features alone", describe_baseline(baseline).partition(": ")[2]))
    told = training or settings
    words = [(name, told.get(name, told.get(name.replace(" ", "_")))) for name in ("epochs", "batch", "learning rate", "seed")]
    rows.append(("Training", ", ".join(f"{name} {value}" for name, value in words if value is not None) or MISSING))
    return rows


def _model(source: Source) -> str:
    settings, backbone = _part(source.record, "settings"), _part(source.model, "backbone")
    name = source.origin.backbone or settings.get("backbone") or backbone.get("backbone")
    clip = _part(source.model, "sampling").get("num_frames") or settings.get("num_frames")
    size = _part(source.model, "preprocessing").get("size")
    told = f"{title(source.method)} on {name}" if source.method and name else title(source.method) if source.method else MISSING
    clips = f", clips of {number_of(clip, 'frame')}" if clip else ""
    return told + clips + (f" of {size}x{size} pixels" if clips and size else "")


def cost_rows(source: Source) -> list[tuple[str, str]]:
    """Speed and size."""
    origin, plan, measured = source.origin, _part(source.record, "plan"), source.measured
    trainable, total = origin.trainable or plan.get("trainable"), origin.total or plan.get("total")
    size = origin.checkpoint_bytes or (_bytes(source.checkpoint) if source.checkpoint else None)
    step, memory = source.step_seconds(), _part(source.record, "memory")
    trained = [line["seconds"] for line in source.epochs if isinstance(line.get("seconds"), int | float)]
    speeds = [line["clips_per_s"] for line in source.steps if line.get("clips_per_s")]
    peaks = [memory.get(key, measured.get(key)) for key in ("peak_ram_gb", "peak_gpu_gb")]
    gmacs, fixed = plan.get("gmacs"), origin.clips_per_s
    seconds = None if origin.seconds is None or origin.videos_per_s is None else (origin.seconds, origin.videos_per_s)
    rows = [
        (
            "Trained parameters",
            f"{trainable:,}" + (f" ({100 * trainable / total:.2f} %)" if total else "") if trainable else "",
        ),
        ("Parameters in all", f"{total:,}" if total else ""),
        ("Checkpoint on disk", f"{size / 1e6:,.2f} MB" if size else ""),
        ("Multiply-adds of a view", f"{gmacs:,.2f} GMACs" if gmacs else ""),
    ]
    if source.evaluations:
        rows += [
            ("Evaluation took", f"{duration(seconds[0])}, {seconds[1]:,.1f} videos a second" if seconds else ""),
            ("Clips a second in it, reading included", f"{fixed:,.1f}" if fixed else ""),
            ("Peak memory of the evaluation", _memory(origin.peak_ram_gb, origin.peak_gpu_gb)),
        ]
    if source.run is not None:
        rows += [
            ("Training took", duration(trained[-1]) if trained else ""),
            ("A step of it", f"{step[0]:.3f} s, and {step[1]:.3f} s waiting for clips (medians)" if step else ""),
            ("Clips a second at its end", f"{speeds[-1]:,.1f}" if speeds else ""),
            (
                "Peak memory of the training",
                _memory(*peaks),
            ),
        ]
    if measured.get("clips_per_s"):
        rows.append(("Clips a second, the model alone", f"{measured['clips_per_s']:,.1f}"))
    machine = origin.machine or measured.get("machine") or source.record.get("machine")
    rows.append(("Machine", str(machine) if machine else ""))
    return [(name, value or MISSING) for name, value in rows]


def _memory(ram: float | None, gpu: float | None) -> str:
    told = [f"{value:.2f} GB of {kind}" for kind, value in (("memory", ram), ("GPU memory", gpu)) if value]
    return ", ".join(told)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def repeat_rows(source: Source) -> list[tuple[str, str]]:
    """Versions and hashes."""
    origin, backbone = source.origin, _part(source.model, "backbone")
    told = origin.versions or _part(source.record, "versions") or _part(source.model, "versions")
    rows = [(f"Version of {name}", str(version)) for name, version in told.items()] or [("Versions", MISSING)]
    weights = origin.checkpoint_sha256 or source.model.get("sha256")
    rows += [
        ("Checkpoint", origin.checkpoint or (str(source.checkpoint) if source.checkpoint else MISSING)),
        ("sha256 of its trained weights", str(weights or MISSING)),
        ("sha256 of the backbone's weights", str(origin.backbone_sha256 or backbone.get("sha256") or MISSING)),
    ]
    if source.evaluations:
        rows.append(("sha256 of the names and labels judged", origin.videos_sha256 or MISSING))
    if source.run is not None:
        rows.append(("sha256 of the training data's names, labels, splits, lengths",
                     str(_part(source.record, "data").get("sha256") or MISSING)))  # fmt: skip
    return rows


def merged(lists: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Rows of several subjects as one table: what, and a cell of each; a row that one lacks is "not recorded" there."""
    names = dict.fromkeys(name for rows in lists for name, _ in rows)
    told = [dict(rows) for rows in lists]
    return [(name, [rows.get(name, MISSING) for rows in told]) for name in names]


def commands(source: Source) -> list[tuple[str, str]]:
    """(what, command line) to make it again, as they were given."""
    told: list[tuple[str, str]] = []
    trained, origin = source.record.get("command"), source.origin
    if isinstance(trained, Sequence) and not isinstance(trained, str) and trained:
        told.append(("Training", _line([str(word) for word in trained])))
    if origin.command:
        where = f", in {origin.folder}" if origin.folder else ""
        told.append((f"Evaluation{where}", _line(origin.command)))
    seen = dict.fromkeys(line for _, line in told)
    return [(", ".join(what for what, other in told if other == line), line) for line in seen]


def _line(words: Sequence[str]) -> str:
    first = Path(words[0]).name
    return shlex.join(["dualpath" if first in ("dualpath", "cli.py", "__main__.py") else words[0], *words[1:]])


def bad_files(source: Source, evaluation: Evaluation | None) -> list[tuple[str, str, str]]:
    """(name, reason, what became of it) of all files that could not be used, or not all of them."""
    record = _part(source.record, "data")
    told = [(str(name), str(why), "left out of the training") for name, why in _part(record, "left_out").items()]
    told += [(str(name), str(why), "skipped in training") for name, why in _part(source.record, "skipped").items()]
    told += [(str(name), str(why), "the rest was learnt from") for name, why in _part(record, "damaged").items()]
    if evaluation is not None:
        told += [(evaluation.videos[i].name, why, "the rest was judged") for i, why in evaluation.damaged.items()]
        told += [(evaluation.videos[i].name, why, "counted as wrong") for i, why in evaluation.failures.items()]
    return told


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, Mapping) else {}
