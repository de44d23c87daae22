"""What is wrong or odd about a data set, as sentences: a pure function of its manifest and of what its files hold.

manifest, records --find--> Finding(severity, kind, text, files), the gravest first
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dualpath.data.checking.records import Record
from dualpath.data.manifest import LONGEST, Manifest, Video
from dualpath.errors import VideoError, number_of
from dualpath.memory import paused_collection
from dualpath.video.inspect import Inspection

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
ALIKE_BITS = 11  # of 192: pairs that differ in so few share one of 12 pieces of 16 bits
PIECES = 12
LARGEST_BUCKET = 2000  # of files that share such a piece: a common picture (a logo, a black screen) says nothing
UNBALANCED = 10  # times as many videos as the smallest class has
SLOW_SEEK = 60  # frames from key frame to key frame


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: with an "error" the data cannot be used as they are; a "warning" may spoil figures; a "note" is good
            to know.
        kind: a short name for programs: "unreadable".
        text: one sentence.
        files: names of the files that it is about.
        sets: where files belong together (copies of each other), those sets.
        details: a sentence each, where one for all does not do.
    """

    severity: Severity
    kind: str
    text: str
    files: tuple[str, ...] = ()
    sets: tuple[tuple[str, ...], ...] = ()
    details: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


@paused_collection()
def find(manifest: Manifest, records: Mapping[str, Record], *, num_frames: int, max_bad_files: float) -> tuple[Finding, ...]:
    """Looks for everything.

    Args:
        manifest: the data set.
        records: by name, one for each of its files; segments of a file have one in common.
        num_frames: of a clip; shorter videos are told.
        max_bad_files: share of unusable files above which they are an error.
    """
    good = {name: record.inspection for name, record in records.items() if record.bad is None and record.inspection}
    beyond = bad_segments(manifest, records)
    usable = [video for video in manifest.videos if video.file in good and video.name not in beyond]
    found = [
        *_annotations(manifest),
        *_bad_files(records, max_bad_files),
        *_segments(manifest, beyond, max_bad_files),
        *_labels(manifest, usable),
        *_groups(manifest.videos, published=bool(manifest.listed)),
        *_copies(usable, good),
        *_lookalikes(usable, good),
        *_lengths(usable, good, num_frames),
        *_oddities(good),
        *_balance(manifest, usable),
        *(Finding("warning", "labels", warning) for warning in manifest.warnings),
        *(Finding("note", "labels", note) for note in manifest.notes),
    ]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _bad_files(records: Mapping[str, Record], most: float) -> Iterable[Finding]:
    bad = tuple(name for name, record in records.items() if record.bad is not None)
    if bad:
        share = len(bad) / max(1, len(records))
        above = share > most
        limit = f"--max_bad_files allows {100 * most:.2f} %" if above else "the quarantine list names them"
        text = f"{len(bad):,} of {number_of(len(records), 'file')} ({100 * share:.1f} %) cannot be used; {limit}"
        yield Finding("error" if above else "warning", "unreadable", text, bad)


def bad_segments(manifest: Manifest, records: Mapping[str, Record]) -> dict[str, str]:
    """Reason by name of the segments that lie past the end of their files, which are usable otherwise."""
    told: dict[str, str] = {}
    for video in manifest.videos:
        record = records[video.file]
        if record.bad is None and record.inspection is not None and (video.start, video.end) != (0, None):
            try:
                video.counted(record.inspection.num_frames)
            except VideoError as problem:
                told[video.name] = problem.reason
    return told


def _segments(manifest: Manifest, beyond: Mapping[str, str], most: float) -> Iterable[Finding]:
    if beyond:
        share = len(beyond) / len(manifest.videos)
        whose = "its" if len(beyond) == 1 else "their"
        text = f"{number_of(len(beyond), 'segment lies|segments lie')} past the end of {whose} file"
        told = tuple(f"{name} {reason}" for name, reason in beyond.items())
        yield Finding("error" if share > most else "warning", "segment-range", text, tuple(beyond), details=told)


def _annotations(manifest: Manifest) -> Iterable[Finding]:
    told = [problem if len(problem) <= LONGEST else f"{problem[: LONGEST - 4]} ..." for problem in manifest.problems]
    if told:
        rest = f" (and {len(told) - 1:,} more)" if len(told) > 1 else ""
        text = f"the labels cannot be used as they are: {told[0]}{rest}"
        yield Finding("error", "annotations", text, details=tuple(told))


def _labels(manifest: Manifest, usable: Sequence[Video]) -> Iterable[Finding]:
    beyond = tuple(video.name for video in manifest.videos if not 0 <= video.label < len(manifest.classes))
    if beyond:
        text = f"{number_of(len(beyond), 'video has|videos have')} a label that is none of the {len(manifest.classes)} classes"
        yield Finding("error", "label-range", text, beyond)
    if not any(video.split == "train" for video in manifest.videos):  # a test set alone
        return
    learnt = {video.label for video in usable if video.split == "train"}
    empty = [name for label, name in enumerate(manifest.classes) if label not in learnt]
    if empty:
        named = ", ".join(f"'{name}'" for name in empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        verb = "class has|classes have"
        # What is published names its classes even where a copy lacks their videos: training warns, too.
        severity: Severity = "warning" if manifest.listed and learnt else "error"
        yield Finding(severity, "empty-class", f"{number_of(len(empty), verb)} no usable training video: {named}")


def _groups(videos: Sequence[Video], *, published: bool) -> Iterable[Finding]:
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for video in videos:
        if video.group is not None:
            places[video.group][video.split].append(video.name)
    crossing = {group: splits for group, splits in places.items() if len(splits) > 1}
    if crossing:
        sets = tuple(tuple(name for names in splits.values() for name in names) for splits in crossing.values())
        text = f"{number_of(len(crossing), 'group is|groups are')} in several splits: what is learnt there is known in the test"
        # A published division is not ours to mend, and without it no figure compares.
        yield Finding(
            "warning" if published else "error", "group-crosses", text, tuple(name for names in sets for name in names), sets
        )


def _copies(usable: Sequence[Video], good: Mapping[str, Inspection]) -> Iterable[Finding]:
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video in _each_file(usable):
        by_content[good[video.file].content].append(video)
    yield from _sets_of([same for same in by_content.values() if len(same) > 1], "copies", "the same pictures", "warning")


def _lookalikes(usable: Sequence[Video], good: Mapping[str, Inspection]) -> Iterable[Finding]:
    firsts = list({good[video.file].content: video for video in reversed(_each_file(usable))}.values())[::-1]  # no copies
    looks = [good[video.file].look for video in firsts]
    alike = [[firsts[i] for i in members] for members in similar(looks)]
    yield from _sets_of(alike, "lookalikes", "nearly the same pictures", "note")


def _each_file(videos: Sequence[Video]) -> list[Video]:
    """Of several segments of one file the first."""
    return list({video.file: video for video in reversed(videos)}.values())[::-1]


def _sets_of(sets: Sequence[Sequence[Video]], kind: str, what: str, within: Severity) -> Iterable[Finding]:
    """Sets of equal videos told apart by what is worse: several labels, several splits, or merely more than once."""
    labels = [same for same in sets if len({video.label for video in same}) > 1]
    splits = [same for same in sets if len({video.split for video in same}) > 1]
    told_before = {id(same) for same in (*labels, *splits)}
    rest = [same for same in sets if id(same) not in told_before]
    high = f"{what} in more than one split: accuracies {'are' if kind == 'copies' else 'may be'} too high"
    told: list[tuple[Severity, str, str, Sequence[Sequence[Video]]]] = [
        ("warning", f"{kind}-with-other-labels", f"{what} under different labels", labels),
        ("warning", f"{kind}-across-splits", high, splits),
        (within, kind, f"{what} more than once in one split", rest),
    ]
    for severity, name, text, chosen in told:
        if chosen:
            named = tuple(tuple(video.file for video in same) for same in chosen)
            files = tuple(dict.fromkeys(name for names in named for name in names))
            yield Finding(severity, name, f"{number_of(len(chosen), 'set')} of files with {text}", files, named)


def similar(looks: Sequence[str]) -> list[list[int]]:
    """Sets of indices of hashes (48 hexadecimal digits, "" is like nothing) that differ in at most 11 of 192 bits.

    Two such hashes agree in at least one of 12 pieces (there are fewer differences than pieces), so only those that
    share a piece are compared.
    """
    known = [i for i, look in enumerate(looks) if look]
    if not known:
        return []
    codes = np.array([list(bytes.fromhex(looks[i])) for i in known], np.uint8)
    pieces = codes.view(">u2") if codes.flags.c_contiguous else np.ascontiguousarray(codes).view(">u2")
    ones = np.array([value.bit_count() for value in range(256)], np.uint8)
    parent = list(range(len(known)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for piece in range(PIECES):
        order = np.argsort(pieces[:, piece], kind="stable")
        starts = np.flatnonzero(np.diff(pieces[order, piece].astype(np.int32), prepend=-1))
        for bucket in np.split(order, starts[1:]):
            if not 1 < len(bucket) <= LARGEST_BUCKET:
                continue
            for place, one in enumerate(bucket[:-1]):
                others = bucket[place + 1 :]
                distance = ones[codes[others] ^ codes[one]].sum(axis=1, dtype=np.int64)
                for other in others[distance <= ALIKE_BITS]:
                    parent[root(int(other))] = root(int(one))
    members: dict[int, list[int]] = defaultdict(list)
    for i, index in enumerate(known):
        members[root(i)].append(index)
    return [indices for indices in members.values() if len(indices) > 1]


def _lengths(usable: Sequence[Video], good: Mapping[str, Inspection], num_frames: int) -> Iterable[Finding]:
    frames = {video.name: video.counted(good[video.file].num_frames).num_frames or 0 for video in usable}
    single = tuple(name for name, number in frames.items() if number == 1)
    short = tuple(name for name, number in frames.items() if 1 < number < num_frames)
    if single:
        yield Finding("warning", "one-frame", f"{number_of(len(single), 'video has|videos have')} a single frame", single)
    if short:
        told = f"{number_of(len(short), 'video has|videos have')} fewer than {num_frames} frames: the last is repeated"
        yield Finding("warning", "short", told, short)


def _oddities(good: Mapping[str, Inspection]) -> Iterable[Finding]:
    def those(wanted: Any) -> tuple[str, ...]:
        return tuple(name for name, seen in good.items() if wanted(seen))

    kinds: list[tuple[Severity, str, str, tuple[str, ...]]] = [
        ("warning", "patched", "video has frames that the decoder had to patch up|videos have frames that the decoder had "
         "to patch up", those(lambda seen: seen.corrupt_frames > 0)),
        ("warning", "damaged", "video is damaged: what can be decoded is taken|videos are damaged: what can be decoded "
         "is taken", those(lambda seen: seen.damage is not None)),
        ("warning", "size-changes", "video changes its size midway|videos change their size midway",
         those(lambda seen: seen.size_changes > 0)),
        ("note", "header-lies", "header claims another number of frames than there are|headers claim another number of "
         "frames than there are", those(lambda seen: seen.listed_frames not in (0, seen.num_frames))),
        ("note", "variable-rate", "video has a variable frame rate|videos have a variable frame rate",
         those(lambda seen: seen.variable)),
        ("note", "rotated", "video is stored turned|videos are stored turned", those(lambda seen: seen.rotation != 0)),
        ("note", "hdr", "video is HDR (its colours are taken as they are)|videos are HDR (their colours are taken as they "
         "are)", those(lambda seen: seen.hdr)),
        ("note", "alpha", "video has transparency, which is left out|videos have transparency, which is left out",
         those(lambda seen: seen.alpha)),
        ("note", "slow-seek", f"video has more than {SLOW_SEEK} frames from key frame to key frame: clips from its middle "
         f"are slow to reach|videos have more than {SLOW_SEEK} frames from key frame to key frame: clips from their middle "
         "are slow to reach", those(lambda seen: seen.keyframe_distance > SLOW_SEEK)),
    ]  # fmt: skip
    for severity, kind, text, files in kinds:
        if files:
            yield Finding(severity, kind, number_of(len(files), text), files)


def _balance(manifest: Manifest, usable: Sequence[Video]) -> Iterable[Finding]:
    counts = Counter(video.label for video in usable if video.split == "train")
    if len(counts) < 2:
        return
    (most, largest), (least, smallest) = counts.most_common(1)[0], counts.most_common()[-1]
    if largest > UNBALANCED * smallest and min(most, least) >= 0 and max(most, least) < len(manifest.classes):
        yield Finding(
            "note",
            "unbalanced",
            f"the classes are unbalanced: {number_of(largest, 'training video')} of '{manifest.classes[most]}', "
            f"{smallest:,} of '{manifest.classes[least]}', {statistics.median(counts.values()):g} in the middle",
        )
