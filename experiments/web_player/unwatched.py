"""Unwatched: a Chromium page that nobody listens to, for what a listener would slow down.

Playwright has the browser report every WebSocket message to it, as text: with a megabyte per frame that takes as long as a
small student's frame. Here the browser is only told to open a page and to evaluate.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any


class UnwatchedPage:
    """A page in a headless Chromium of its own; ``with`` opens and ends it."""

    def __init__(self, chromium: str, address: str, flags: list[str]) -> None:
        self._command = [chromium, "--headless", "--remote-debugging-pipe", *flags]
        self._address = address
        self._count = 0

    def __enter__(self) -> UnwatchedPage:
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        hear, write = os.pipe()
        read, tell = os.pipe()
        # Chromium takes commands from descriptor 3 and answers on 4
        line = f"exec {shlex.join([*self._command, f'--user-data-dir={self._profile.name}'])} 3<&{hear} 4>&{tell}"
        self._process = subprocess.Popen(["bash", "-c", line], pass_fds=(hear, tell), stderr=subprocess.DEVNULL)
        os.close(hear)
        os.close(tell)
        self._out, self._in = os.fdopen(write, "wb"), os.fdopen(read, "rb")
        target = self._call("Target.createTarget", {"url": self._address})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        while not self._is_there():
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        self._out.close()
        self._in.close()
        self._profile.cleanup()

    def _is_there(self) -> bool:
        try:
            return bool(self.evaluate("document.readyState + location.href") == f"complete{self._address}")
        except RuntimeError as error:
            if "execution context" in str(error):  # between the empty page and the address's
                return False
            raise

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is.

        Raises: RuntimeError where it throws.
        """
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self._call("Runtime.evaluate", given, self._session)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:1000])
        return found["result"].get("value")

    def run_module(self, path: Path, call: str, argument: object) -> Any:
        """What a function of a module gives that the page's own server does not have."""
        text = path.read_text().replace("export ", "")
        return self.evaluate(f"(async () => {{ {text}\nreturn {call}({json.dumps(argument)}); }})()")

    def _call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {} if session is None else {"sessionId": session}
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            received = bytearray()
            while not received.endswith(b"\0"):
                piece = self._in.read(1)
                if not piece:
                    raise RuntimeError("Chromium has ended")
                received += piece
            answer = json.loads(received[:-1])
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
