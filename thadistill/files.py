"""Files: written whole or not at all; where conf/ lies; the one cache folder.

Everything that this package leaves on disk goes through :func:`replacing` or one of the writers below.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from thadistill.errors import UserError


def conf_dir() -> Path:
    """The Hydra configs: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def cache_folder() -> Path:
    """For downloads, targets, built kernels, measurements: ``THADISTILL_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("THADISTILL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("thadistill", appauthor=False))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of ``path`` once the block has ended without an error.

    Several processes may do so at once: the last one's file stays, whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # or a power cut could leave the name with nothing behind it; Windows syncs only what may be written
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the folder's path goes through a file
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises: UserError when the disk is full or the folder cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be written ({reason}); expected a writable folder with room") from None


def write_text(path: Path, text: str) -> None:
    """A file of text, in UTF-8; bytes of file names that are not are written as escapes. See :func:`write_bytes`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON with null for what is not a finite number."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """What a JSON file holds, in UTF-8 with or without a byte-order mark.

    Raises: OSError; ValueError for what is not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, under the keys of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def sha256_of(path: Path) -> str:
    """The hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
