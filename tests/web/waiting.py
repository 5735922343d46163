"""Waiting for a page; Playwright's own polling evaluates text within the page, which the player's policy forbids."""

from __future__ import annotations

import time
from typing import Any


def wait_until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Returns once a JavaScript expression is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never: {expression}"
        page.wait_for_timeout(50)
