"""Annotation files to text, tables and JSON: whatever their bytes, they end as values or as a sentence for the user."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualpath.files import cell_text

MOST = 1_000_000_000
"""No frame, second or label is a number above this."""
_HEAD = 4096
Tell = Callable[[str], None]


def read_text(path: Path, tell: Tell) -> str | None:
    """The text of a file with or without a byte order mark; None, and a sentence to `tell`, if it is not UTF-8.

    Raises:
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    wide = _wide(data)
    if wide:
        tell(f"{path.name} is {wide} text; save it as UTF-8: iconv -f {wide} -t UTF-8 {path.name} > new.{path.suffix[1:]}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        tell(f"{path.name} is not UTF-8 text (byte {problem.start}); save it as UTF-8")
        return None
    if "\0" in text:
        tell(f"{path.name} is damaged or not text: byte {data.index(0)} is zero; fetch it again")
        return None
    return text


def _wide(data: bytes) -> str | None:
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    head = data[:_HEAD]
    for place, name in ((0, "UTF-16BE"), (1, "UTF-16LE")):  # without a mark: every other byte of Latin text is zero
        zeros = head[place::2].count(0)
        if len(head) >= 8 and zeros > 0.4 * len(head) and head[1 - place :: 2].count(0) < 0.1 * len(head):
            return name
    return None


def read_head(path: Path) -> str:
    """The beginning of a text file, to recognise it by; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
    except OSError:
        return ""
    wide = _wide(data)
    return data.decode(wide or "utf-8-sig", errors="replace").removeprefix("\ufeff")


def read_lines(path: Path, tell: Tell) -> list[tuple[int, str]] | None:
    """(number, text) of each line that is not blank, whatever the line ends; None as in `read_text`."""
    text = read_text(path, tell)
    if text is None:
        return None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        tell(f"{path.name} is empty; fetch it again")
        return None
    return kept


def read_records(path: Path, tell: Tell, *, hint: str = "fetch it again") -> list[tuple[int, list[str]]] | None:
    """(line, cells) of each record of a CSV file, the header among them; None as in `read_text`, or if it is no CSV.

    Args:
        path: the file.
        tell: is told what is wrong.
        hint: what to do if it is empty.
    """
    text = read_text(path, tell)
    if text is None:
        return None
    first = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        records = [(lines.line_num, [cell_text(cell.strip()) for cell in cells]) for cells in lines if "".join(cells).strip()]
    except csv.Error as problem:
        tell(f"{path.name} line {lines.line_num} is not CSV ({problem})")
        return None
    if not records:
        tell(f"{path.name} is empty; {hint}")
        return None
    return records


class Nested(str):
    """A list or an object of a JSON file where a plain value belongs, as text."""


def read_json_lines(path: Path, tell: Tell, *, hint: str = "fetch it again") -> list[tuple[int, list[str]]] | None:
    """As `read_records` of a file with a JSON object a line, whose keys are the header; None as there."""
    text = read_text(path, tell)
    if text is None:
        return None
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither printed nor written
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            wanted = '{"file_name": ..., "label": ...}'
            tell(f"{path.name} line {line} is {short(content.strip())}; it must be JSON such as {wanted}")
            return None
        objects.append((line, value))
    if not objects:
        tell(f"{path.name} is empty; {hint}")
        return None
    header = list(dict.fromkeys(key for _, value in objects for key in value))
    return [(0, header), *((line, [_cell(value.get(key)) for key in header]) for line, value in objects)]


def _cell(value: Any) -> str:
    if isinstance(value, list | dict):
        return Nested(json.dumps(value, ensure_ascii=False))
    return "" if value is None else value.strip() if isinstance(value, str) else str(value)


def read_json(path: Path, tell: Tell) -> Any:
    """The value of a JSON file; None, and a sentence to `tell`, if it is not JSON or names one key twice."""
    text = read_text(path, tell)
    if text is None:
        return None
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            seen: set[str] = set()
            twice.extend(key for key, _ in pairs if key in seen or seen.add(key))  # pyright: ignore[reportArgumentType]
        return table

    try:
        value = json.loads(text, object_pairs_hook=once)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither printed nor written
    except json.JSONDecodeError as problem:
        told = "cut short" if problem.pos >= len(text.rstrip()) else problem.msg
        tell(f"{path.name} is not JSON: line {problem.lineno} column {problem.colno} ({told}); fetch it again")
        return None
    except (ValueError, RecursionError) as problem:  # a number of thousands of digits, thousands of brackets
        tell(f"{path.name} is not JSON that can be read ({str(problem)[:80]}); fetch it again")
        return None
    for key in twice[:20]:
        tell(f"{path.name} has {short(key)} twice; remove one of the two")
    if value is None:
        tell(f"{path.name} holds nothing; fetch it again")
    return None if twice else value


def whole(value: object) -> int | None:
    """A whole number from 0 to a billion, from JSON or text; None for anything else."""
    if isinstance(value, str):
        digits = value.strip()
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 12 else None
    return value if type(value) is int and 0 <= value <= MOST else None


def seconds(value: object) -> int | None:
    """A time in seconds, rounded down, from "417", "417.0" or 417.0; None for anything else or below 0."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MOST else None


def short(value: object) -> str:
    """A value of a file as it may stand in a sentence: quoted, on one line, cut."""
    text = repr(value) if isinstance(value, str) else f"{value}"
    return text if len(text) <= 60 else f"{text[:56]} ..."
