"""How our own processes import large packages: what nobody asks for is not imported.

timm imports all its 100 architectures, of which we need four, and torchvision all its models and operations, of which timm
needs two classes; some of both import torch's compiler with sympy, which takes longer than torch itself (EXPERIMENTS.md).
So these packages' `__init__` waits until somebody asks for a name that it alone can give; their modules can be imported
meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

LATE = ("timm", "timm.models", "torchvision", "torchvision.models", "torchvision.ops")
"""Packages that timm and we need a few modules of."""

_OWN = ("__all__", "__version__")
"""What a package's `__init__` says, though Python itself has other names of this kind."""


def import_late(packages: Sequence[str] = LATE) -> None:
    """For processes that are ours: these packages run their `__init__` when it is needed. Nothing else changes."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(frozenset(packages)))


class _Finder(MetaPathFinder):
    """Finds the late packages as Python would, but loads them with `_Late`."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """None for all other modules; their path may be any kind of iterable."""
        if fullname not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is not None:
            spec.loader = _Late(spec.loader)
        return spec


class _Late(Loader):
    """Loads a package when a name is asked for that is none of its modules."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Python's own kind of module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Puts the loading off."""

        def ask(name: str) -> Any:
            if name == "__version__" and "." not in module.__name__:  # timm's own modules ask for it
                with suppress(PackageNotFoundError):
                    return version(module.__name__)
            # Python asks for names such as __wrapped__ in passing, and imports what `from package import` does not find.
            if (name.startswith("__") and name not in _OWN) or find_spec(f"{module.__name__}.{name}") is not None:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            self.now(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = ask

    def now(self, module: ModuleType) -> None:
        """The package's own `__init__`."""
        del module.__dict__["__getattr__"]
        self.loader.exec_module(module)
