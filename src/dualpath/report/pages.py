"""How all pages are made: templates beside this file, filled in with every value escaped, written whole."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from dualpath.files import write_whole


def _source(name: str) -> str:
    return resources.files("dualpath.report").joinpath(*name.split("/")).read_text(encoding="utf-8")


_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no script.

    Args:
        path: the HTML file.
        template: name of a file beside this one, such as "check.html.j2".
        values: what its variables stand for; names of files and classes are escaped.

    Raises:
        DualPathError: the page cannot be written.
    """
    page = _ENVIRONMENT.get_template(template).render(**values)
    # A name that is no UTF-8 is shown with a question mark.
    write_whole(path, page.encode("utf-8", "replace"))
