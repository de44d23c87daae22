"""The words of a command line to options: flags made from dataclasses, complaints in plain words.

    words, settings of a file --Parser.read--> Namespace of all flags' values

A flag is written with hyphens or underscores. Values are YAML, and beyond it

    --grid 4x4            or 4,4, which no shell takes for a pattern as [4,4]
    --model_args depth=2,embed_dim=64
    --gradient_checkpointing              alone is true
    --protocol dense-16x4                 for --num_frames 16 --sampling dense --sampling_rate 4
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from dualpath.errors import DualPathError, nearest
from dualpath.settings import expected, without_none

if TYPE_CHECKING:
    from dualpath.engine.verbs import Judged

T = TypeVar("T")

ALL = "all"
"""What --method is given for all methods."""
CHECKED = "output folder of `dualpath data check`: its quarantine is honoured, and nothing is read that it has read"
"""Help of --checked."""

PROTOCOL = "take clips as dense-16x4, segment-8 .. do; by default as in the training"
"""Help of --protocol where a checkpoint says how clips are taken."""

_BOOLEANS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}


class Parser(ArgumentParser):
    """A verb's flags.

    Attributes:
        verb: for the complaints.
        method: whose options are among the flags, if any method's are.
    """

    def __init__(self, verb: str, description: str, *, words: str = "") -> None:
        """Makes one without flags; `words` is what the usage line shows before the options."""
        usage = " ".join(f"dualpath {verb} {words} [options]".split()) if words else None
        super().__init__(
            prog=f"dualpath {verb}", description=description, usage=usage, allow_abbrev=False, formatter_class=_Help
        )
        self.verb = verb
        self.method: str | None = None
        self._given: Sequence[str] = ()
        self._names: Sequence[str] = ()

    def add_method(self, method: str) -> None:
        """Adds the options of one method; those of the others are then known as such. ALL has none of its own."""
        from dualpath.methods import METHODS, find_method

        self.method = method
        self.epilog = f"Options of a method: dualpath {self.verb} --method NAME --help, where NAME is {', '.join(METHODS)}."
        if method != ALL:
            self.add_class_arguments(find_method(method).config)
            self._action_groups[-1].title = f"options of {method}"

    def add_names(self, *names: str) -> None:
        """Adds --protocol or --views: names for the values of other flags, see `dualpath.video.protocols`."""
        told = {
            "protocol": "short for the flags of sampling: dense-16x4 (16 frames with a step of 4), segment-8 (one frame from "
            "each of 8 equal parts), with any numbers",
            "views": "short for --num_clips and --num_crops: 3x1, 1x3 or any other numbers",
        }
        self._names = names
        for name in names:
            self.add_argument(f"--{name}", type=str, metavar="NAME", help=told[name])

    def add_judged(self, *, output: str) -> None:
        """Adds what all verbs take that judge a checkpoint on labelled videos; `output` is the help of --output."""
        from dualpath.data.formats import FORMATS
        from dualpath.video.protocols import ViewsConfig

        split = "train, val, test or all; auto: test, else val, else all; 1, 2, 3: the test videos of that official split"
        self.add_argument("checkpoint", type=str, help="folder that `dualpath train` wrote")
        self.add_argument("data", type=str, help="folder or list of videos, as for train")
        self.add_argument("--split", type=str, default="auto", help=split)
        self.add_argument("--format", type=str, default="auto", help=f"of the annotations: auto or {', '.join(FORMATS)}")
        self.add_argument("--output", type=str, default=None, metavar="DIR", help=output)
        self.add_argument("--checked", type=str, metavar="DIR", help=CHECKED)
        self.add_argument("--weights", type=str, default=None, help="local file with the backbone's weights")
        self.add_argument("--batch_size", type=int, default=8, help="videos that are scored together")
        self.add_argument("--workers", type=int, default=-1, help="decoding processes; -1 chooses")
        self.add_argument("--precision", type=str, default="auto", help="auto, bf16, fp32 or int8 (fastest)")
        self.add_argument("--json", action="store_true", help="print JSON instead of a table")
        self.add_argument("--protocol", type=str, metavar="NAME", help=PROTOCOL)
        self.add_names("views")
        self.add_class_arguments(ViewsConfig)

    def judged(self, options: Namespace) -> Judged:
        """What the flags of `add_judged` say."""
        from dualpath.engine.verbs import Judged
        from dualpath.video.protocols import ViewsConfig

        return Judged(
            options.checkpoint,
            Path(options.data),
            split=options.split,
            format=options.format,
            output=Path(options.output) if options.output else None,
            weights=options.weights,
            precision=options.precision,
            protocol=options.protocol,
            views=fill(ViewsConfig, options),
            batch_size=options.batch_size,
            workers=options.workers,
            checked=Path(options.checked) if options.checked else None,
        )

    def read(self, words: Sequence[str], settings: Mapping[str, str] | None = None, *, source: str = "") -> Namespace:
        """Parses words, and before them settings from a file, over which they win.

        Raises:
            DualPathError: an unknown flag, or a value that does not suit, in one sentence.
        """
        settings = dict(settings or {})
        if "data" in settings:  # the one that is no flag
            self.set_defaults(data=settings.pop("data"))
        first: list[str] = []
        if settings:
            try:
                for name in settings:
                    if f"--{name}" not in self._flags():
                        raise DualPathError(self._unknown(name))
                first = [part for name, value in settings.items() for part in self._said(name, value)]
                self._parse(first)
            except DualPathError as problem:
                raise DualPathError(f"{source}: {problem}") from None
        return self._parse(first, words)

    def was_given(self, name: str) -> bool:
        """Whether the words or the file gave this flag, which has its default otherwise."""
        return any(plain_flag(word)[0] == f"--{name}" for word in self._given)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Every complaint of the parser, in the words of a user."""
        del ex
        raise DualPathError(f"{self._plainly(message)}; see dualpath {self.verb} --help")

    # --- words

    def _parse(self, *sources: Sequence[str]) -> Namespace:
        self._given = [word for words in sources for word in words]
        for action in self._actions:  # for the help
            kind = getattr(action, "_typehint", None)
            if action.option_strings and kind and (action.metavar is None or kind is bool or get_origin(kind) is tuple):
                action.metavar = _metavar(kind)
        return self.parse_args([word for words in sources for word in self._spelled_out(self._plain(words))])

    def _flags(self) -> dict[str, Any]:
        """Flag to the type of its value; None for a flag without one."""
        return {
            flag: None if action.nargs == 0 else getattr(action, "_typehint", str)
            for action in self._actions
            for flag in action.option_strings
            if flag.startswith("--")
        }

    def _said(self, name: str, value: str) -> list[str]:
        """A line of a file as words."""
        if self._flags()[f"--{name}"] is not None:
            return [f"--{name}={value}"]
        if value not in _BOOLEANS:
            raise DualPathError(f"{name} {value}: expected is true or false")
        return [f"--{name}"] if _BOOLEANS[value] == "true" else []

    def _plain(self, words: Sequence[str]) -> list[str]:
        """The same as the parser knows it: underscores, lists and mappings as YAML has them, no flag without value."""
        kinds, plain, position = self._flags(), [], 0
        while position < len(words):
            word = words[position]
            position += 1
            if not word:
                raise DualPathError("one of the words is empty (''); leave it out")
            if not word.startswith("--") or word == "--":
                plain.append(word)
                continue
            flag, equals, value = plain_flag(word)
            kind = kinds.get(flag.partition(".")[0])
            if kind is not None and not equals and position < len(words) and not words[position].startswith("--"):
                equals, value = "=", words[position]
                position += 1
            elif kind is bool and not equals:
                equals, value = "=", "true"
            if equals and not value:
                raise DualPathError(f"{flag} has an empty value; give one, or leave it out")
            # In one word with its flag, a value may begin with a minus.
            plain.append(flag + equals + (value if kind is None else _plain_value(value, kind)))
        return plain

    def _spelled_out(self, plain: list[str]) -> list[str]:
        """Words of one source, without names: their settings win over those of an earlier source and must fit their own."""
        from dualpath.video.protocols import spell_out

        told = {flag.removeprefix("--"): value for flag, equals, value in map(plain_flag, plain) if equals}
        names = [name for name in self._names if name in told]
        full = spell_out(told, names)
        kept = [word for word in plain if plain_flag(word)[0].removeprefix("--") not in names]
        return kept + [f"--{name}={value}" for name, value in full.items() if name not in told]

    # --- complaints

    def _plainly(self, message: str) -> str:
        text = " ".join(line.strip(" -") for line in message.splitlines() if line.strip())
        if unknown := re.search(r"(?:[Uu]nrecognized arguments: |Option ')(-*)([\w.-]+)", text):
            surplus = next((word for word in self._given if word.startswith("--") and not self._knows(word)), None)
            return self._unknown(plain_flag(surplus)[0].strip("-")) if surplus else f"one word too many: {unknown[2]}"
        if missing := re.match(r"the following arguments are required: (.*)", text):
            return f"missing: {missing[1]}"
        if alone := re.match(r"argument (--\w+): ignored explicit argument '(.*)'", text):
            return f"{alone[1]} {alone[2]}: expected is no value"
        if wrong := re.match(r'Parser key "(\w+)[".]', text) or re.match(r"argument --(\w+): expected one argument", text):
            flag, kinds = f"--{wrong[1]}", self._flags()
            if flag in kinds:
                value = self._value_of(flag)
                return f"{flag}{'' if value is None else f' {value}'}: expected is {expected(kinds[flag])}"
        return text[:400]

    def _knows(self, word: str) -> bool:
        return plain_flag(word)[0].partition(".")[0] in self._flags()

    def _value_of(self, flag: str) -> str | None:
        """What was given for it, last."""
        found = None
        for word, after in zip_longest(self._given, self._given[1:]):
            name, equals, value = plain_flag(word)
            if name.partition(".")[0] == flag:
                found = value if equals else after if after and not after.startswith("--") else None
        return found

    def _unknown(self, name: str) -> str:
        from dualpath.methods import METHODS

        owners = [method for method, known in METHODS.items() if name in {f.name for f in fields(known.config)}]
        if self.method and owners:
            return (
                f"--{name} is an option of {', '.join(owners)}, not of {self.method}; leave it out, or choose "
                f"--method {owners[0]}"
            )
        return f"unknown option --{name}{nearest(f'--{name}', self._flags())}"


class _Help(DefaultHelpFormatter):
    """Tells the default and nothing of Python's types."""

    def _expand_help(self, action: Any) -> str:
        told = re.sub(r"\.? ?\((required|type|default).*\)$", "", super()._expand_help(action))
        default = action.default
        if not action.option_strings or default in (None, {}, "==SUPPRESS==") or action.nargs == 0:
            return told
        if isinstance(default, tuple):
            default = "x".join(map(str, default))
        return f"{told} (default: {str(default).lower() if isinstance(default, bool) else default})"


def fill(config: type[T], options: Namespace) -> T:
    """The dataclass from the flags that carry its fields' names; the fields without a flag keep their defaults."""
    return config(**{f.name: getattr(options, f.name) for f in fields(config) if f.name in options})  # pyright: ignore[reportArgumentType]


def chosen_method(words: Sequence[str], settings: Mapping[str, str], *, default: str = "dualpath") -> str:
    """The last --method among the words, else the file's, else the default: the paper's own."""
    given = chosen("method", words, settings)
    return default if given is None else given


def chosen(name: str, words: Sequence[str], settings: Mapping[str, str]) -> str | None:
    """The value of a flag before there is a parser: the last among the words, else the file's; None if it is not given."""
    given = settings.get(name)
    for word, after in zip_longest(words, words[1:]):
        flag, equals, value = plain_flag(word)
        if flag == f"--{name}":
            given = value if equals else after if after and not after.startswith("--") else given
    return given


def plain_flag(word: str) -> tuple[str, str, str]:
    """--batch-size=3 to ("--batch_size", "=", "3")."""
    flag, equals, value = word.partition("=")
    return ("--" + flag[2:].replace("-", "_") if flag.startswith("--") else flag), equals, value


# --- values


def _plain_value(value: str, kind: Any) -> str:
    """The short forms of a value as YAML."""
    kind = without_none(kind)
    if kind is bool:
        return _BOOLEANS.get(value, value)
    if get_origin(kind) is tuple and re.fullmatch(r"\d+([x,]\d+)*", value):
        return "[" + value.replace("x", ",") + "]"
    if get_origin(kind) is dict and re.fullmatch(r"\w+=[^,=]+(,\w+=[^,=]+)*", value):
        return "{" + value.replace("=", ": ").replace(",", ", ") + "}"
    return value


def _metavar(kind: Any) -> str:
    kind = without_none(kind)
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if get_origin(kind) is tuple:
        return "x".join("N" for _ in get_args(kind))
    if get_origin(kind) is dict:
        return "NAME=N,..."
    return {int: "N", float: "X", bool: "[true|false]"}.get(kind, "TEXT")


def check_given(verb: str, options: Namespace) -> None:
    """That DATA and --output are there, where a file of settings may be read before them."""
    missing = [name for name, given in (("data", options.data), ("--output", options.output)) if given is None]
    if missing:
        raise DualPathError(f"missing: {', '.join(missing)}; see dualpath {verb} --help")
