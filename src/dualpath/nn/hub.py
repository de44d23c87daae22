"""The hub, asked once: its client would try an unreachable one again and again for most of a minute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 5.0


@contextmanager
def hub_or_cache() -> Iterator[str | None]:
    """While it lasts, only the hub's cache is used if the hub does not answer within a few seconds.

    Yields:
        Why the hub is out of reach, None if it answers.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set" if before else None
    if not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE_SECONDS)
        except Exception as problem:  # the client's errors have no base of their own; none of them is an answer
            reason = f"{constants.ENDPOINT} cannot be reached ({(str(problem).splitlines() or [type(problem).__name__])[0]})"
    constants.HF_HUB_OFFLINE = reason is not None
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before
