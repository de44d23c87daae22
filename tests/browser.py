"""A real browser without a window, for looking at pages: Chromium, spoken to over a pipe in its DevTools protocol.

    with Browser() as browser:
        look = browser.open(path, width=390, dark=True)
        look.errors, look.overflow, look.picture

Nothing is installed for it: the protocol is JSON between null bytes on file descriptors 3 and 4
(https://chromedevtools.github.io/devtools-protocol, --remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENS = Path(__file__).parent.parent / "test-output" / "screens"
"""Where screenshots are kept, for people."""
_TALLEST = 4000  # of a screenshot, in pixels
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True)
class Look:
    """A page as it was seen.

    Attributes:
        errors: what the console says of errors: scripts that fail, files that cannot be loaded.
        overflow: pixels that the page is wider than its window.
        picture: a screenshot, uint8 (height, width, 3).
        answer: of the script that was to be run in it.
    """

    errors: list[str]
    overflow: int
    picture: np.ndarray
    answer: Any


class Browser:
    """Chromium with one tab."""

    def __enter__(self) -> Browser:
        assert CHROMIUM is not None
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        options += ["--no-first-run", f"--user-data-dir={self._home.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), CHROMIUM, *options],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._events, self._number, self._session = b"", [], 0, None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        try:
            self._ask("Browser.close")
            self._process.wait(timeout=10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._home.cleanup()

    def open(self, path: Path, *, width: int = 1100, dark: bool = False, printed: bool = False, script: str = "0") -> Look:
        """Shows a file in a window of this width, with room for all of it, and looks at it."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._ask("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=scheme)
        size = {"width": width, "deviceScaleFactor": 1, "mobile": width < 500}
        self._ask("Emulation.setDeviceMetricsOverride", height=1000, **size)
        self._events.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        self._wait("Page.loadEventFired")
        # An <img> that is there but broken is no network error.
        told = "i => 'no picture: ' + i.src.slice(0, 30) + ' ... ' + i.src.slice(-30)"
        broken = self._run(f"[...document.images].filter(i => !i.naturalWidth).map({told})")
        page = "document.documentElement"
        overflow, height = self._run(f"[{page}.scrollWidth - {page}.clientWidth, {page}.scrollHeight]")
        answer = self._run(script)
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, _TALLEST), "scale": 1}
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip, optimizeForSpeed=True)[
            "data"
        ]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))
        return Look([*self._errors(), *broken], overflow, picture, answer)

    def _errors(self) -> list[str]:
        told = []
        for event in self._events:
            what, values = event["method"], event["params"]
            if what == "Runtime.exceptionThrown":
                told.append(values["exceptionDetails"].get("exception", {}).get("description", "a script failed"))
            elif what == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert", "warning"):
                told.append(" ".join(str(one.get("value", one.get("description"))) for one in values["args"]))
            elif what == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
                told.append(values["entry"]["text"])
            elif what == "Network.loadingFailed":
                told.append(values["errorText"])
        return told

    def _run(self, script: str) -> Any:
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _ask(self, method: str, **values: Any) -> dict[str, Any]:
        self._number += 1
        told = {"id": self._number, "method": method, "params": values}
        told |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(told).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._events.append(answer)

    def _wait(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._events.append(self._next())

    def _next(self, seconds: float = 60.0) -> dict[str, Any]:
        """The next message, whatever it is."""
        until = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            more = os.read(self._in, 1 << 20) if ready else b""
            if not more:
                raise TimeoutError("Chromium said nothing more")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def keep(look: Look, name: str) -> None:
    """Writes a screenshot to where people look at it."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    Image.fromarray(look.picture).save(SCREENS / f"{name}.png")
