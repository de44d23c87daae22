"""The table of sizes in docs/methods.md is what `dualpath info` says today."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_sizes_is_not_old() -> None:
    with_sizes = runpy.run_path(str(ROOT / "scripts" / "make_tables.py"))["with_sizes"]
    page = (ROOT / "docs" / "methods.md").read_text()
    assert with_sizes(page) == page, "python scripts/make_tables.py --only sizes"
