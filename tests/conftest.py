"""Shared test set-up: every jaxtyping annotation of the package is checked while the tests run.

The session's fixtures are one tiny data set and one run on it, which several modules look at and none changes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("dualpath", "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALPATH_SHARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the embedded architecture, as a local file."""
    from runs import write_weights

    return write_weights(tmp_path_factory.mktemp("weights") / "random.safetensors", seed=3)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue clips in train/ and val/; not to be changed."""
    from runs import write_clips

    return write_clips(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Path:
    """A run of 4 epochs through the real command line; not to be changed."""
    from dualpath.cli import main
    from runs import flags

    output = tmp_path_factory.mktemp("run") / "colours"
    assert main(["train", str(clips), "--output", str(output), *flags(weights), "--epochs", "4"]) == 0
    return output
