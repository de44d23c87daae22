"""All frames of a clip share one crop, one flip, one colour; and the seed alone decides which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dualpath.errors import DualPathError
from dualpath.video import transforms
from dualpath.video.transforms import TransformConfig, classes_have_direction, train_transform

PLAIN = TransformConfig(min_scale=1.0, color_jitter=0.0)
STRONG = TransformConfig(min_scale=0.3, color_jitter=0.8, random_erasing=1.0)


def noise(frames: int = 4, height: int = 40, width: int = 52) -> torch.Tensor:
    return torch.randint(0, 256, (frames, 3, height, width), generator=torch.Generator().manual_seed(3)).byte()


def test_a_still_clip_stays_still() -> None:
    still = noise(1).expand(5, -1, -1, -1)
    for seed in range(10):
        out = train_transform(still, size=24, config=STRONG, flip=True, seed=seed)
        assert out.shape == (5, 3, 24, 24)
        assert (out == out[:1]).all()


def test_colour_maps_equal_pixels_to_equal_pixels_in_all_frames() -> None:
    # Frames of very different brightness share one grey patch: it must stay the same grey in all of them.
    clip = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    clip[1], clip[2] = 120, 250
    clip[:, :, 8:24, 8:24] = 90
    config = TransformConfig(min_scale=1.0, color_jitter=0.8)
    changed = 0
    for seed in range(8):
        out = train_transform(clip, size=32, config=config, flip=False, seed=seed)
        assert (out[:, :, 12:20, 12:20] == out[:1, :, 12:20, 12:20]).all()
        changed += int((out[0, 0, 16, 16] != 90).item())
    assert changed >= 6


def test_the_seed_alone_decides() -> None:
    clip = noise()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_transform(clip, size=24, config=STRONG, flip=True, seed=7)
    assert (torch.get_rng_state() == state).all()
    torch.rand(5)
    assert (train_transform(clip, size=24, config=STRONG, flip=True, seed=7) == first).all()
    assert (train_transform(clip, size=24, config=STRONG, flip=True, seed=8) != first).any()
    assert (clip == noise()).all()


def test_nothing_asked_for_changes_nothing() -> None:
    square = noise(2, 24, 24)
    for seed in range(4):
        assert (train_transform(square, size=24, config=PLAIN, flip=False, seed=seed) == square).all()


def test_flip_mirrors_about_half_of_the_clips_and_only_if_allowed() -> None:
    square = noise(2, 24, 24)
    flipped = 0
    for seed in range(60):
        out = train_transform(square, size=24, config=PLAIN, flip=True, seed=seed)
        if (out == square.flip(-1)).all():
            flipped += 1
        else:
            assert (out == square).all()
    assert 18 <= flipped <= 42


def test_crops_cover_at_least_the_asked_part() -> None:
    # A ramp from 0 to 199 across the width: the range that is left says how wide the crop was.
    ramp = torch.arange(200, dtype=torch.uint8).expand(1, 3, 200, 200)
    config = TransformConfig(min_scale=0.5, color_jitter=0.0)
    widths = []
    for seed in range(40):
        out = train_transform(ramp, size=50, config=config, flip=False, seed=seed).float()
        widths.append((out.max() - out.min()).item() / 200)
    assert min(widths) > 0.55  # 0.5 of the area at the narrowest aspect 3/4: sqrt(0.5 * 0.75) = 0.61 of the width
    assert max(widths) > 0.9
    assert min(widths) < 0.8


def test_erasing_blanks_the_same_box_in_all_frames() -> None:
    white = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    config = TransformConfig(min_scale=1.0, color_jitter=0.0, random_erasing=1.0)
    out = train_transform(white, size=32, config=config, flip=False, seed=0)
    assert set(out.unique().tolist()) == {0, 255}
    assert (out == out[:1]).all()
    half = TransformConfig(min_scale=1.0, color_jitter=0.0, random_erasing=0.5)
    hit = sum(bool((train_transform(white, size=32, config=half, flip=False, seed=s) == 0).any()) for s in range(60))
    assert 18 <= hit <= 42


def test_test_views_are_the_exact_crops() -> None:
    clip = noise(2, 24, 40)
    views = transforms.test_transform(clip, size=24, num_crops=3)
    assert views.shape == (3, 2, 3, 24, 24)
    for view, left in zip(views, (0, 8, 16), strict=True):
        assert (view == clip[..., left : left + 24]).all()
    centre = transforms.test_transform(clip, size=18, num_crops=1, crop_fraction=0.75)
    assert (centre[0] == clip[..., 3:21, 11:29]).all()


def test_test_resize_keeps_the_aspect_and_does_not_alias() -> None:
    tall = noise(1, 120, 60)
    assert transforms.test_transform(tall, size=30, num_crops=2).shape == (2, 1, 3, 30, 30)
    checker = ((torch.arange(96)[:, None] + torch.arange(96)) % 2 * 255).byte().expand(1, 3, 96, 96)
    small = transforms.test_transform(checker, size=24, num_crops=1).float()
    assert 110 < small.min() <= small.max() < 145
    up = transforms.test_transform(noise(1, 10, 12), size=32, num_crops=1)
    assert up.shape == (1, 1, 3, 32, 32)


@pytest.mark.parametrize(
    "name",
    ["swipe_left", "SwipeLeft", "swipe-right", "turning clockwise", "TurnCounterClockwise", "anticlockwise",
     "Pushing something from left to right", "turn left2", "LEFT", "left-handed serve", "left_over", "ARMLeft"],
)  # fmt: skip
def test_names_with_a_direction(name: str) -> None:
    assert classes_have_direction(["run", name])
    assert not TransformConfig().flips(["run", name])
    assert TransformConfig(hflip="on").flips([name])


@pytest.mark.parametrize(
    "labels",
    [["gesture_1", "gesture_2"], ["turn_L", "turn_R", "run"], ["0", "1"], ["a", "b"], ["G01", "G02"], ["walk", "walk2"]],
)
def test_names_that_do_not_tell_are_not_mirrored(labels: list[str]) -> None:
    assert not TransformConfig().flips(labels)
    assert TransformConfig(hflip="on").flips(labels)
    assert "numbers and letters" in TransformConfig().describe_flips(labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["run"],
        ["run 5 km", "jump"],
        ["走る", "跳ぶ"],
        ["Back_15som_PIKE", "Back_25som_PIKE"],
        ["1 ApplyEyeMakeup", "2 Archery"],
        [],
    ],
)
def test_names_that_tell_are_mirrored(labels: list[str]) -> None:
    assert TransformConfig().flips(labels)
    assert TransformConfig().describe_flips(labels) == "half of them mirrored (--hflip off does not)"


@pytest.mark.parametrize("name", ["bright", "upright", "playwright", "cleft", "copyright notice", "Frightened", ""])
def test_names_without_a_direction(name: str) -> None:
    assert not classes_have_direction(["run", name])
    assert TransformConfig().flips(["run", name])
    assert not TransformConfig(hflip="off").flips([name])


def test_what_is_not_allowed_is_named() -> None:
    with pytest.raises(DualPathError, match=r"min_scale is 0\.0, but it must be above 0 and at most 1"):
        TransformConfig(min_scale=0.0)
    wrong = TransformConfig()
    object.__setattr__(wrong, "hflip", "yes")  # the tests' type checks would stop it earlier
    with pytest.raises(DualPathError, match="hflip is 'yes', but it must be one of auto, on, off"):
        wrong.__post_init__()
    with pytest.raises(DualPathError, match=r"color_jitter is -0\.1"):
        TransformConfig(color_jitter=-0.1)
    with pytest.raises(DualPathError, match=r"random_erasing is 2\.0, but it is a probability"):
        TransformConfig(random_erasing=2.0)
    with pytest.raises(DualPathError, match=r"crop_fraction is 0\.0"):
        transforms.test_transform(noise(), size=8, num_crops=1, crop_fraction=0.0)


def coloured(clip: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Brightness, contrast and saturation as torchvision draws them, one after another in real numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        v2.RandomResizedCrop(clip.shape[-1], scale=(1.0, 1.0)).make_params([torch.from_numpy(clip)])
        drawn = v2.ColorJitter(strength, strength, strength).make_params([])
    found = clip.astype(np.float64)
    for step in drawn["fn_idx"].tolist():
        grey = (0.299 * found[:, 0] + 0.587 * found[:, 1] + 0.114 * found[:, 2])[:, None]
        if step == 0:
            found = drawn["brightness_factor"] * found
        elif step == 1:
            found = grey.mean() + drawn["contrast_factor"] * (found - grey.mean())
        elif step == 2:
            found = grey + drawn["saturation_factor"] * (found - grey)
    return np.floor(np.clip(found, 0, 255) + 0.5)


def test_colours_change_as_drawn_and_are_rounded_once() -> None:
    clip = torch.randint(0, 256, (5, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = TransformConfig(min_scale=1.0, color_jitter=0.6)
    for seed in range(20):
        ours = train_transform(clip.to(memory_format=torch.channels_last), size=24, config=config, flip=False, seed=seed)
        expected = coloured(clip.numpy(), 0.6, seed)
        assert np.abs(ours.numpy() - expected).max() <= 1  # in single precision
        assert (ours.numpy() != expected).mean() < 1e-3


def test_colours_are_torchvision_s_where_nothing_is_cut_off() -> None:
    clip = torch.randint(90, 150, (5, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = TransformConfig(min_scale=1.0, color_jitter=0.3)
    for seed in range(20):
        ours = train_transform(clip, size=24, config=config, flip=False, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cropped = v2.RandomResizedCrop(24, scale=(1.0, 1.0), antialias=True)(clip)
            tall = cropped.transpose(0, 1).reshape(3, -1, 24)
            expected = v2.ColorJitter(0.3, 0.3, 0.3)(tall).reshape(3, 5, 24, 24).transpose(0, 1)
        assert (ours.int() - expected.int()).abs().max() <= 3  # it cuts fractions off three times
