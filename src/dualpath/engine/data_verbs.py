"""What `dualpath data ...` does: read the manifest, show how far it is, write what was found."""

from __future__ import annotations

import time
from pathlib import Path

from dualpath.data.check import Check, CheckConfig, Progress, check_data, check_folder, with_pictures
from dualpath.data.manifest import read_manifest
from dualpath.engine.progress import Bar

SETS_SHOWN, FILES_A_SET = 12, 4


def check_files(data: Path, output: Path, config: CheckConfig) -> Check:
    """Checks a data set and leaves files.jsonl, check.json and quarantine.csv in `output`; run again, it goes on.

    Raises:
        DataError: the labels cannot be used; all that is wrong with them.
        DualPathError: the folder cannot be used.
    """
    check_folder(output)  # before a tree of many files is walked
    manifest = read_manifest(data, val_fraction=0.0)
    began = time.monotonic()
    with Bar("checking", total=len({video.name for video in manifest.videos})) as bar:

        def tell(progress: Progress) -> None:
            gone = max(time.monotonic() - began, 1e-9)
            bar.begin_at(progress.done - progress.files)
            bar.update(progress.done, f"{progress.files / gone:.1f} files/s {progress.frames / gone:,.0f} decoded frames/s")

        found = check_data(manifest, output, config, progress=tell)
    sets = [files[:FILES_A_SET] for finding in found.findings for files in finding.sets[:SETS_SHOWN]]
    found = with_pictures(found, output, [name for files in sets for name in files])
    found.write(output)
    return found
