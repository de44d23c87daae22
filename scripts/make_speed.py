"""Writes what was measured: docs/speed.md, its pictures and the README's table, from benchmarks/results/*/models.json.

    python scripts/make_speed.py            writes them
    python scripts/make_speed.py --check    writes nothing; exits with 1 if they are not what the results give

A folder of results is a machine (cpu, h100 ...): models.json is of benchmarks/models.py, scaling.json, if it is there, of
benchmarks/scaling.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from growth import growth_markdown, growth_picture

from dualpath.errors import DualPathError
from dualpath.markdown import table
from dualpath.report.speed import HEAD as SPEED_HEAD
from dualpath.report.speed import four_digits, is_ceiling, measured_from, speed_picture, speed_rows
from dualpath.speed.turns import Measured, ratio
from pages import write_or_check

ROOT = Path(__file__).resolve().parents[1]
FP32, AUTOCAST = "the authors' way, fp32", "the authors' way, autocast"
HEAD = (*SPEED_HEAD[:-1], "over fp32", "over autocast")
GROUPS = ("inference", "training")
MARKS = re.compile(r"(<!-- speed -->\n).*?(<!-- /speed -->)", flags=re.S)

INTRODUCTION = """# Speed

Made by scripts/make_speed.py from what benchmarks/models.py measured (benchmarks/results). The candidates of a table took
turns in one run, each in a process of its own, with random weights. A time is the median over the rounds of a round's median
step; +/- is half the way from the fastest to the slowest round. *In* is the type that frozen weights are stored and multiplied
in: what `--precision auto` takes on the machine where a label names none, also for others' models; with int8 what is no product
with weights, and in a training the way back, is done in that type. *Of the ceiling* is the time that a candidate's matrix
products alone take on this chip, each in the fastest way at hand, over its own time. *Memory a clip* is the most that a
step makes and holds at once, counted tensor by tensor: activations, gradients, casts of weights; not the weights, nor what
is kept from step to step. *Peak* is the whole process, measured (on a GPU: its tensors). *Over fp32* and *over autocast*
say how many times faster than the authors' way: the median over rounds of the ratio within a round.
"""


@dataclass(frozen=True)
class Machine:
    """The results of one folder.

    Attributes:
        name: of the folder.
        told: models.json.
        rows: all that was measured, by label.
        growth: scaling.json; None where it is not there.
    """

    name: str
    told: Mapping[str, Any]
    rows: Mapping[str, Measured]
    growth: Mapping[str, Any] | None = None

    def good(self, label: str) -> Measured | None:
        """What was measured under a label, if it was."""
        row = self.rows.get(label)
        return None if row is None or row.problem else row

    def shown(self, group: str) -> list[Measured]:
        """The rows of a table."""
        return [one for one in self.rows.values() if one.candidate.group == group and not is_ceiling(one)]


def read_machine(folder: Path) -> Machine:
    """Reads a folder of results.

    Raises:
        DualPathError: a file is not what the benchmarks write.
    """
    told = _read(folder / "models.json")
    try:
        found = measured_from(told)
    except DualPathError as problem:
        raise DualPathError(f"{folder / 'models.json'}: {problem}") from problem
    growth = folder / "scaling.json"
    rows = {one.candidate.label: one for one in found}
    return Machine(folder.name, told, rows, _read(growth) if growth.is_file() else None)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise DualPathError(f"{path} cannot be read ({problem}); make it anew with the benchmark that writes it") from problem


def times(slow: Measured | None, fast: Measured | None) -> float | None:
    """How many times faster, round by round; None where they did not take turns."""
    if slow is None or fast is None or len(slow.rounds) != len(fast.rounds):
        return None
    return ratio(slow, fast)


def rows_of(machine: Machine, group: str) -> list[tuple[str, ...]]:
    """The cells below HEAD."""
    others = [machine.good(f"{name}, {group}") for name in (FP32, AUTOCAST)]
    ours = [one for one in machine.rows.values() if one.candidate.group == group]
    found = []
    for one, cells in zip(machine.shown(group), speed_rows(ours), strict=True):
        if one.problem:
            found.append((plain(one), *[""] * (len(HEAD) - 2), one.problem))
            continue
        over = (times(other, one) for other in others)
        found.append((plain(one), *cells[1:-1], *("" if share is None else f"{share:.2f} x" for share in over)))
    return found


def plain(one: Measured) -> str:
    """A label without its group."""
    return one.candidate.label.removesuffix(f", {one.candidate.group}")


def make_page(machines: Sequence[Machine], pictures: Collection[str]) -> str:
    """docs/speed.md; `pictures` are the names of those that there are."""
    parts = [INTRODUCTION]
    for machine in machines:
        versions = ", ".join(f"{name} {version}" for name, version in machine.told["versions"].items())
        parts.append(f"## {machine.name}\n\n{machine.told['machine']}; {versions}.\n`{machine.told['command']}`\n")
        if f"speed_{machine.name}" in pictures:
            parts.append(f"![Clips a second of each candidate](pictures/speed_{machine.name}.png)\n")
        parts += [f"### {g.capitalize()}\n\n{table(HEAD, rows_of(machine, g), words=1)}\n" for g in GROUPS if machine.shown(g)]
        growth = machine.growth
        if growth is not None:
            where = f"{growth['machine']}; frozen weights in {growth['dtype']}"
            told = f"### How the cost grows\n\n{where}.\n`{growth['command']}`\n"
            name = f"scaling_{machine.name}"
            picture = f"\n![Time and memory over each axis](pictures/{name}.png)\n" if name in pictures else ""
            parts.append(f"{told}{picture}\n{growth_markdown(growth['axes'])}")
    return "\n".join(parts)


def make_pictures(machines: Sequence[Machine]) -> dict[str, bytes]:
    """PNGs by name: bars of clips a second, and growth; none of what was not measured."""
    made: dict[str, bytes] = {}
    for machine in machines:
        ours = [label for label in machine.rows if "dualpath" in label]
        made[f"speed_{machine.name}"] = speed_picture(list(machine.rows.values()), ours=ours)
        made[f"scaling_{machine.name}"] = b"" if machine.growth is None else growth_picture(machine.growth["axes"])
    return {name: picture for name, picture in made.items() if picture}


def make_short(machines: Sequence[Machine]) -> str:
    """The README's tables: ours and the authors' way."""
    parts = []
    for machine in machines:
        named = {plain(one): one for group in GROUPS for one in machine.shown(group)}
        rows = []
        for name in (name for name in ("dualpath", "dualpath, int8", FP32, AUTOCAST) if name in named):
            infer, train = (machine.good(f"{name}, {group}") for group in GROUPS)
            memory = None if train is None else train.clip_gb
            rows.append(
                (
                    name,
                    *("" if one is None else four_digits(1e3 * one.clip_seconds) for one in (infer, train)),
                    "" if memory is None else f"{memory:.2f} GB",
                )
            )
        head = (machine.told["machine"], "inference, ms a clip", "training, ms a clip", "memory a clip in training")
        parts.append(table(head, rows, words=1))
    return "\n\n".join(parts) + "\n"


def make_files(root: Path) -> dict[Path, str | bytes]:
    """What each file should hold.

    Raises:
        DualPathError: there are no results, one is broken, or the README lacks its marks.
    """
    results = root / "benchmarks" / "results"
    machines = [read_machine(path.parent) for path in sorted(results.glob("*/models.json"))]
    if not machines:
        raise DualPathError(f"{results} holds no <machine>/models.json; make one with benchmarks/models.py --output")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not MARKS.search(text):
        raise DualPathError(f"{readme} has no lines <!-- speed --> and <!-- /speed -->; put them where the table should be")
    pictures = make_pictures(machines)
    short = make_short(machines)
    return {
        root / "docs" / "speed.md": make_page(machines, pictures),
        readme: MARKS.sub(lambda found: f"{found[1]}{short}{found[2]}", text),
        **{root / "docs" / "pictures" / f"{name}.png": picture for name, picture in pictures.items()},
    }


def main(words: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Writes or checks, see pages.py."""
    return write_or_check(make_files, words, root=root, told=__doc__)


if __name__ == "__main__":
    sys.exit(main())
