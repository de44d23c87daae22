"""Makes nn/native/_int8.so of the C beside it while dualpath is installed, where there is a C compiler; else goes without.

Nothing but int8 on processors with VNNI uses it, and that has a slower way of its own (nn/int8.py).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent / "src/dualpath/nn/native"
LIBRARY = "_int8.so"
LANES = (16, 8)
"""For AVX512, for AVX2: as lanes.h knows them."""


class Build(BuildHookInterface):
    """Compiles before the wheel, an editable one too, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the library to the wheel, which then is for this kind of machine alone."""
        del version
        if self.target_name != "wheel" or sys.platform != "linux" or platform.machine() != "x86_64":
            return
        problem = compile_library()
        if problem:
            self.app.display_warning(f"dualpath goes without its own int8 layers, as they could not be compiled: {problem}")
            return
        build_data["artifacts"].append(f"src/dualpath/nn/native/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"


def compile_library() -> str:
    """Writes the library; empty, or why it could not."""
    source, library = HERE / "int8.c", HERE / LIBRARY
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(HERE.glob("*.[ch]")))).hexdigest()
    made = library.with_suffix(f".{os.getpid()}.tmp")
    # OpenMP's functions are left open: the library takes those that torch has loaded, and so shares its threads.
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-O3", "-ffp-contract=fast", "-fno-strict-aliasing", "-fopenmp", "-fPIC", f'-DSOURCE="{digest}"']
    objects: list[str] = []
    problem = ""
    try:
        for lanes in LANES:  # an old compiler may know one kind of chip alone
            problem = _run([*compiler, *flags, f"-DLANES={lanes}", "-c", str(source), "-o", f"{made}.{lanes}.o"]) or problem
            objects += [f"{made}.{lanes}.o"] * Path(f"{made}.{lanes}.o").is_file()
        problem = _run([*compiler, "-shared", *objects, "-o", str(made)]) if objects else problem
        if not problem:
            made.replace(library)
    finally:
        for file in (*objects, str(made)):
            Path(file).unlink(missing_ok=True)
    return problem


def _run(command: list[str]) -> str:
    """Empty, or the first line of what went wrong."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as problem:
        return (problem.stderr or str(problem)).strip().splitlines()[0]
    except OSError as problem:
        return str(problem)
    return ""
