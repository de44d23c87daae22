"""Progress on the terminal: a live bar for people, a line now and then for logs. Nothing else prints while one runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from dualpath.terminal import Stream, as_it_is, shown

LINE_SECONDS = 20.0


class Bar:
    """A progress bar with a free text beside it.

        with Bar("training", total=1200) as bar:
            bar.update(1, "loss 2.31")

    Written to stderr: stdout belongs to results.
    """

    def __init__(self, what: str, *, total: int, done: int = 0) -> None:
        self.what, self.total, self.done, self.text = what, total, done, ""
        self._console = Console(file=as_it_is(sys.stderr), markup=False, emoji=False)
        self._began, self._began_at, self._spoke = time.monotonic(), done, time.monotonic()
        self._live: Progress | None = None
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=False)),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=self._console,
            )
            self._task = self._live.add_task(what, total=total, completed=done, text="")

    def __enter__(self) -> Bar:
        if self._live:
            self._live.start()  # which takes what is printed meanwhile, and puts stderr back when it stops
            err: Any = Stream(sys.stderr, lasting=True)
            sys.stderr = err
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
        elif kind is None:
            self._speak()

    def begin_at(self, done: int) -> None:
        """How many were done before the bar began: they do not count for the time that is left."""
        self._began_at = done

    def update(self, done: int, text: str = "") -> None:
        """Sets how many are done, and the text beside the bar."""
        self.done, self.text = done, shown(text)
        if self._live:
            self._live.update(self._task, completed=done, text=self.text)
        elif time.monotonic() - self._spoke >= LINE_SECONDS:
            self._speak()

    def tell(self, done: int, total: int) -> None:
        """The same as a callback that is told (done, total)."""
        self.total = total
        self.update(done)

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        gone, made = self._spoke - self._began, self.done - self._began_at
        left = f", {gone / made * (self.total - self.done):.0f} s left" if made and self.done < self.total else ""
        text = f" {self.text}" if self.text else ""
        self._console.print(f"{self.what} {self.done}/{self.total}{text}, {gone:.0f} s{left}", highlight=False, soft_wrap=True)


@contextmanager
def bar_if_long(what: str) -> Iterator[Callable[[int, int], None]]:
    """A callback that is told (done, total); the bar appears when it is told something for the first time."""
    with ExitStack() as stack:
        bars: list[Bar] = []

        def tell(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(Bar(what, total=total)))
            bars[0].tell(done, total)

        yield tell
