"""Results as tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from dualpath.engine.evaluate import Evaluation
from dualpath.engine.info import Info
from dualpath.errors import number_of
from dualpath.report.predictions import as_text
from dualpath.terminal import in_line

WIDEST_MATRIX = 16  # classes: more would not fit a terminal


def accuracy_table(evaluation: Evaluation) -> str:
    """Overall figures, accuracy by class, confusion matrix and the videos that could not be decoded."""
    figures = evaluation.summary()
    overall = Table("videos", "top-1", "top-5", "mean per class", "protocol")
    shares = (f"{100 * figures[key]:.2f} %" for key in ("top1", "top5", "mean_class_accuracy"))
    overall.add_row(str(figures["videos"]), *shares, figures["protocol"])
    matrix = evaluation.confusion()
    by_class = Table("#", "class", "videos", "right", *(["predicted as # ..."] if len(matrix) <= WIDEST_MATRIX else []))
    for label, (name, share) in enumerate(figures["per_class"].items()):
        told = "-" if share is None else f"{100 * share:.1f} %"
        row = [str(label), in_line(name), str(matrix[label].sum()), told]
        if len(matrix) <= WIDEST_MATRIX:
            row.append(" ".join(f"{count:>3}" if count else "  ." for count in matrix[label, :-1]))
        by_class.add_row(*row)
    parts: list[Table | str] = [overall, by_class]
    if told := evaluation.listed_words():
        parts.append(told)
    for key, told in (
        ("undecodable", "could not be decoded and counted as wrong"),
        ("damaged", "damaged, the rest was judged"),
    ):
        if figures[key]:
            parts.append(f"{number_of(len(figures[key]), 'video')} {told}:")
            parts += [f"  {in_line(name)} {reason}" for name, reason in figures[key].items()]
    return as_text(*parts)


def info_table(info: Info) -> str:
    """A backbone and what each method costs on it; a method that refuses it has its reason instead of figures."""
    told, config = info.backbone, info.config
    widths = f"{told['width']:,}" + (f" to {told['final_width']:,}" if told["final_width"] != told["width"] else "")
    head = (
        f"{told['name']}: {told['size']}x{told['size']} pixels, patches of {told['patch']}, {told['depth']} layers of width "
        f"{widths}, {told['parameters'] / 1e6:.2f} M parameters"
    )
    refused = any(cost.problem for cost in info.costs)
    table = Table("method")
    for name in ("trainable", "all", "share", "GMACs a view", "GMACs in all", "a clip in training"):
        table.add_column(name, justify="right")
    if refused:
        table.add_column("refused because")
    views = info.views.num_clips * info.views.num_crops
    for cost in info.costs:
        plan = cost.plan
        if plan is None:
            table.add_row(cost.method, *["-"] * 6, cost.problem or "")
            continue
        figures = (f"{plan.trainable / 1e6:.2f} M", f"{plan.total / 1e6:.2f} M", f"{100 * plan.trainable / plan.total:.2f} %",
                   f"{plan.gmacs:.2f}", f"{plan.gmacs * views:.2f}", f"{plan.clip_bytes / 1e6:.0f} MB")  # fmt: skip
        table.add_row(cost.method, *figures)
    again = ", layers computed again" if config.gradient_checkpointing else ""
    return as_text(
        head,
        table,
        f"{info.protocol}; {config.num_classes} classes; memory on a GPU, frozen weights in {config.precision}{again}",
    )
