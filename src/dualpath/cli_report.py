"""The verb `dualpath report`: flags to functions, as in `cli`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualpath.errors import DualPathError

PAGE = "report.html"


def report_verb(words: Sequence[str]) -> int:
    """Writes the page of a run or an evaluation, or of two side by side."""
    from dualpath.flags import Parser, fill
    from dualpath.report.pages.report import ReportConfig, write_report_page
    from dualpath.report.pages.sources import read_source

    told = "One HTML page about a training run or an evaluation, or about two side by side; it opens from disk."
    parser = Parser("report", told)
    parser.add_argument("folder", type=str, help="what `dualpath train` or `dualpath evaluate` wrote")
    parser.add_argument("--against", type=str, metavar="FOLDER", help="another one, evaluated on the same videos")
    parser.add_argument("--output", type=str, metavar="FILE", help=f"the page; by default {PAGE} in the folder")
    parser.add_argument("--weights", type=str, default=None, help="local file with the backbone's weights, if it has moved")
    parser.add_argument("--data", type=str, metavar="DATA", help="the videos' folder or list, if it has moved")
    parser.add_class_arguments(ReportConfig)
    options = parser.read(words)
    folder = Path(options.folder)
    against = Path(options.against) if options.against else None
    output = Path(options.output) if options.output else folder / PAGE
    source = read_source(folder)
    other = read_source(against) if against is not None else None
    if against is not None and against.resolve() == folder.resolve():
        raise DualPathError(f"{against} would be compared with itself; give another folder with --against")
    if output.exists():
        raise DualPathError(f"the output {output} exists; give a new file with --output")
    write_report_page(
        output,
        source,
        against=other,
        config=fill(ReportConfig, options),
        weights=options.weights,
        data=Path(options.data) if options.data else None,
    )
    print(f"written to {output}, {output.stat().st_size / 1e6:.1f} MB; it opens in any browser")
    return 0
