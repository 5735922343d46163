"""Handle: the socket or device that a source or sink holds open; closed in one place."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class HandleContext:
    """The end of a context whose ``__enter__`` opens ``_handle``: closes it, once; None while nothing is open."""

    _handle: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()
