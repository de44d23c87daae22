"""Names in Markdown are text, as a reader of GitHub's kind sees it."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from dualpath.markdown import escaped, fenced, table

NASTY = (
    "a|b", "`code`", "``two``", "<b>bold</b>", "<script>x</script>", "[x](javascript:alert(1))", "![x](y.png)", "two\nlines\tx",
    "\n\n# head", "\\", "a\\|b", "&lt;", "*x* _y_ ~~z~~", "snake_case_name", "https://example.org", "www.example.org",
    "me@example.org", "$x$", "\x1b[2J\u202e", "```\nx\n```", "=1+1",
)  # fmt: skip


def rendered(page: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(page)


def spelled(name: str) -> str:
    """As it is to be read: what steers is spelled out."""
    spelt = (("\n", "\\n"), ("\t", "\\t"), ("\x1b", "\\x1b"), ("\u202e", "\\u202e"))
    for sign, words in spelt:
        name = name.replace(sign, words)
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_text_in_a_table_and_in_a_line(name: str) -> None:
    page = rendered(table([name, "figure"], [[name, "1.5 %"], ["plain", "2"]], words=1))
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page)
    assert cells == [spelled(name), "figure", spelled(name), "1.5 %", "plain", "2"]
    assert rendered(f"- x {escaped(name)} y") == f"<ul>\n<li>x {spelled(name)} y</li>\n</ul>\n"


@pytest.mark.parametrize("name", ["https://example.org", "www.example.org", "me@example.org", "$x$"])
def test_an_address_is_no_link_and_money_no_formula(name: str) -> None:
    assert name not in escaped(name)  # what GitHub looks for in the text itself


@pytest.mark.parametrize("name", NASTY)
def test_a_command_stays_within_its_block(name: str) -> None:
    page = rendered(f"{fenced(name)}\n\nafter")
    assert page.count("<code>") == 1
    assert page.endswith("</code></pre>\n<p>after</p>\n")


def test_figures_stand_at_the_right() -> None:
    assert table(["a", "b"], [["x", "1.5 ± 0.2 %"]], words=1) == "| a | b |\n|---|---:|\n| x | 1.5 ± 0.2 % |"
