"""Recording: the poses of a live performance to a file that ``thadistill animate`` reads as a track."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.files import replacing


class Recording:
    """Poses with their times, written as they come, so that memory does not grow; whole once the block has ended.

    Args:
        path: a ``.json`` file, which :func:`thadistill.drive.read_track` reads.

    Raises: UserError for another ending, and when the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".json":
            raise UserError(f"record={path}; expected a file's name that ends in .json")
        if self.path.is_dir():
            raise UserError(f"record={path} is a folder; expected a file's name")
        self.count = 0
        self._stack = contextlib.ExitStack()
        self._file: TextIO | None = None
        self._began = 0.0
        self._last = -1.0

    def __enter__(self) -> Recording:
        try:
            temporary = self._stack.enter_context(replacing(self.path))
            self._file = self._stack.enter_context(temporary.open("w"))
        except OSError as error:
            self._stack.close()
            raise self._unwritable(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        if self.count == 0:  # nothing to keep: no file
            nothing = RuntimeError("no pose was recorded")
            with contextlib.suppress(RuntimeError):
                self._stack.__exit__(RuntimeError, nothing, None)
            return
        try:
            self._file.write("\n]}\n")
            self._stack.close()
        except OSError as failed:
            raise self._unwritable(failed) from None

    def write(self, pose: Float[Tensor, " 45"], time: float) -> None:
        """Adds a pose; ``time`` in seconds of any clock, later than the last pose's."""
        assert self._file is not None
        if self.count == 0:
            self._began = time
        seconds = round(time - self._began, 4)
        if seconds <= self._last:
            return
        values = [0 if value == 0 else round(value, 4) for value in pose.tolist()]
        line = json.dumps({"time": seconds, "pose": values}, separators=(",", ":"))
        try:
            self._file.write('{"poses": [\n' if self.count == 0 else ",\n")
            self._file.write(line)
        except OSError as error:
            raise self._unwritable(error) from None
        self.count += 1
        self._last = seconds

    def _unwritable(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(
            f"{self.path} cannot be written ({reason}); expected a writable folder with room: give record="
        )
