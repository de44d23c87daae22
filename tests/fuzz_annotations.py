"""Mutates annotation files of every format: each must give a manifest or a DataError, soon. Not collected by pytest.

python tests/fuzz_annotations.py [--times 20000] [--seed 0] [--format kinetics]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from dualpath.data.manifest import DataError, Manifest, read_manifest
from dualpath.errors import DualPathError
from official import ALL, lay_out, ssv2

SLOW = 2.0
"""Seconds: files of a few hundred bytes take thousandths."""
ODD = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\n\n", b"\r", b'"', b"'", b",", b";", b" ", b"\t", b"/",
    b"-1", b"0", b"1", b"1e999", b"NaN", b"Infinity", b"9" * 30, b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b"null", b"true",
    b"{}", b"[]", b'"\\ud800"', b"\\u0000", "²".encode(), "٣".encode(), "ä".encode("latin-1"), b"a" * 300, b"\x1a", b"\x85",
    b"%s", b"[", b"]", b"*", b"\\", b"0.5", b"train", b"test", b"{", b"}", b":", b"../",
)  # fmt: skip

CODECS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes, words or lines."""
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randint(0, len(data)), rng.randint(0, len(data))
        low, high = min(at, other), max(at, other)
        lines = data.split(b"\n")
        line = rng.randrange(len(lines))
        match rng.randrange(12):
            case 0:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + rng.choice(ODD) + data[at:]
            case 2:
                data = data[:low] + data[min(high, low + rng.randint(1, 30)) :]
            case 3:
                data = data[:at]
            case 4:
                data = data[:low] + data[low:high] + data[low:]
            case 5:
                data = b"\n".join(lines[:line] + lines[line + 1 :])
            case 6:
                data = b"\n".join([*lines[:line], lines[line], *lines[line:]])
            case 7:
                rng.shuffle(lines)
                data = b"\n".join(lines)
            case 8:
                data = data.decode("utf-8", "replace").encode(rng.choice(CODECS))
            case 9:
                data = data.replace(rng.choice((b"0", b"1", b",", b" ", b'"', b"\n", b":")), rng.choice(ODD))[:200_000]
            case 10:
                data = rng.randbytes(rng.randint(0, 200))
            case 11:
                words = data.split(b" ")
                at, other = rng.randint(0, len(words)), rng.randint(0, len(words))
                data = b" ".join([*words[:at], rng.choice(ODD), *words[other:]])
    return data


def check(manifest: Manifest) -> None:
    """What must be true of any manifest, whatever was read, strictly or not."""
    names = [video.name for video in manifest.videos]
    assert len(set(names)) == len(names), "names are not unique"
    lowest = -1 if manifest.problems else 0
    assert all(lowest <= video.label < len(manifest.classes) for video in manifest.videos), "a label out of range"
    assert all(video.end is None or 0 <= video.start < video.end for video in manifest.videos), "an empty segment"
    assert len(set(manifest.classes)) == len(manifest.classes), "a class twice"
    for tally in manifest.listed.values():
        assert tally.listed == tally.found + tally.missing + tally.unlabelled, "the counts do not add up"


def variants() -> dict[str, str]:
    """Name of each case to the format that it is read as."""
    return {name: name for name in ALL} | {"kinetics json": "kinetics", "ssv2 answers": "ssv2", "table": "table"}


def prepare(root: Path, case: str) -> list[Path]:
    """Writes the data set of a case; gives its annotation files."""
    if case == "kinetics json":
        import json

        entry = {"annotations": {"label": "zumba", "segment": [3.0, 13.0]}, "subset": "train", "duration": 10.0}
        other = {"annotations": {"label": "abseiling", "segment": [0.0, 10.0]}, "subset": "train"}
        (root / "annotations").mkdir(parents=True)
        table = {"aaaaaaaaaa1": entry, "-aaaaaaaaa2": other}
        (root / "annotations/train.json").write_text(json.dumps(table))
        (root / "aaaaaaaaaa1_000003_000013.mp4").touch()
        (root / "-aaaaaaaaa2.mp4").touch()
    elif case == "ssv2 answers":
        lay_out(root, "ssv2")
        for name, content in ssv2(answers=True).items():
            (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    elif case == "table":
        root.mkdir(parents=True)
        for name in "1234":
            (root / f"{name}.mp4").touch()
        (root / "labels.csv").write_text(
            "path,label,split,group\n1.mp4,a,train,x\n2.mp4,b,train,y\n3.mp4,a,val,z\n4.mp4,7,test,\n"
        )
    else:
        lay_out(root, case)
    return sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in (".csv", ".json", ".txt"))


def fuzz(root: Path, case: str, times: int, seed: int) -> tuple[Counter[str], list[str], float]:
    """Runs one case; gives its outcomes, what went wrong, and the longest time in seconds."""
    rng, outcomes, wrong, longest = random.Random(f"{seed} {case}"), Counter(), [], 0.0
    files = prepare(root, case)
    originals = {path: path.read_bytes() for path in files}
    for number in range(times):
        path = rng.choice(files)
        path.write_bytes(mutate(originals[path], rng))
        given = rng.choice((root, root, path))
        name = rng.choice((variants()[case], "auto"))
        fold = rng.choice((None, None, 1, 2, 4))
        lenient, began = None, time.perf_counter()
        try:
            lenient = read_manifest(given, format=name, fold=fold, strict=False)
            check(lenient)
        except DualPathError:
            pass
        except Exception:
            outcomes["crash of a check"] += 1
            wrong.append(f"{case} {number} {path.name} {path.read_bytes()[:300]!r}\n{traceback.format_exc()[-1500:]}")
        try:
            strict = read_manifest(given, format=name, fold=fold)
            check(strict)
            assert lenient == strict, "a check reads it otherwise"
            outcomes["manifest"] += 1
        except DataError as problem:
            str(problem).encode()
            if not problem.problems or any("\n" in told for told in problem.problems):
                wrong.append(f"{case} {number} is told as {problem.problems}")
            outcomes["DataError"] += 1
        except DualPathError:
            outcomes["another DualPathError"] += 1
        except Exception:
            outcomes["crash"] += 1
            wrong.append(f"{case} {number} {path.name} {path.read_bytes()[:300]!r}\n{traceback.format_exc()[-1500:]}")
        took = time.perf_counter() - began
        longest = max(longest, took)
        if took > SLOW:
            outcomes["slow"] += 1
            wrong.append(f"{case} {number} {path.name} took {took:.1f} s")
        path.write_bytes(originals[path])
    return outcomes, wrong, longest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20_000, help="mutated files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=sorted(variants()), help="one case only")
    options = parser.parse_args()
    warnings.simplefilter("error")
    cases = [options.format] if options.format else list(variants())
    bad = 0
    for place, case in enumerate(cases):
        root = Path(tempfile.mkdtemp(prefix="fuzz-"))
        times = options.times // len(cases) + (place < options.times % len(cases))
        outcomes, wrong, longest = fuzz(root / "data", case, times, options.seed)
        shutil.rmtree(root)
        bad += len(wrong)
        told = ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items()))
        print(f"{case:<14} {times:>7,} files: {told}; longest {1000 * longest:.0f} ms", flush=True)
        print("".join(f"\n{one[:3000]}" for one in wrong[:5]), end="\n" if wrong else "")
    print("nothing went wrong" if not bad else f"{bad} went wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
