"""Packages that run their `__init__` late, and that a prediction needs none of those that take long."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualpath.imports import _Finder

FILES = {
    "__init__.py": "from latepack.version import __version__\nfrom latepack.inner import ANSWER\nBOTH, RUNS = ANSWER * 2, []\n",
    "version.py": "__version__ = '1.2'\n",
    "inner.py": "ANSWER = 21\n",
    "sub/__init__.py": "raise ImportError('nobody asked for this')\n",
    "sub/leaf.py": "from latepack import inner\nVALUE = inner.ANSWER + 1\n",
}


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package of the names above, imported late."""
    for name, text in FILES.items():
        path = tmp_path / "latepack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    finder = _Finder(frozenset({"latepack", "latepack.sub"}))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    yield importlib.import_module("latepack")
    for name in [name for name in sys.modules if name.partition(".")[0] == "latepack"]:
        del sys.modules[name]


def test_modules_come_without_the_package(late: Any) -> None:
    leaf = importlib.import_module("latepack.sub.leaf")
    assert leaf.VALUE == 22
    assert "BOTH" not in vars(late)


def test_the_package_comes_when_a_name_of_its_own_is_asked_for(late: Any) -> None:
    assert not hasattr(late, "__wrapped__")
    assert "BOTH" not in vars(late)
    assert late.__version__ == "1.2"  # no distribution of this name tells it
    assert late.BOTH == 42
    late.RUNS.append(1)
    assert late.RUNS == [1]  # run once
    with pytest.raises(AttributeError, match="nothing"):
        _ = late.nothing


def test_everything_of_it_can_be_imported(late: Any) -> None:
    space: dict[str, Any] = {}
    exec("from latepack import BOTH, inner", space)
    assert space["BOTH"] == 42
    assert space["inner"].ANSWER == 21


def test_an_error_of_the_package_is_its_own(late: Any) -> None:
    sub = importlib.import_module("latepack.sub")
    with pytest.raises(ImportError, match="nobody asked for this"):
        _ = sub.value


def test_the_package_shows_what_it_has() -> None:
    code = "import dualpath, sys; print(set(dualpath.__all__) <= set(dir(dualpath)), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "True False\n"


PREDICTION = """
import sys
from dualpath.imports import import_late
import_late()
import dualpath.flags, dualpath.engine.answers, dualpath.report.predictions
from dualpath.nn.zoo import CLIP_VIT_B16, BackboneConfig, _empty
assert all(value.is_meta for value in _empty(BackboneConfig(CLIP_VIT_B16)).parameters())
late = ["torch._dynamo", "sympy", "triton", "torchvision.models.resnet", "timm.models.resnet", "lightning_fabric", "matplotlib"]
late += ["dualpath.nn.watch", "dualpath.engine.explain"]  # who explains nothing pays nothing for it
print([name for name in late if name in sys.modules])
import timm
assert timm.is_model("resnet50") and timm.create_model is not None
"""


def test_a_prediction_imports_no_compiler_and_nothing_that_explains() -> None:
    told = subprocess.run([sys.executable, "-c", PREDICTION], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "[]\n", "")
