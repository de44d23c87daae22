"""Shared test set-up: every jaxtyping annotation of the package is checked while the tests run."""

from jaxtyping import install_import_hook

install_import_hook("dualpath", "beartype.beartype")
