"""The figures of `dualpath data bench` as a table and sentences."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from dualpath.engine.bench import Bench
from dualpath.errors import number_of
from dualpath.report.tables import as_text


def bench_table(bench: Bench, sentences: Sequence[str]) -> str:
    """Clips a second of each step and of the loader, and what follows from them."""
    workers = sorted({w for rates in bench.rates.values() for w in rates.loader})
    table = Table("files", title="clips/s", title_justify="left")
    loaders = [f"loader, {number_of(w, 'worker')}" for w in workers]
    for name in ("MB a file", "disk", "decode", "transform", "transfer", *loaders):
        table.add_column(name, justify="right")
    for name, rates in bench.rates.items():
        alone = (rates.disk, rates.decode, rates.transform, rates.transfer)
        found = [*alone, *(rates.loader[w] for w in workers)]
        table.add_row(name, f"{rates.megabytes:.2f}", *("-" if rate is None else f"{rate:,.1f}" for rate in found))
    what = f"{number_of(bench.files, 'file')} of {bench.data}, clips of {bench.clip}, {number_of(bench.cores, 'core')}"
    head = f"{what}; decode and transform: one process"
    return as_text(head, table, *sentences)
