"""Names of protocols: what they stand for, and what is said where two sources of one number differ."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.errors import DualPathError
from dualpath.video.protocols import ViewsConfig, describe_protocol, spell_out
from dualpath.video.sampling import SamplingConfig

NUMBERS = st.integers(1, 1000)


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(DualPathError) as problem:
        spell_out(given)
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dense-16x4", SamplingConfig(16, "dense", 4)),
        ("dense-32x2", SamplingConfig(32, "dense", 2)),
        ("dense-1x1", SamplingConfig(1, "dense", 1)),
        ("segment-8", SamplingConfig(8, "segment")),
        ("segment-32", SamplingConfig(32, "segment")),
    ],
)
def test_what_names_of_sampling_stand_for(name: str, expected: SamplingConfig) -> None:
    assert SamplingConfig.from_name(name) == expected
    assert expected.name == name


@pytest.mark.parametrize(
    ("name", "clips", "crops"), [("3x1", 3, 1), ("1x3", 1, 3), ("5x3", 5, 3), ("10x3", 10, 3), ("2x3", 2, 3)]
)
def test_what_names_of_views_stand_for(name: str, clips: int, crops: int) -> None:
    assert ViewsConfig.from_name(name) == ViewsConfig(num_clips=clips, num_crops=crops)
    assert ViewsConfig(clips, crops).name == name


@settings(max_examples=50, deadline=None)
@given(NUMBERS, NUMBERS)
def test_every_number_has_a_name_and_back(first: int, second: int) -> None:
    for config in (SamplingConfig(first, "dense", second), SamplingConfig(first, "segment")):
        assert SamplingConfig.from_name(config.name) == config
    assert ViewsConfig.from_name(ViewsConfig(first, second).name) == ViewsConfig(first, second)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=14) | st.from_regex(r"\A(dense|segment)?-?[0-9x]{0,8}-?x?[0-9]{0,3}\Z"))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    for kind in (SamplingConfig, ViewsConfig):
        try:
            found = kind.from_name(text)
        except DualPathError:
            continue
        assert kind.from_name(found.name) == found


def test_names_that_are_none() -> None:
    for name in (
        "dense",
        "dense-16",
        "dense-16x4x2",
        "segment-8x2",
        "Dense-16x4",
        "16x4",
        "dense-٣x4",
        "dense-16x4\n",
        "segment-",
    ):
        assert refusal({"protocol": name}) == (
            f"there is no protocol {name!r}; give T frames with a step of R as dense-TxR, such as dense-16x4, or one frame "
            "from each of T equal parts as segment-T, such as segment-8"
        )
    for name in ("3", "3x", "x3", "3x1x1", "3 x 1", "-3x1"):
        assert refusal({"views": name}) == (
            f"there are no views {name!r}; give the clips of a video x the crops of a clip, such as 3x1 or 1x3"
        )
    assert refusal({"protocol": "dense-0x4"}) == "num_frames is 0, but it must be 1 or more"
    assert refusal({"protocol": "dense-4x0"}) == "sampling_rate is 0, but it must be 1 or more"
    assert refusal({"views": "3x0"}) == "num_crops 0 must be at least 1"


def test_how_it_stands_beside_an_accuracy() -> None:
    assert describe_protocol(SamplingConfig(16, "dense", 4), ViewsConfig(3, 1)) == "dense-16x4, 3x1 views"
    assert describe_protocol(SamplingConfig(8), ViewsConfig()) == "segment-8, 1x1 views"


def test_names_are_spelled_out_among_other_settings() -> None:
    told = {"protocol": "dense-32x2", "lr": 1e-3, "views": "5x3"}
    assert spell_out(told) == {
        "lr": 1e-3, "num_frames": 32, "sampling": "dense", "sampling_rate": 2, "num_clips": 5, "num_crops": 3,
    }  # fmt: skip
    assert told["protocol"] == "dense-32x2"  # what was given is left as it was
    assert spell_out({"protocol": "segment-8"}) == {"num_frames": 8, "sampling": "segment"}
    assert spell_out({"lr": 1e-3}) == {"lr": 1e-3}
    assert spell_out({"protocol": "segment-8", "views": "3x1"}, ["views"]) == {
        "protocol": "segment-8", "num_clips": 3, "num_crops": 1,
    }  # fmt: skip


def test_saying_the_same_twice_is_no_harm() -> None:
    for frames in (16, "16"):
        full = spell_out({"protocol": "dense-16x4", "num_frames": frames, "sampling": "dense"})
        assert full == {"num_frames": 16, "sampling": "dense", "sampling_rate": 4}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"num_frames": 32, "protocol": "dense-16x4"},
            "protocol dense-16x4 means num_frames 16, but num_frames is given as 32; leave one of them out",
        ),
        (
            {"protocol": "segment-8", "sampling": "dense"},
            "protocol segment-8 means sampling segment, but sampling is given as dense; leave one of them out",
        ),
        (
            {"protocol": "segment-8", "sampling_rate": "4"},
            "protocol segment-8 has no sampling_rate, but sampling_rate is given as 4; leave one of them out",
        ),
        ({"views": "3x1", "num_crops": 3}, "views 3x1 means num_crops 1, but num_crops is given as 3; leave one of them out"),
    ],
)
def test_two_values_of_one_number_are_refused(told: dict[str, object], said: str) -> None:
    assert refusal(told) == said
