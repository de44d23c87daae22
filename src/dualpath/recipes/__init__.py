"""YAML files of flags: those beside this file are the published settings, and smaller ones; a user may write others.

`dualpath train --config NAME` takes a recipe by its name, `--config FILE` any file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from dualpath.errors import DualPathError, nearest

RECIPES = resources.files("dualpath.recipes")


def read_config(words: Sequence[str]) -> tuple[list[str], dict[str, str], str]:
    """Takes --config FILE out of the words and reads it.

    Returns:
        The other words, the file's settings as text, its name.

    Raises:
        DualPathError: no such file or recipe, or not a YAML file of settings.
    """
    rest, settings, source, position = [], {}, "", 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--config" and position < len(words):
            source = words[position]
            position += 1
        elif word.startswith("--config="):
            source = word.partition("=")[2]
        else:
            rest.append(word)
            continue
        settings |= _settings(source)
    return rest, settings, source


def _settings(source: str) -> dict[str, str]:
    try:
        # All scalars stay text ("off" is no False): what they mean is decided by the flag, as on the command line.
        found = yaml.load(_text_of(source), Loader=yaml.BaseLoader)
    except yaml.YAMLError as problem:
        raise DualPathError(f"{source} is not a YAML file ({' '.join(str(problem).split())[:160]}); mend it") from problem
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DualPathError(f"{source} holds no settings; write one a line, such as batch_size: 16")
    if "config" in found:
        raise DualPathError(f"{source} names another file with config: give each with a --config of its own")
    return {name.replace("-", "_"): _as_text(value) for name, value in found.items()}


def _text_of(source: str) -> str:
    path, recipe = Path(source), RECIPES / f"{source}.yaml"
    if not path.is_file() and re.fullmatch(r"\w+", source):
        if recipe.is_file():
            return recipe.read_text(encoding="utf-8")
        known = recipe_names()
        raise DualPathError(f"there is no file and no recipe {source}{nearest(source, known)}; recipes are {', '.join(known)}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise DualPathError(f"the settings {source} cannot be read ({reason}); --config takes a YAML file") from problem


def recipe_names() -> list[str]:
    """The recipes that the package ships."""
    return sorted(entry.name.removesuffix(".yaml") for entry in RECIPES.iterdir() if entry.name.endswith(".yaml"))


def _as_text(value: Any) -> str:
    """What YAML read, as one word of a command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_as_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_text, value)) + "]"
    return value or "null"
