"""The pages in a real browser: no errors, as wide as their window, something to be seen, in light, dark and on a phone.

Screenshots are kept in test-output/screens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_page import Demo, demo  # noqa: F401 (a fixture)
from test_report import CLASSES, GUESSES, LABELS, pictured, write_run  # noqa: F401 (a fixture)

import browser
from browser import Browser, keep
from dualpath.cli import main
from dualpath.data.checking import check as check_module
from dualpath.report.pages.report import ReportConfig, write_report_page
from dualpath.report.pages.sources import read_source
from evaluations import NASTY, guessed
from runs import ask_here
from videos import write_video

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium on this machine")

WAYS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"dark": True},
    "phone": {"width": 390},
    "print": {"width": 800, "dark": True, "printed": True},
}
SEEN = [(name, way) for name in ("pictured", "demo", "check") for way in ("light", "dark", "phone")]
SEEN += [("two", "light"), ("two", "phone"), ("many", "phone"), ("many", "print"), ("pictured", "print")]


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def pages(demo: Demo, pictured: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: F811
    """One of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    demo.write()
    _write_check(folder)
    run = write_run(folder / "first", ("evaluation-test", guessed(LABELS, GUESSES, CLASSES)))
    other = write_run(folder / "second", ("evaluation-test", guessed(LABELS, [*GUESSES[1:], (2, 0.5)], CLASSES)))
    write_report_page(folder / "two.html", read_source(run), against=read_source(other))
    write_report_page(folder / "pictured.html", read_source(pictured / "evaluation-val"), config=ReportConfig(2))
    classes = tuple(NASTY[i] if i < len(NASTY) else f"a class with a long name {i}" for i in range(400))
    guesses = [(7 * i % 400 if i % 3 else i, 0.3 + i / 800) for i in range(400)]
    guessed(range(400), guesses, classes).write(folder / "many")
    write_report_page(folder / "many.html", read_source(folder / "many"), config=ReportConfig(2))
    names = {name: folder / f"{name}.html" for name in ("two", "pictured", "many")}
    return names | {"demo": demo.folder / "report.html", "check": folder / "check" / "report.html"}


def _write_check(folder: Path) -> None:
    for name in ("red <b>", "blue"):
        for i in range(2):
            path = folder / "data" / name / f"{'long name ' * 9}{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, 20 + i + len(name))
    (folder / "data/blue/bad.mp4").write_text("no video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_module, "ask", ask_here)
        main(["data", "check", str(folder / "data"), "--output", str(folder / "check")])


@pytest.mark.parametrize(("name", "way"), SEEN)
def test_a_page_as_it_is_seen(shown: Browser, pages: dict[str, Path], name: str, way: str) -> None:
    look = shown.open(pages[name], **WAYS[way], script="document.querySelectorAll('img, svg, table').length")
    keep(look, f"{name}-{way}")
    assert look.errors == []
    assert look.overflow <= 0
    assert look.answer > 3
    assert look.picture.shape[0] > 1000
    paper = np.median(look.picture, axis=(0, 1))
    assert (paper < 60).all() if way == "dark" else (paper > 230).all()
    assert (np.abs(look.picture.astype(int) - paper).max(axis=2) > 60).mean() > 0.02


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<script>nothing.there()</script>", "nothing is not defined"),
        ("<script>console.error('so it is')</script>", "so it is"),
        ("<img src='missing.png' alt=''>", "missing.png"),
        ("<link rel='stylesheet' href='missing.css'>", "ERR_FILE_NOT_FOUND"),
        ("<img src='data:image/jpeg;base64,AAAA' alt=''>", "no picture"),
    ],
)
def test_errors_are_noticed(shown: Browser, tmp_path: Path, body: str, told: str) -> None:
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{body}")
    assert any(told in error for error in shown.open(tmp_path / "page.html").errors)


def test_what_is_too_wide_is_noticed(shown: Browser, tmp_path: Path) -> None:
    wide = "<body style='margin:0'><div style='width:500px'>x</div>"
    (tmp_path / "page.html").write_text(f"<!doctype html><meta name=viewport content='width=device-width'>{wide}")
    assert shown.open(tmp_path / "page.html", width=390).overflow in (110, 111)
    assert shown.open(tmp_path / "page.html", width=600).overflow == 0


def test_the_keyboard_reaches_the_content_first(shown: Browser, pages: dict[str, Path]) -> None:
    look = shown.open(
        pages["two"],
        width=390,
        script="""(() => {
            const found = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')];
            const boxes = [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth);
            return [found[0].textContent, boxes.length, boxes.every(box => box.tabIndex === 0)];
        })()""",
    )
    first, wide, reached = look.answer
    assert first == "Skip to the content"
    assert wide > 0
    assert reached
