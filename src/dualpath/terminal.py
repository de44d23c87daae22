"""stdout and stderr while a verb runs: names from files and labels cannot steer the terminal, and stderr may go away.

print(anything) --control characters shown as \\x1b--> the stream          `as_it_is` is for what we draw ourselves
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, those that turn the direction of writing, and bytes that were no UTF-8."""


def shown(text: str) -> str:
    """The same text, with what would steer a terminal spelled out: "\\x1b[31m"."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_line(text: str) -> str:
    """As `shown`, with its ends of lines spelled out too: "a\\nb"."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


class Stream:
    """A text stream that spells out what would steer a terminal.

    Args:
        stream: where the text goes.
        lasting: nothing fails because nobody reads it any more or its disk is full; what is written then is lost.
        plain: False passes all on as it is.
    """

    def __init__(self, stream: Any, *, lasting: bool, plain: bool = True) -> None:
        self.stream, self._is_lasting, self._is_plain = stream, lasting, plain

    def write(self, text: str) -> int:
        """As of a file."""
        with self._lasting():
            self.stream.write(shown(text) if self._is_plain else text)
        return len(text)

    def flush(self) -> None:
        """As of a file."""
        with self._lasting():
            self.stream.flush()

    def as_it_is(self) -> Stream:
        """The same stream for what draws by steering the terminal."""
        return Stream(self.stream, lasting=self._is_lasting, plain=False)

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # a closed terminal, a pipe whose reader has ended
            if not self._is_lasting:
                raise
            with suppress(OSError, ValueError):  # what is left in its buffer must not fail either, when Python ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def as_it_is(stream: Any) -> Any:
    """A stream for what we draw ourselves, such as progress bars."""
    return stream.as_it_is() if isinstance(stream, Stream) else stream


@contextmanager
def plain_streams() -> Iterator[None]:
    """What a verb prints goes through `Stream`; stderr, which holds no results, is lasting: `2>&1 | tee log` may be ended."""
    out: Any = Stream(sys.stdout, lasting=False)
    err: Any = Stream(sys.stderr, lasting=True)
    with redirect_stdout(out), redirect_stderr(err):
        yield
