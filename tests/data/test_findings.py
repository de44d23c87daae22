"""What is found follows from the records alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.data.checking.findings import Finding, find, similar
from dualpath.data.checking.records import Record
from dualpath.data.manifest import Manifest, Split, Video
from dualpath.errors import number_of
from dualpath.video.inspect import Inspection

PLAIN = Inspection(
    num_frames=100, listed_frames=100, error=None, corrupt_frames=0, fps=25.0, duration=4.0, smallest_step=0.04,
    largest_step=0.04, variable=False, width=64, height=48, size_changes=0, rotation=0, pixel_format="yuv420p", bit_depth=8,
    hdr=False, alpha=False, codec="h264", container="mp4", has_audio=False, keyframe_distance=12, content="", look="",
)  # fmt: skip


def video(name: str, label: int = 0, split: Split = "train", group: str | None = None) -> Video:
    return Video(Path("/d") / name, name, label, split, group)


def found(videos: list[Video], *, most: float = 0.01, **seen: Inspection | str) -> dict[str, Finding]:
    """Findings by kind; `seen` says by name what a file holds, or what is wrong with it."""
    records = {}
    for place, one in enumerate(videos):
        told = seen.get(one.name, replace(PLAIN, content=str(place)))
        told = (None, told) if isinstance(told, Inspection) else (told, None)
        records[one.name] = Record(one.name, (1, 1), *told)
    manifest = Manifest(Path("/d"), ("x", "y"), tuple(videos), "csv")
    return {finding.kind: finding for finding in find(manifest, records, num_frames=16, max_bad_files=most)}


BOTH = [video("a"), video("b", 1), video("c"), video("d", 1)]


def test_a_plain_data_set_has_nothing_to_be_told() -> None:
    assert found(BOTH) == {}


def test_bad_files_and_their_limit() -> None:
    gone = found(BOTH, a="is empty")["unreadable"]
    assert (gone.severity, gone.files) == ("error", ("a",))
    assert gone.text == "1 of 4 files (25.0%) cannot be used; --max_bad_files allows 1.00%"
    assert found(BOTH, most=0.25, a="is empty")["unreadable"].severity == "warning"
    cut = found(BOTH, most=1.0, a=replace(PLAIN, num_frames=57, error="Invalid data"))["unreadable"]
    assert cut.files == ("a",)
    record = Record("a", (1, 1), None, replace(PLAIN, num_frames=57, error="Invalid data"))
    assert record.bad == "breaks off: only 57 of 100 frames could be decoded (Invalid data)"


def test_labels_and_classes() -> None:
    wrong = found([*BOTH, video("e", 2), video("f", -1)])
    assert (wrong["label-range"].severity, wrong["label-range"].files) == ("error", ("e", "f"))
    assert wrong["label-range"].text == "2 videos have a label that is none of the 2 classes"
    empty = found(BOTH, most=1.0, b="is empty", d="is empty")["empty-class"]
    assert (empty.severity, empty.text) == ("error", "1 class has no usable training video: 'y'")
    assert found([video("a", split="test")]) == {}
    many = found([*BOTH, *(video(f"m{i}") for i in range(30))])["unbalanced"]
    assert many.text == "the classes are unbalanced: 32 training videos of 'x', 2 of 'y', 17 in the middle"


def test_problems_of_the_lists_come_first() -> None:
    records = {one.name: Record(one.name, (1, 1), None, replace(PLAIN, content=one.name)) for one in BOTH}
    manifest = Manifest(Path("/d"), ("x", "y"), tuple(BOTH), "csv", problems=("line 3 has no label", "z" * 2000))
    (told,) = find(manifest, records, num_frames=16, max_bad_files=1.0)
    assert (told.severity, told.kind, told.files) == ("error", "annotations", ())
    assert told.text == "the labels cannot be used as they are: line 3 has no label (and 1 more)"
    assert told.details == ("line 3 has no label", "z" * 996 + " ...")
    one = replace(manifest, problems=manifest.problems[:1])
    assert find(one, records, num_frames=16, max_bad_files=1.0)[0].text.endswith("as they are: line 3 has no label")


def test_segments_past_the_end_of_their_files() -> None:
    ends = {"a": (0, 100), "b": (90, 102), "c": (90, 103), "d": (100, None)}  # two frames are forgiven
    videos = [replace(one, start=ends[one.name][0], end=ends[one.name][1]) for one in BOTH]
    told = found(videos, most=0.5)["segment-range"]
    assert (told.severity, told.files) == ("warning", ("c", "d"))
    assert told.text == "2 segments lie past the end of their file"
    assert told.details == (
        "c is listed with the frames 90 to 102, but there are only 100",
        "d is listed with the frames 100 to 99, but there are only 100",
    )
    assert found(videos, most=0.49)["segment-range"].severity == "error"
    alone = found([*videos[:2], videos[2]], most=0.5)
    assert alone["segment-range"].text == "1 segment lies past the end of its file"
    assert "segment-range" not in found(videos[:3], c="is empty")  # told once
    learnt = found([*videos[:2], replace(videos[3], split="train"), replace(videos[2], label=0)], most=1.0)
    assert "empty-class" not in learnt
    lost = found([videos[0], replace(videos[2], label=1)], most=1.0)
    assert lost["empty-class"].text == "1 class has no usable training video: 'y'"


def test_groups_that_cross_splits() -> None:
    crossing = [*BOTH, video("e", group="g"), video("f", split="test", group="g"), video("h", group="k")]
    finding = found(crossing)["group-crosses"]
    assert (finding.severity, finding.sets) == ("error", (("e", "f"),))


def test_copies_by_where_they_are() -> None:
    same = replace(PLAIN, content="same", look="f" * 48)
    within = found([*BOTH, video("e")], a=same, e=same)
    assert list(within) == ["copies"]  # not told again as looking alike
    assert (within["copies"].severity, within["copies"].sets) == ("warning", (("a", "e"),))
    across = found([*BOTH, video("e", split="test")], a=same, e=same)
    assert list(across) == ["copies-across-splits"]
    assert across["copies-across-splits"].text.endswith("the same pictures in more than one split: accuracies are too high")
    both = found([*BOTH, video("e", 1, "test")], a=same, e=same)
    assert list(both) == ["copies-with-other-labels", "copies-across-splits"]
    parts = found([*BOTH, video("a")], a=same)  # two entries for one file
    assert parts == {}


def test_lookalikes() -> None:
    look = "123456789abcdef0" * 3
    near = f"{int(look, 16) ^ 0b1011:048x}"
    again = replace(PLAIN, content="again", look=near)
    alike = found([*BOTH, video("e")], a=replace(PLAIN, content="first", look=look), e=again)
    assert (alike["lookalikes"].severity, alike["lookalikes"].files) == ("note", ("a", "e"))
    across = found([*BOTH, video("e", split="val")], a=replace(PLAIN, content="first", look=look), e=again)
    assert across["lookalikes-across-splits"].severity == "warning"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14))
def test_similar_equals_looking_at_all_pairs(seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    codes = [int.from_bytes(rng.bytes(24), "big") for _ in range(4)]
    for base in (0, 0, 1):
        codes.append(codes[base] ^ sum(1 << int(bit) for bit in rng.choice(192, flips, replace=False)))
    looks = [*(f"{code:048x}" for code in codes), "", ""]
    near = {(i, j) for i, one in enumerate(codes) for j, other in enumerate(codes) if (one ^ other).bit_count() <= 11}
    sets = []
    for i in range(len(codes)):  # grown one by one until nothing is added
        members = {i}
        while grown := {k for j in members for k in range(len(codes)) if (j, k) in near} - members:
            members |= grown
        if len(members) > 1 and sorted(members) not in sets:
            sets.append(sorted(members))
    assert sorted(map(sorted, similar(looks))) == sorted(sets)


@pytest.mark.parametrize(
    ("kind", "severity", "change"),
    [
        ("one-frame", "warning", {"num_frames": 1, "listed_frames": 1}),
        ("short", "warning", {"num_frames": 15, "listed_frames": 15}),
        ("patched", "warning", {"corrupt_frames": 2}),
        ("size-changes", "warning", {"size_changes": 1}),
        ("header-lies", "note", {"listed_frames": 101}),
        ("variable-rate", "note", {"variable": True}),
        ("rotated", "note", {"rotation": 90}),
        ("hdr", "note", {"hdr": True}),
        ("alpha", "note", {"alpha": True}),
        ("slow-seek", "note", {"keyframe_distance": 61}),
    ],
)
def test_oddities(kind: str, severity: str, change: dict[str, int]) -> None:
    told = found(BOTH, c=replace(PLAIN, content="c", **change))
    assert list(told) == [kind]
    assert (told[kind].severity, told[kind].files) == (severity, ("c",))
    assert told[kind].text.startswith("1 ")
    assert "|" not in told[kind].text


def test_what_breaks_off_tells_how_many_frames_there_were() -> None:
    for listed, number, told in ((0, 1, "1 frame"), (0, 2, "2 frames"), (1, 0, "0 of 1 frame"), (9, 1, "1 of 9 frames")):
        seen = replace(PLAIN, num_frames=number, listed_frames=listed, error="x")
        assert seen.broken == f"breaks off: only {told} could be decoded (x)"


def test_count() -> None:
    assert (number_of(1, "video"), number_of(1200, "video"), number_of(2, "label is|labels are")) == (
        "1 video",
        "1,200 videos",
        "2 labels are",
    )
