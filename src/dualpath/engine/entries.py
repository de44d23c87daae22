"""What a comparison is made of: an entry is a method with settings of its own, all others are common to the entries.

--methods dualpath,aim   each with its own defaults, and the options that the command line gives
--entries file.yaml      short: {method: dualpath, paths: spatial, lr: 1e-3}, anything that a run can be told
"""

from __future__ import annotations

import copy
import re
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentParser

from dualpath.engine.config import RunConfig
from dualpath.errors import DualPathError, nearest
from dualpath.methods import METHODS, MethodConfig, build_model, find_method
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig, load_backbone
from dualpath.video.protocols import spell_out

PARTS = ("backbone", "sampling", "transform", "views", "training")
_COMMON = ("seed", "val_fraction", "check", "max_bad_files", "format", "split", "damaged")
"""Settings that choose the data or the seed: the same for all entries, or it is no comparison."""


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Attributes:
        label: its name, and that of its folder.
        config: all settings of its runs, complete but for the seed.
    """

    label: str
    config: RunConfig

    def with_seed(self, seed: int, *, fold: int | None = None) -> RunConfig:
        """The settings of one run; `fold` is the official split that it takes, by default the one in the settings."""
        data = self.config.data if fold is None else replace(self.config.data, split=fold)
        return replace(self.config, training=replace(self.config.training, seed=seed), data=data)

    def settings(self) -> dict[str, Any]:
        """Every setting that decides its results, without the seed."""
        return {name: value for name, value in self.config.settings().items() if name != "seed"}

    def own(self, base: RunConfig) -> dict[str, Any]:
        """The settings in which it differs from the common ones and from the defaults of its method."""
        plain = replace(base, method=self.config.method, options=find_method(self.config.method).config()).settings()
        return {name: value for name, value in self.settings().items() if value != plain[name]}


def ask_methods(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of --methods, not checked yet: each method with those of the given options that it has.

    Raises:
        DualPathError: a method twice, an unknown one, or an option that none of them has.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DualPathError(
            f"the method {twice[0]} is given twice; to compare it with itself, label both in a file for --entries"
        )
    known = {name: {f.name for f in fields(find_method(name).config)} for name in names}
    idle = [name for name in options if not any(name in has for has in known.values())]
    if idle:
        whose = f"none of {', '.join(names)} has" if names else "without --methods there is none that has"
        raise DualPathError(f"{whose} an option {idle[0]}; leave it out, or give it in the file for --entries")
    return {name: {"method": name} | {key: options[key] for key in options if key in known[name]} for name in names}


def read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a YAML file, not checked yet.

    Raises:
        DualPathError: no such file, no YAML, or not a table of labels to settings.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as problem:
        raise DualPathError(f"the entries {path} cannot be read ({getattr(problem, 'strerror', None) or problem})") from problem
    except yaml.YAMLError as problem:
        raise DualPathError(f"{path} cannot be read as YAML ({' '.join(str(problem).split())})") from problem
    if not isinstance(found, dict) or not found or not all(isinstance(v, dict) for v in found.values()):
        raise DualPathError(f"{path} must give settings to labels, such as 'small: {{method: dualpath, bottleneck: 64}}'")
    return {str(label): {str(key): value for key, value in given.items()} for label, given in found.items()}


class _Loader(yaml.SafeLoader):
    """Without silence about a label or a setting that is there twice: YAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_numbers(text: str, *, what: str, such_as: str) -> tuple[int, ...]:
    """Numbers with commas between them; DualPathError for anything else, with what they are and an example of a flag."""
    try:
        return tuple(int(word) for word in text.strip("[] ").split(","))
    except ValueError:
        raise DualPathError(f"{what} are {text!r}; give whole numbers with commas between them, such as {such_as}") from None


def make_entries(*asked: Mapping[str, Mapping[str, Any]], base: RunConfig) -> tuple[Entry, ...]:
    """Puts each entry's own settings over the common ones.

    Args:
        asked: {"method": name, setting: value ...} by label; from `ask_methods` and `read_entries`.
        base: the common settings; its method and options play no part.

    Raises:
        DualPathError: with the problems of all entries.
    """
    entries, problems = [], {}
    labelled = [item for some in asked for item in some.items()]
    twice = next((label for i, (label, _) in enumerate(labelled) if label in dict(labelled[:i])), None)
    if twice is not None:
        raise DualPathError(f"the entry {twice} is there twice, as a method and in the file; give it another label there")
    for label, given in labelled:
        try:
            entries.append(_entry(label, given, base))
        except DualPathError as problem:
            problems[label] = str(problem)
    _raise_all(problems, len(labelled))
    return tuple(entries)


def _entry(label: str, given: Mapping[str, Any], base: RunConfig) -> Entry:
    if not re.fullmatch(r"\w[\w.+=-]*", label):
        raise DualPathError(f"the label {label!r} is to name a folder: use letters, digits and . + = - _")
    if not isinstance(given.get("method"), str):
        raise DualPathError(f"it names no method; give one such as 'method: dualpath' ({', '.join(METHODS)})")
    method = find_method(given["method"])
    parts = {name: getattr(base, name) for name in PARTS}
    hints = {name: get_type_hints(type(part)) for name, part in parts.items()}
    of_method = get_type_hints(method.config)
    options: dict[str, Any] = {}
    for key, value in spell_out(given).items():
        if key == "method":
            continue
        if key in _COMMON:
            raise DualPathError(f"{key} must be the same for all entries: give it on the command line")
        if key in {f.name for f in fields(method.config)}:
            options[key] = _typed(key, value, of_method[key])
            continue
        home = next((name for name, part in parts.items() if key in {f.name for f in fields(part)}), None)
        if home is None:
            raise DualPathError(f"unknown setting {key}{_nearest(key, method.config, parts.values())}")
        parts[home] = replace(parts[home], **{key: _typed(key, value, hints[home][key])})
    return Entry(label, RunConfig(given["method"], method.config(**options), **parts, data=base.data).complete())


def _typed(name: str, value: Any, hint: Any) -> Any:
    """A value from YAML or from a flag in the type of its field."""
    if isinstance(value, str) and (pair := re.fullmatch(r"(\d+)[x,](\d+)", value)):
        value = [int(pair[1]), int(pair[2])]
    if isinstance(value, bool) and "off" in get_args(hint):  # which YAML takes for a truth value
        value = "on" if value else "off"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        found = parser.parse_object({"value": value}).value
    except ArgumentError:
        found = None
    if found is None and not (value in (None, "null") and type(None) in get_args(hint)):
        raise DualPathError(f"{name} is {value!r}, but it must be {_words(hint)}")
    return found


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if kind is type(None) else _words(kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    named = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", tuple: "two whole numbers as 4x4"}
    return named.get(get_origin(hint) or hint, "a table of names to whole numbers")


def _nearest(key: str, method: type[MethodConfig], parts: Iterable[object]) -> str:
    known = [f.name for f in fields(method)] + [f.name for part in parts for f in fields(part)]  # pyright: ignore[reportArgumentType]
    known += ["protocol", "views"]
    return nearest(key, known) or f"; the method has {', '.join(f.name for f in fields(method)) or 'no options'}"


def check_entries(entries: Sequence[Entry], *, num_classes: int) -> dict[str, int]:
    """Builds every model and shows it one blank clip, on the CPU: what cannot be trained is told before anything is.

    Returns:
        The side of the pictures that each entry looks at, in pixels, by its label.

    Raises:
        DualPathError: with the problems of all entries.
    """
    problems: dict[str, str] = {}
    sizes: dict[str, int] = {}
    backbones: list[BackboneConfig] = []
    for config in (entry.config.backbone for entry in entries):
        backbones += [] if config in backbones else [config]
    for config in backbones:
        those = [entry for entry in entries if entry.config.backbone == config]
        try:
            backbone = load_backbone(config)
        except DualPathError as problem:
            problems |= {entry.label: str(problem) for entry in those}
            continue
        sizes |= {entry.label: backbone.size for entry in those}
        for entry in those:
            try:
                _try_out(entry.config, copy.deepcopy(backbone), num_classes)  # a method may change what it is given
            except DualPathError as problem:
                problems[entry.label] = str(problem)
    _raise_all(problems, len(entries))
    return sizes


def _try_out(config: RunConfig, backbone: Backbone, num_classes: int) -> None:
    model = build_model(config.method, backbone, num_classes=num_classes, config=config.options)
    frames = torch.zeros((1, config.sampling.num_frames, 3, backbone.size, backbone.size), dtype=torch.uint8)
    with torch.inference_mode():
        model.eval()(frames)


def _raise_all(problems: Mapping[str, str], count: int) -> None:
    if not problems:
        return
    if len(set(problems.values())) == 1:
        raise DualPathError(f"{', '.join(problems)}: {next(iter(problems.values()))}")
    lines = [f"  {label}: {problem}" for label, problem in problems.items()]
    raise DualPathError(f"{len(problems)} of the {count} entries cannot be trained:", *lines)
