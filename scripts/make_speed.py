"""Writes what was measured: docs/speed.md, its pictures and the README's table, from benchmarks/results/*/models.json.

    python scripts/make_speed.py            writes them
    python scripts/make_speed.py --check    writes nothing; exits with 1 if they are not what the results give

A folder of results is a machine (cpu, h100 ...): models.json is of benchmarks/models.py, scaling.json, if it is there, of
benchmarks/scaling.py. What was asked for stands in speed_targets.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from growth import growth_markdown, growth_picture

from dualpath.errors import DualPathError
from dualpath.report.speed import HEAD as SPEED_HEAD
from dualpath.report.speed import four_digits, speed_picture, speed_rows
from dualpath.speed.turns import Measured
from pages import write_or_check
from speed_targets import AUTOCAST, FP32, TARGETS, Machine, read_machine, sentence, times

ROOT = Path(__file__).resolve().parents[1]
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


def rows_of(machine: Machine, group: str) -> list[tuple[str, ...]]:
    """The cells below HEAD."""
    others = [machine.good(f"{name}, {group}") for name in (FP32, AUTOCAST)]
    ours = [one for one in machine.rows.values() if one.candidate.group == group]
    found = []
    for one, cells in zip(machine.shown(group), speed_rows(ours), strict=True):
        if one.problem:
            found.append((plain(one), *[""] * (len(HEAD) - 2), one.problem.replace("|", "/")))
            continue
        over = (times(other, one) for other in others)
        found.append((plain(one), *cells[1:-1], *("" if share is None else f"{share:.2f} x" for share in over)))
    return found


def plain(one: Measured) -> str:
    """A label without its group."""
    return one.candidate.label.removesuffix(f", {one.candidate.group}")


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---", *["---:"] * (len(head) - 1)), *rows))


def make_page(machines: Sequence[Machine], pictures: Collection[str]) -> str:
    """docs/speed.md; `pictures` are the names of those that there are."""
    parts = [INTRODUCTION]
    for machine in machines:
        versions = ", ".join(f"{name} {version}" for name, version in machine.told["versions"].items())
        parts.append(f"## {machine.name}\n\n{machine.told['machine']}; {versions}.\n`{machine.told['command']}`\n")
        if f"speed_{machine.name}" in pictures:
            parts.append(f"![Clips a second of each candidate](pictures/speed_{machine.name}.png)\n")
        parts += [f"### {g.capitalize()}\n\n{as_table(HEAD, rows_of(machine, g))}\n" for g in GROUPS if machine.shown(g)]
        targets = [sentence(target, machine) for target in TARGETS if target.device == machine.kind]
        parts.append("\n".join(["### Asked and reached\n", *targets]) + "\n")
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


def make_short(machines: Sequence[Machine], pictures: Collection[str]) -> str:
    """The README's table: ours, the authors' way, full video models."""
    parts = []
    for machine in machines:
        named = {plain(one): one for group in GROUPS for one in machine.shown(group)}
        wanted = [
            n
            for n, one in named.items()
            if n in ("dualpath", "dualpath, int8", FP32, AUTOCAST) or one.candidate.maker == "peers:video_model"
        ]
        rows = []
        for name in wanted:
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
        parts.append(as_table(head, rows))
        if f"speed_{machine.name}" in pictures:
            parts.append(f"![Clips a second of each candidate](docs/pictures/speed_{machine.name}.png)")
    parts.append(
        "In turn in one run on each machine; [docs/speed.md](docs/speed.md) has all candidates and what the columns mean."
    )
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
    short = make_short(machines, pictures)
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
