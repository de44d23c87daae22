"""Something-Something V2 (arXiv:1706.04261), in both packagings.

    something-something-v2-{train,validation,test,labels}.json             as first published
    labels/{train,validation,test,labels}.json, labels/test-answers.csv    as Qualcomm publishes it

    train, validation: [{"id": "41775", "label": ..., "template": "Moving part of [something]", "placeholders": [...]}]
    test: [{"id": "1420"}]      test-answers: 1420;Moving part of something
    labels: {"Moving part of something": "30", ...}: values are text

The class is the template without brackets, its index the value in labels. A video is {id}.webm (.mp4 in mirrors), or a
folder of frames named by the id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualpath.data.formats.base import UNUSABLE, Format, Found, Given, Split
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.text import read_head, read_json, read_lines, short, whole
from dualpath.errors import number_of

OFFICIAL: dict[Split, int] = {"train": 168_913, "val": 24_777, "test": 27_157}
"""By the data set's page, and Table 1 of Mahdisoltani et al., arXiv:1804.09235."""
CLASSES = 174
_NAME = re.compile(r"(something-something-v2-)?(train|validation|test|labels)\.json", re.IGNORECASE)
_ANSWERS = re.compile(r"(something-something-v2-)?test-answers\.csv", re.IGNORECASE)
_SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}


def _files(given: Given) -> dict[str, list[Path]]:
    """The files by what they hold: train, validation, test, labels, answers."""
    files: dict[str, list[Path]] = {}
    for path in given.notes:
        if match := _NAME.fullmatch(path.name):
            files.setdefault(match[2].lower(), []).append(path)
        elif _ANSWERS.fullmatch(path.name):
            files.setdefault("answers", []).append(path)
    return files


def _fits(given: Given) -> bool:
    files = _files(given)
    lists = [path for word in _SPLITS for path in files.get(word, ())]
    if any(path.name.lower().startswith("something") for path in lists):
        return True
    return "labels" in files and any('"template"' in read_head(path) or '"id"' in read_head(path) for path in lists)


def _read(given: Given) -> Found:
    found = Found(given.root, "ssv2")
    files = _files(given)
    for paths in files.values():
        if len(paths) > 1:
            found.problems.append(f"{paths[0]} and {paths[1]} are the same list; leave one of them")
    lists = {word: files[word][0] for word in _SPLITS if word in files}
    if "labels" not in files or not lists:
        found.problems.append(
            "holds no something-something-v2-labels.json (or labels.json), which names the classes, with a train, "
            "validation or test list beside it"
        )
        return found
    indices = _read_labels(files["labels"][0], found)
    if indices is None:
        return found
    found.classes = tuple(sorted(indices, key=indices.__getitem__))
    if len(indices) != CLASSES:
        found.warnings.append(
            f"{files['labels'][0].name} names {number_of(len(indices), 'class|classes')}; Something-Something V2 has {CLASSES}"
        )
    answers = _read_answers(files["answers"][0], found, indices) if "answers" in files else {}
    listings: list[Listing] = []
    for word, path in lists.items():
        listings += _from_list(path, found, _SPLITS[word], indices, answers)
    if "answers" in files:
        listed = {one.stems[0] for one in listings if one.split == "test"}
        odd = sorted(answers.keys() - listed) if "test" in lists else []
        if odd:
            found.problems.append(
                f"{files['answers'][0].name} has answers for {number_of(len(odd), 'video')} that {lists['test'].name} "
                f"does not list, {odd[0]} among them"
            )
        elif "test" not in lists:
            name = files["answers"][0].name
            listings += [Listing((key,), label, "test", f"{name} line {line}") for key, (line, label) in answers.items()]
    return settle(found, given, listings, lists=lists.values(), official=OFFICIAL)


def _read_labels(path: Path, found: Found) -> dict[str, int] | None:
    """Class name to index, from 0 on without a gap; None if the file does not say so."""
    table = read_json(path, found.refuse)
    if table is None:
        return None
    if not isinstance(table, dict) or not table:
        found.problems.append(f"{path.name} is no table of class names with their numbers; fetch it again")
        return None
    indices = {_plain(name): whole(value) for name, value in table.items()}
    wrong = [name for name, value in table.items() if whole(value) is None]
    if wrong:
        found.problems.append(f"{path.name} gives {short(wrong[0])} the number {short(table[wrong[0]])}, which is none")
    elif sorted(number for number in indices.values() if number is not None) == list(range(1, len(table) + 1)):
        found.problems.append(f"{path.name} counts the classes from 1 to {len(table)}; they must count from 0")
    elif sorted(number for number in indices.values() if number is not None) != list(range(len(table))):
        found.problems.append(
            f"{path.name} does not number its {number_of(len(table), 'class|classes')} from 0 to {len(table) - 1}, each once"
        )
    else:
        return {name: number for name, number in indices.items() if number is not None}
    return None


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()


def _read_answers(path: Path, found: Found, indices: dict[str, int]) -> dict[str, tuple[int, str]]:
    """Line and class of each test video."""
    answers: dict[str, tuple[int, str]] = {}
    for line, text in read_lines(path, found.refuse) or ():
        key, semicolon, label = (part.strip() for part in text.partition(";"))
        label = _plain(label)
        if not semicolon or not key or not label:
            found.problems.append(f"{path.name} line {line} is {short(text)}; it must be id;label")
        elif key in answers:
            found.problems.append(f"{path.name} line {line} answers {short(key)} again, as line {answers[key][0]}; remove one")
        else:
            if label not in indices:
                found.problems.append(f"{path.name} line {line} has the class {short(label)}, which the labels do not have")
            answers[key] = (line, label if label in indices else UNUSABLE)
    return answers


def _from_list(
    path: Path, found: Found, split: Split, indices: dict[str, int], answers: dict[str, tuple[int, str]]
) -> Iterator[Listing]:
    entries = read_json(path, found.refuse)
    if entries is None:
        return
    if not isinstance(entries, list):
        found.problems.append(f"{path.name} is no list of videos but a {type(entries).__name__}; fetch it again")
        return
    for number, entry in enumerate(entries, 1):
        where = f"{path.name} entry {number}"
        key = _key(entry)
        if key is None:
            found.problems.append(f'{where} has no "id"')
            continue
        template = entry.get("template")
        if template is None and split == "test":
            yield Listing((key,), answers[key][1] if key in answers else None, split, where)
            continue
        label = _plain(template) if isinstance(template, str) else ""
        if not label:
            found.problems.append(f'{where} (id {short(key)}) has no "template"')
        elif label not in indices:
            found.problems.append(f"{where} (id {short(key)}) has the template {short(template)}, which the labels do not have")
        yield Listing((key,), label if label in indices else UNUSABLE, split, where)


def _key(entry: Any) -> str | None:
    key = entry.get("id") if isinstance(entry, dict) else None
    key = str(key) if whole(key) is not None else key
    return key if isinstance(key, str) and key and "/" not in key else None


def _owns(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name) or _ANSWERS.fullmatch(path.name))


FORMAT = Format("ssv2", "Something-Something V2", owns=_owns, fits=_fits, read=_read)
