"""Draw coloured shapes into pictures: the pencil of every synthetic still and clip of the project.

A shape is a closed outline given by its radius at each angle, so one routine draws all of them, at any
sub-pixel place, size and angle, with soft edges. Only the shape's bounding box is touched.

    canvas   float32 (H, W, 3) in 0..1, changed in place
    x, y     centre in pixels, x to the right and y downwards; the first pixel's centre is (0.5, 0.5)
    size     outer radius in pixels
    angle    radians, clockwise on the screen (y points downwards)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

ANGLES = 720  # entries of an outline: half a degree each

SHAPES: tuple[str, ...] = (
    "disc", "ring", "square", "triangle", "star", "cross", "bean", "drop", "flower", "ellipse",
)  # fmt: skip
SYMMETRY: dict[str, int] = {
    "disc": 0, "ring": 0, "square": 4, "triangle": 3, "star": 5, "cross": 4, "bean": 1, "drop": 1, "flower": 6,
    "ellipse": 2,
}  # fmt: skip
"""How often a full turn maps the shape onto itself; 0 means at every angle."""

PATTERNS: tuple[str, ...] = ("plain", "stripes", "checker", "dots", "shade")

HUES: dict[str, float] = {"red": 0.0, "yellow": 60.0, "green": 120.0, "blue": 225.0}
"""Colours with a name, as hues in degrees."""


def _polygon(corners: int, theta: np.ndarray) -> np.ndarray:
    half = math.pi / corners
    return np.cos(half) / np.cos((theta % (2 * half)) - half)


def _star(theta: np.ndarray, points: int = 5, inner: float = 0.45) -> np.ndarray:
    # Straight edges between the outer and inner corners, in polar form.
    half = math.pi / points
    t = np.abs((theta + half) % (2 * half) - half)
    return inner * math.sin(half) / (np.sin(t) * (1 - inner * math.cos(half)) + inner * math.sin(half) * np.cos(t))


def _cross(theta: np.ndarray, arm: float = 0.36) -> np.ndarray:
    # A bar of half-width `arm` along each axis; the outline is the farther of the two bars' outlines.
    c, s = np.abs(np.cos(theta)), np.abs(np.sin(theta))
    long, eps = math.sqrt(1 - arm**2), 1e-6
    along_x = np.minimum(long / (c + eps), arm / (s + eps))
    along_y = np.minimum(long / (s + eps), arm / (c + eps))
    return np.maximum(along_x, along_y)


def _outlines() -> dict[str, np.ndarray]:
    theta = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    bean = 0.62 + 0.3 * np.abs(np.cos(theta / 2)) ** 6 - 0.42 * np.abs(np.sin(theta / 2)) ** 14
    tables = {
        "disc": np.ones(ANGLES),
        "ring": np.ones(ANGLES),
        "square": _polygon(4, theta),
        "triangle": _polygon(3, theta),
        "star": _star(theta),
        "cross": _cross(theta),
        "bean": bean / bean.max(),
        "drop": 0.42 + 0.58 * np.abs(np.cos(theta / 2)) ** 20,
        "flower": 0.75 + 0.25 * np.cos(6 * theta),
        "ellipse": 0.5 / np.sqrt(np.sin(theta) ** 2 + (0.5 * np.cos(theta)) ** 2),
    }
    return {name: table.astype(np.float32) for name, table in tables.items()}


OUTLINES: dict[str, np.ndarray] = _outlines()
RING_HOLE = 0.55


@dataclass(frozen=True)
class Look:
    """What an object looks like, wherever it is: shape, two colours (RGB in 0..1) and the pattern between them."""

    shape: str
    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: str
    frequency: float


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of any hue, from grey to vivid and from dark to bright; float64 (3,) in 0..1."""
    hue, saturation, value = rng.random(), rng.random() ** 0.6, 0.15 + 0.85 * rng.random()
    return _hsv(hue, saturation, value)


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    ramp = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def random_look(rng: np.random.Generator, avoid: np.ndarray | None = None, distance: float = 0.35) -> Look:
    """A random look whose main colour differs from `avoid` (RGB) by at least `distance`, so that it can be seen."""
    colour = random_colour(rng)
    while avoid is not None and np.linalg.norm(colour - avoid) < distance:
        colour = random_colour(rng)
    second = np.clip(colour + rng.uniform(-0.45, 0.45, 3), 0, 1)
    return Look(
        shape=SHAPES[rng.integers(len(SHAPES))],
        colour=(float(colour[0]), float(colour[1]), float(colour[2])),
        second=(float(second[0]), float(second[1]), float(second[2])),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        frequency=float(rng.uniform(1.0, 2.5)),
    )


def named_look(rng: np.random.Generator, colour: str, shape: str) -> Look:
    """A look that anybody would call by its colour (one of HUES) and shape: any pattern, in two shades of that colour.

    How much it draws from `rng` does not depend on the names.
    """
    hue, saturation = HUES[colour] + rng.uniform(-10, 10), rng.uniform(0.8, 1)
    value, darker = rng.uniform(0.75, 1), rng.uniform(0.6, 0.85)
    first, second = _hsv(hue / 360, saturation, value), _hsv(hue / 360, saturation, value * darker)
    return Look(
        shape=shape,
        colour=(float(first[0]), float(first[1]), float(first[2])),
        second=(float(second[0]), float(second[1]), float(second[2])),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        frequency=float(rng.uniform(1.0, 2.5)),
    )


def is_colour(
    picture: Float[np.ndarray, "*place 3"], name: str, *, margin: float = 50.0, chroma: float = 0.15
) -> Bool[np.ndarray, "*place"]:
    """Where a picture might be called `name` (one of HUES).

    Args:
        picture: RGB in 0..1, (..., 3).
        name: of the colour.
        margin: how far a hue may lie from the colour's, degrees.
        chroma: the least difference between the largest and the smallest of R, G, B; below, there is no hue to speak of.

    Returns:
        bool (...).
    """
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    # Seen along the grey axis a colour is an arrow: red points to 0, green to 120, blue to 240 degrees.
    x, y, hue = 2 * red - green - blue, math.sqrt(3) * (green - blue), math.radians(HUES[name])
    cosine = math.cos(math.radians(margin))
    return (x * math.cos(hue) + y * math.sin(hue) >= cosine * np.sqrt(x * x + y * y)) & (spread >= chroma)


def stands_out(name: str, ground: Float[np.ndarray, " 3"], *, distance: float = 0.35) -> bool:
    """Whether all shades of the colour `name` differ from `ground` (RGB) by at least `distance`."""
    return all(np.linalg.norm(_hsv(HUES[name] / 360, 0.9, value) - ground) >= distance for value in (0.5, 0.7, 0.9))


def _pattern(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray | float:
    """How much of the second colour shows at the object's own coordinates (u, v), each within -1..1."""
    k = math.pi * look.frequency
    match look.pattern:
        case "stripes":
            return (np.sin(2 * k * u) > 0).astype(np.float32)
        case "checker":
            return ((np.sin(k * u) * np.sin(k * v)) > 0).astype(np.float32)
        case "dots":
            return ((np.cos(2 * k * u) + np.cos(2 * k * v)) > 0.9).astype(np.float32)
        case "shade":
            return np.clip(0.5 + 0.5 * u, 0, 1)
        case _:
            return 0.0


def draw(
    canvas: np.ndarray, look: Look, *, x: float, y: float, size: float, angle: float = 0.0, opacity: float = 1.0
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draws one object into `canvas` in place.

    Returns:
        The touched rows and columns, and the object's coverage there: float32 (rows, columns) in 0..1,
        0 by 0 where the object lies outside the picture.
    """
    height, width = canvas.shape[:2]
    top, bottom = max(0, math.floor(y - size - 1)), min(height, math.ceil(y + size + 1))
    left, right = max(0, math.floor(x - size - 1)), min(width, math.ceil(x + size + 1))
    if top >= bottom or left >= right:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    box = slice(top, bottom), slice(left, right)
    dx = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - x)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    distance = np.sqrt(dx * dx + dy * dy)
    turn = (np.arctan2(dy, dx) - angle) * (ANGLES / (2 * math.pi))
    edge = OUTLINES[look.shape][turn.astype(np.int32) % ANGLES] * size
    coverage = np.clip(edge - distance + 0.5, 0, 1)
    if look.shape == "ring":
        coverage *= np.clip(distance - RING_HOLE * size + 0.5, 0, 1)
    coverage *= opacity
    cos, sin = math.cos(angle) / size, math.sin(angle) / size
    mix = _pattern(look, dx * cos + dy * sin, dy * cos - dx * sin)
    region = canvas[box]
    for channel in range(3):
        paint = look.colour[channel] + (look.second[channel] - look.colour[channel]) * mix
        region[..., channel] += coverage * (paint - region[..., channel])
    return box, coverage


def _enlarge(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement of (h, w, 3) to (height, width, 3), corner to corner."""
    rows, columns = np.linspace(0, small.shape[0] - 1, height), np.linspace(0, small.shape[1] - 1, width)
    r0, c0 = np.minimum(rows.astype(int), small.shape[0] - 2), np.minimum(columns.astype(int), small.shape[1] - 2)
    fr, fc = (rows - r0)[:, None, None].astype(np.float32), (columns - c0)[None, :, None].astype(np.float32)
    upper = small[r0] * (1 - fr) + small[r0 + 1] * fr
    return upper[:, c0] * (1 - fc) + upper[:, c0 + 1] * fc


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random textured ground, float32 (height, width, 3) in 0..1: plain, cloudy or patterned, with grain."""
    base = random_colour(rng).astype(np.float32)
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = base
    for _ in range(int(rng.integers(0, 3))):
        cells = int(rng.integers(2, 9))
        strength = float(rng.uniform(0.05, 0.35))
        tint = (rng.random((cells, cells, 3)) if rng.random() < 0.5 else rng.random((cells, cells, 1))) - 0.5
        tint = np.broadcast_to(tint, (cells, cells, 3)).astype(np.float32)
        ground += strength * _enlarge(tint, height, width)
    if rng.random() < 0.3:
        angle, period = rng.uniform(0, math.pi), rng.uniform(6, 40)
        rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
        wave = np.sin((rows * math.sin(angle) + columns * math.cos(angle)) * np.float32(2 * math.pi / period))
        ground += rng.uniform(0.03, 0.12) * np.sign(wave)[..., None].astype(np.float32)
    return np.clip(ground, 0, 1, out=ground)


def to_uint8(canvas: np.ndarray, rng: np.random.Generator | None = None, grain: float = 0.0) -> np.ndarray:
    """Canvas to uint8 (H, W, 3), with sensor-like noise of standard deviation `grain` (0..1) when asked for."""
    if rng is not None and grain > 0:
        canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(grain)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
