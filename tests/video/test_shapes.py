"""Named looks: as a person would name them, whatever else is random; and where a picture shows a named colour."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.video.drawn import shapes

part = st.floats(0, 1, width=32)


@given(part, part, part, st.sampled_from(sorted(shapes.HUES)), st.floats(5, 60), st.floats(0.05, 0.6))
def test_is_colour_is_hue_and_chroma_as_the_standard_library_has_them(
    red: float, green: float, blue: float, name: str, margin: float, chroma: float
) -> None:
    # colorsys measures hue along a hexagon, is_colour along a circle: they differ by 1.2 degrees at most.
    hue = colorsys.rgb_to_hsv(red, green, blue)[0] * 360
    apart, spread = abs((hue - shapes.HUES[name] + 180) % 360 - 180), max(red, green, blue) - min(red, green, blue)
    told = bool(shapes.is_colour(np.array([[red, green, blue]]), name, margin=margin, chroma=chroma))
    if spread < chroma - 1e-6 or apart > margin + 1.2:
        assert not told
    if spread > chroma + 1e-6 and apart < margin - 1.2:
        assert told


@pytest.mark.parametrize("name", shapes.HUES)
def test_a_named_look_is_of_that_name_and_of_no_other(name: str) -> None:
    rng = np.random.default_rng(1)
    patterns = set()
    for _ in range(100):
        look = shapes.named_look(rng, name, "star")
        assert look.shape == "star"
        for colour in (look.colour, look.second):
            assert shapes.is_colour(np.array([colour]), name, margin=12.0, chroma=0.35)
        others = [other for other in shapes.HUES if shapes.is_colour(np.array([look.colour]), other, margin=12.0)]
        assert others == [name]
        patterns.add(look.pattern)
    assert patterns == set(shapes.PATTERNS)


def test_named_looks_draw_equally_much_whatever_their_names() -> None:
    after = set()
    for colour, shape in [("red", "disc"), ("blue", "cross"), ("green", "ring")]:
        rng = np.random.default_rng(5)
        look = shapes.named_look(rng, colour, shape)
        after.add((look.pattern, look.frequency, rng.random()))
    assert len(after) == 1


def test_a_colour_stands_out_from_grounds_that_no_shade_of_it_resembles() -> None:
    assert shapes.stands_out("red", np.array([0.1, 0.9, 0.2]))
    assert shapes.stands_out("red", np.zeros(3))
    assert not shapes.stands_out("red", np.array([0.5, 0.1, 0.1]))
    assert not shapes.stands_out("red", np.array([0.9, 0.2, 0.2]))
