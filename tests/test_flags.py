"""Words to options: what is understood, and what is said about the rest."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.errors import DualPathError
from dualpath.flags import ALL, Parser, chosen_method, nearest
from dualpath.methods import METHODS
from dualpath.recipes import read_config
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig


@dataclass(frozen=True)
class Sample:
    """One field of each kind.

    Attributes:
        whole: a count.
        real: a rate.
        maybe: a width.
        yes: a switch.
        kind: one of two, of which one is a word of YAML's.
        place: one of two, or none.
        grid: rows and columns.
        layers: any number of them.
        sizes: changes.
        path: a file.
    """

    whole: int = 3
    real: float = 0.5
    maybe: int | None = None
    yes: bool = False
    kind: Literal["on", "off"] = "on"
    place: Literal["in", "out"] | None = None
    grid: tuple[int, int] = (4, 4)
    layers: tuple[int, ...] = (1,)
    sizes: dict[str, int] = field(default_factory=dict)
    path: str | None = None


def parser() -> Parser:
    made = Parser("try", "Tries.", words="DATA")
    made.add_argument("data", type=str, nargs="?")
    made.add_argument("--again", action="store_true")
    made.add_class_arguments(Sample)
    return made


def read(*words: str, settings: dict[str, str] | None = None) -> Sample:
    options = parser().read(words, settings, source="my.yaml")
    return Sample(**{f.name: getattr(options, f.name) for f in fields(Sample)})


def refusal(*words: str, settings: dict[str, str] | None = None) -> str:
    with pytest.raises(DualPathError) as problem:
        read(*words, settings=settings)
    return str(problem.value)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("--grid 2x3", {"grid": (2, 3)}),
        ("--grid=2x3", {"grid": (2, 3)}),
        ("--grid 2,3", {"grid": (2, 3)}),
        ("--grid [2,3]", {"grid": (2, 3)}),
        ("--layers 2x3x4", {"layers": (2, 3, 4)}),
        ("--layers 7", {"layers": (7,)}),
        ("--sizes depth=2", {"sizes": {"depth": 2}}),
        ("--sizes depth=2,embed_dim=48", {"sizes": {"depth": 2, "embed_dim": 48}}),
        ('--sizes {"depth":2}', {"sizes": {"depth": 2}}),
        ("--sizes.depth 2", {"sizes": {"depth": 2}}),
        ("--yes", {"yes": True}),
        ("--yes --whole 4", {"yes": True, "whole": 4}),
        ("--yes no --whole 4", {"whole": 4}),
        ("--yes=on", {"yes": True}),
        ("--kind off", {"kind": "off"}),
        ("--place out", {"place": "out"}),
        ("--place null", {}),
        ("--maybe 4", {"maybe": 4}),
        ("--real 1e-3", {"real": 1e-3}),
        ("--real 2", {"real": 2.0}),
        ("--path 4x4", {"path": "4x4"}),
        ("--path a=b", {"path": "a=b"}),
        ("clips --again", {}),
    ],
)
def test_values_in_short_and_in_full(words: str, changes: dict[str, Any]) -> None:
    assert read(*words.split()) == replace(Sample(), **changes)


def test_a_flag_without_its_value_does_not_take_the_next_flag() -> None:
    assert refusal("--whole", "--real", "1").startswith("--whole: expected is a whole number")


samples = st.builds(
    Sample,
    whole=st.integers(-5, 10**6),
    real=st.floats(-1e6, 1e6, allow_nan=False),
    maybe=st.none() | st.integers(0, 9),
    yes=st.booleans(),
    kind=st.sampled_from(["on", "off"]),
    place=st.sampled_from([None, "in", "out"]),
    grid=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    layers=st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple),
    sizes=st.dictionaries(st.sampled_from(["depth", "embed_dim"]), st.integers(1, 9)),
    path=st.none() | st.from_regex(r"[a-z/]{1,9}\.mp4", fullmatch=True),
)


@settings(max_examples=30, deadline=None)
@given(samples)
def test_a_file_and_words_say_the_same(sample: Sample) -> None:
    written = yaml.safe_dump({name: list(v) if isinstance(v, tuple) else v for name, v in asdict(sample).items()})
    words = []
    for name, value in asdict(sample).items():
        words.append(f"--{name}={'null' if value is None else value if isinstance(value, str) else json.dumps(value)}")
    assert read(*words) == sample
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(written)
        file.flush()
        rest, told, source = read_config(["--config", file.name, "clips"])
    assert (rest, source) == (["clips"], file.name)
    assert read(settings=told) == sample
    # What stands on the command line wins, wherever it stands.
    assert read("--whole", "-7", "--real", "-1e-3", settings=told) == replace(sample, whole=-7, real=-1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--whole three", "--whole three: expected is a whole number"),
        ("--whole=three", "--whole three: expected is a whole number"),
        ("--whole 1 --whole 2.5", "--whole 2.5: expected is a whole number"),
        ("--whole", "--whole: expected is a whole number"),
        ("--real fast", "--real fast: expected is a number"),
        ("--maybe x", "--maybe x: expected is a whole number"),
        ("--yes maybe", "--yes maybe: expected is true or false"),
        ("--kind up", "--kind up: expected is one of on, off"),
        ("--place up", "--place up: expected is one of in, out"),
        ("--grid 4", "--grid 4: expected is two whole numbers, such as 4x4"),
        ("--grid 4x4x4", "--grid 4x4x4: expected is two whole numbers, such as 4x4"),
        ("--layers many", "--layers many: expected is whole numbers, such as 4x4"),
        ("--sizes depth", "--sizes depth: expected is names with whole numbers, such as depth=2,embed_dim=64"),
        ("--sizes depth=x", "--sizes depth=x: expected is names with whole numbers, such as depth=2,embed_dim=64"),
        ("--hole 3", "unknown option --hole (did you mean --whole?)"),
        ("--nothing-like-it", "unknown option --nothing_like_it"),
        ("--again=true", "--again true: expected is no value"),
        ("clips more", "one word too many: more"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words: str, said: str) -> None:
    assert refusal(*words.split()) == f"{said}; see dualpath try --help"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"whole": "three"}, "--whole three: expected is a whole number"),
        ({"yes": "maybe"}, "--yes maybe: expected is true or false"),
        ({"grid": "[4, 4, 4]"}, "--grid [4, 4, 4]: expected is two whole numbers, such as 4x4"),
        ({"hole": "3"}, "unknown option --hole (did you mean --whole?)"),
        ({"again": "maybe"}, "again maybe: expected is true or false"),
    ],
)
def test_what_is_wrong_in_a_file_names_it(settings: dict[str, str], said: str) -> None:
    assert refusal("--whole", "4", settings=settings).startswith(f"my.yaml: {said}")


def test_switches_and_the_data_can_stand_in_a_file() -> None:
    for value, again in (("true", True), ("false", False)):
        options = parser().read([], {"again": value, "data": "clips"}, source="my.yaml")
        assert (options.again, options.data) == (again, "clips")
    assert parser().read(["others"], {"data": "clips"}, source="my.yaml").data == "others"


def test_the_method_is_the_last_one_named() -> None:
    assert chosen_method([], {}) == "dualpath"
    assert chosen_method([], {"method": "aim"}) == "aim"
    assert chosen_method(["--method", "vpt", "clips"], {"method": "aim"}) == "vpt"
    assert chosen_method(["--method=vpt", "--method", "aim"], {}) == "aim"
    assert chosen_method(["clips", "--method"], {}) == "dualpath"


def test_options_of_one_method_alone() -> None:
    for method in ("linear_probe", ALL):
        made = Parser("try", "Tries.")
        made.add_method(method)
        with pytest.raises(DualPathError) as problem:
            made.read(["--bottleneck", "3"])
        told = str(problem.value)
        assert told.startswith("--bottleneck is an option of dualpath, adaptformer, ")
        assert f", not of {method}; leave it out, or choose --method dualpath" in told
        with pytest.raises(DualPathError, match=r"my.yaml: --bottleneck is an option of dualpath, "):
            made.read([], {"bottleneck": "3"}, source="my.yaml")
    with pytest.raises(DualPathError, match="unknown method 'foo'"):
        Parser("try", "Tries.").add_method("foo")


def test_help_tells_values_and_defaults_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    made = parser()
    made.add_method("linear_probe")
    with pytest.raises(SystemExit) as end:
        made.read(["--help"])
    assert end.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("usage: dualpath try DATA [options] Tries.")
    for line in (
        "--whole N a count (default: 3) --real X a rate (default: 0.5) --maybe N a width --yes [true|false] a switch "
        "(default: false) --kind {on,off} one of two, of which one is a word of YAML's (default: on) --place {in,out} one of "
        "two, or none --grid NxN rows and columns (default: 4x4)",
        "--sizes NAME=N,... changes --path TEXT a file",
        "options of linear_probe: --num_probe_frames N",
        f"Options of a method: dualpath try --method NAME --help, where NAME is {', '.join(METHODS)}.",
    ):
        assert line in told


def named() -> Parser:
    made = Parser("try", "Tries.")
    made.add_names("protocol", "views")
    made.add_class_arguments(SamplingConfig)
    made.add_class_arguments(ViewsConfig)
    return made


def sampled(words: str, settings: dict[str, str] | None = None) -> tuple[str, str]:
    options = named().read(words.split(), settings, source="my.yaml")
    sampling = SamplingConfig(options.num_frames, options.sampling, options.sampling_rate)
    return sampling.name, ViewsConfig(options.num_clips, options.num_crops).name


@pytest.mark.parametrize(
    ("words", "settings", "expected"),
    [
        ("", None, ("segment-16", "1x1")),
        ("--protocol dense-32x2 --views 5x3", None, ("dense-32x2", "5x3")),
        ("--views=1x3 --protocol=segment-8", None, ("segment-8", "1x3")),
        ("--protocol segment-8 --protocol dense-16x4 --num-frames 16", None, ("dense-16x4", "1x1")),
        ("", {"protocol": "dense-16x4", "views": "3x1"}, ("dense-16x4", "3x1")),
        # The words win over the file, name or number: a part of what the file's name says, or all of it.
        ("--num_frames 32", {"protocol": "dense-16x4"}, ("dense-32x4", "1x1")),
        ("--num_crops 3", {"views": "3x1"}, ("segment-16", "3x3")),
        ("--protocol segment-8", {"num_frames": "16", "sampling": "dense", "sampling_rate": "2"}, ("segment-8", "1x1")),
        ("--protocol dense-8x8", {"protocol": "dense-16x4"}, ("dense-8x8", "1x1")),
    ],
)
def test_names_for_several_flags(words: str, settings: dict[str, str] | None, expected: tuple[str, str]) -> None:
    assert sampled(words, settings) == expected


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (
            "--protocol dense-16x4 --num_frames 32",
            None,
            "protocol dense-16x4 means num_frames 16, but num_frames is given as 32; leave one of them out",
        ),
        (
            "--num-frames 32",
            {"protocol": "dense-16x4", "num_frames": "8"},
            "my.yaml: protocol dense-16x4 means num_frames 16, but num_frames is given as 8; leave one of them out",
        ),
        ("--views 3x1 --num_clips=1", None, "views 3x1 means num_clips 3, but num_clips is given as 1; leave one of them out"),
        ("--protocol", None, "--protocol: expected is a text; see dualpath try --help"),
        (
            "",
            {"views": "three"},
            "my.yaml: there are no views 'three'; give the clips of a video x the crops of a clip, such as ",
        ),
    ],
)
def test_names_that_say_something_else(words: str, settings: dict[str, str] | None, said: str) -> None:
    with pytest.raises(DualPathError) as problem:
        sampled(words, settings)
    assert str(problem.value).startswith(said)


def test_nearest() -> None:
    assert nearest("--batch-sise", ["--batch_size", "--epochs"]) == " (did you mean --batch_size?)"
    for word in ("--class_weights", "--devices", "--init_form"):
        assert nearest(word, ["--weights", "--views", "--num_frames"]) == ""
    assert nearest("trian", ["train", "demo"]) == " (did you mean train?)"
    assert nearest("moves-lft", ["moves-left", "moves-right"]) == " (did you mean moves-left?)"
    assert nearest("xyz", ["train", "demo"]) == ""
