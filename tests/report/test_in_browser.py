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

OTHER_SCRIPTS = (
    "Turning a small object slowly around its own axis until it is upside down again.", "x" * 80,
    "دوران اليد باتجاه عقارب الساعة", "סיבוב היד נגד כיוון השעון",
    "手を大きく振りながらカメラに近づく動作", "한국어 동작 멀어지기", "向上移动", "up",
)  # fmt: skip
"""Classes with long names, and with names in other scripts."""

FAULTS = """(() => {
    const faults = [];
    const say = (what, node, more) => faults.push(`${what}: "${node.textContent.trim().slice(0, 60)}" ${more}`);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const lines = [];
    const range = document.createRange();
    while (walker.nextNode()) {
        const node = walker.currentNode, parent = node.parentElement;
        if (!node.nodeValue.trim() || !parent.checkVisibility() || parent.closest('.unseen, .skip, .hash, pre')) continue;
        range.selectNodeContents(node);
        for (const box of range.getClientRects()) if (box.width > 1) lines.push([box, parent]);
        if (getComputedStyle(parent).writingMode !== 'horizontal-tb') continue;
        for (const word of node.nodeValue.matchAll(/\\p{Lu}?[\\p{Ll}\\p{N}]+|\\p{Lu}+/gu)) {
            if (word[0].length > 30) continue;
            range.setStart(node, word.index);
            range.setEnd(node, word.index + word[0].length);
            const tops = new Set([...range.getClientRects()].filter(box => box.width > 0).map(box => Math.round(box.top)));
            if (tops.size > 1) say('broken', parent, word[0]);
        }
    }
    const block = 'p, li, footer, h1, h2, h3, h4, dd, pre, th, td, summary, figcaption';
    for (const [i, [a, x]] of lines.entries()) for (const [b, y] of lines.slice(0, i)) {
        const rows = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        const gap = Math.max(a.left, b.left) - Math.min(a.right, b.right);
        const one = x === y || (x.closest(block) && x.closest(block) === y.closest(block));
        if (!one && rows > 4 && gap < 4) say('touching', x, `and "${y.textContent.trim().slice(0, 60)}"`);
    }
    for (const bar of document.querySelectorAll('.track, .stack, .gap-track')) {
        if (bar.checkVisibility() && bar.clientWidth < 80) say('sliver', bar.closest('tr, li'), bar.clientWidth);
    }
    for (const node of document.querySelectorAll('body *')) {
        if (!node.checkVisibility() || node.closest('svg, .unseen, .skip, .track, .sheet, .matrix thead')) continue;
        const style = getComputedStyle(node), box = node.getBoundingClientRect();
        if (style.overflowX === 'hidden' && node.scrollWidth > node.clientWidth + 1) say('cut', node, '');
        const beside = box.right > innerWidth + 0.5 || box.left < -0.5;
        if (box.width && beside && !node.closest('.scroll')) say('outside', node, '');
    }
    return faults;
})()"""


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
    odd = guessed([i % 8 for i in range(24)], [(3 * i % 8, 0.5) for i in range(24)], OTHER_SCRIPTS)
    odd.write(folder / "odd")
    write_report_page(folder / "odd.html", read_source(folder / "odd"), config=ReportConfig(2))
    names = {name: folder / f"{name}.html" for name in ("two", "pictured", "many", "odd")}
    return names | {"demo": demo.folder / "report.html", "check": folder / "check" / "report.html"}


def _write_check(folder: Path) -> None:
    for name in ("red <b>", "disappears_and_then_comes_back", "PlayingBasketballOutdoors", "counterclockwise"):
        for i in range(2):
            path = folder / "data" / name / f"{'long name ' * 9}{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, 20 + i + len(name))
    (folder / "data/counterclockwise/bad.mp4").write_text("no video")
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


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", ["two", "pictured", "odd", "demo", "check"])
def test_words_are_whole_and_bars_wide_enough(shown: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    look = shown.open(pages[name], width=width, script=FAULTS)
    assert look.overflow <= 0
    assert look.answer == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p style='width:40px;overflow-wrap:anywhere'>disappears</p>", 'broken: "disappears" disappears'),
        ("<div><span>mov,mp4</span><b>yuv</b></div>", 'touching: "yuv" and "mov,mp4"'),
        ("<table><tr><td>a<div class=track style='width:30px'>&nbsp;</div></table>", 'sliver: "a" 30'),
        ("<div style='width:40px;overflow:hidden;white-space:nowrap'>moves right</div>", 'cut: "moves right" '),
        ("<p style='margin-left:-50px'>moves right</p>", 'outside: "moves right" '),
    ],
)
def test_such_faults_are_noticed(shown: Browser, tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title><body>{body}")
    assert shown.open(tmp_path / "page.html", width=400, script=FAULTS).answer == [fault]


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
