"""Downloads: files of assets from where their authors publish them (PyPI, npm, the web), checked by hash and unpacked."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from thadistill.errors import UserError

PUBLIC_NPM = "https://registry.npmjs.org"
_PIP_TIMEOUT_S = 1200
_READ_TIMEOUT_S = 60  # without a byte


class Failed(Exception):
    """A source could not deliver: what was tried and why it failed, and what to do about it."""

    def __init__(self, what: str, todo: str = "check the network and try again") -> None:
        super().__init__(what)
        self.what, self.todo = what, todo


@dataclass(frozen=True)
class PyPI:
    """A wheel, which pip fetches from wherever the user's pip does, or a source archive where there is no wheel."""

    requirement: str
    sdist_sha256: str | None = None  # of the source archive, whose setup.py pip runs: pip checks the hash before

    @property
    def origin(self) -> str:
        """Where it is published, as an error names it."""
        return "PyPI"

    def fetch(self, file: Path) -> None:
        """Writes the download to ``file``.

        Raises: Failed with what went wrong; OSError for a full disk.
        """
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(file.parent)]
        if self.sdist_sha256 is None:
            command += ["--only-binary=:all:", self.requirement]
        else:
            hashed = file.parent / "requirements.txt"
            hashed.write_text(f"{self.requirement} --hash=sha256:{self.sdist_sha256}\n")
            command += ["--no-binary", self.requirement.partition("==")[0], "--require-hashes", "-r", str(hashed)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"pip did not fetch {self.requirement} within {_PIP_TIMEOUT_S // 60} minutes") from None
        if done.returncode == 0 and file.is_file():
            return
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        if any("No module named pip" in line for line in lines):
            raise Failed(
                f"{sys.executable} has no pip to fetch {self.requirement}", f"run '{sys.executable} -m ensurepip'"
            )
        if any("No space left" in line for line in lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        errors = [line for line in lines if line.startswith("ERROR")]
        reason = (errors or lines or ["no message"])[-1]
        raise Failed(f"pip could not fetch {self.requirement} ({reason})")


@dataclass(frozen=True)
class Npm:
    """A package's tarball, from the registry that the user's npm is set to."""

    package: str
    version: str

    @property
    def origin(self) -> str:
        return "npm"

    def fetch(self, file: Path) -> None:
        stem = self.package.rpartition("/")[2]
        _fetch(f"{npm_registry()}/{self.package}/-/{stem}-{self.version}.tgz", file)


@dataclass(frozen=True)
class Web:
    """A file at an address."""

    address: str

    @property
    def origin(self) -> str:
        return urllib.parse.urlsplit(self.address).hostname or self.address

    def fetch(self, file: Path) -> None:
        _fetch(self.address, file)


Source = PyPI | Npm | Web


@dataclass(frozen=True)
class Download:
    """One file to fetch, and what of it is kept."""

    file: str  # its name, also where it was brought by hand
    sha256: str
    size_mb: float
    source: Source
    keep: tuple[
        tuple[str, str], ...
    ] = ()  # of an archive: (prefix in it, folder in the asset); none: the file as it is

    def fetch(self, folder: Path, by_hand: str) -> Path:
        """Fetches the file into a folder and checks it.

        Raises: UserError when it cannot be had, ending in ``by_hand``: how to bring it; OSError for a full disk.
        """
        file = folder / self.file
        try:
            self.source.fetch(file)
        except Failed as failed:
            raise UserError(
                f"{failed.what}; expected {self.size_mb} MB from {self.source.origin}: {failed.todo}, {by_hand}"
            ) from None
        self.check(file)
        return file

    def check(self, file: Path) -> None:
        """Raises: UserError unless a file is the published one."""
        found = sha256_of(file)
        if found != self.sha256:
            raise UserError(
                f"{file} has sha256 {found}; expected {self.sha256}: it is cut short or not the published file, so "
                "nothing was unpacked; remove it and pull again"
            )

    def find(self, folder: Path) -> Path | None:
        """The file where somebody put it: ``npm pack`` writes the package's scope in front of its name."""
        return next((path for path in sorted(folder.glob(f"*{self.file}")) if path.is_file()), None)

    def unpack(self, file: Path, folder: Path) -> dict[str, int]:
        """Puts what is kept of the file into a folder; returns the sizes in bytes by path within it."""
        sizes: dict[str, int] = {}
        with _entries(file, archive=bool(self.keep)) as entries:
            for name, stream in entries:
                target = self._kept_as(name)
                if target is None:
                    continue
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                with (folder / target).open("wb") as sink:
                    shutil.copyfileobj(stream, sink)
                sizes[target] = (folder / target).stat().st_size
        return sizes

    def _kept_as(self, entry: str) -> str | None:
        if not self.keep:
            return self.file
        for kept, folder in self.keep:
            if entry == kept:
                return str(PurePosixPath(folder) / PurePosixPath(entry).name)
            if kept.endswith("/") and entry.startswith(kept):
                return str(PurePosixPath(folder) / entry[len(kept) :])
        return None


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def npm_registry() -> str:
    """The address of the npm registry that the user has chosen, without a slash at its end; else the public one."""
    chosen = next((value for key, value in os.environ.items() if key.lower() == "npm_config_registry"), "")
    npm = shutil.which("npm")
    if not chosen and npm is not None:
        try:
            done = subprocess.run(
                [npm, "config", "get", "registry"], capture_output=True, text=True, timeout=30, check=False
            )
            chosen = done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            pass
    return chosen.rstrip("/") if chosen.startswith(("https://", "http://")) else PUBLIC_NPM


def _fetch(address: str, file: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_READ_TIMEOUT_S) as response, file.open("wb") as sink:
            shutil.copyfileobj(response, sink)
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and time-outs are OSErrors too
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())
        if isinstance(error, urllib.error.HTTPError):
            reason = f"{error.code} {reason}"
        raise Failed(f"{address} could not be fetched ({reason})") from None


@contextmanager
def _entries(file: Path, archive: bool) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """The files in a wheel or tarball by name, or the file itself."""
    if not archive:
        with file.open("rb") as single:
            yield iter([(file.name, single)])
    elif file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            yield ((entry.filename, wheel.open(entry)) for entry in wheel.infolist() if not entry.is_dir())
    else:
        with tarfile.open(file) as tarball:
            members = ((entry.name, tarball.extractfile(entry)) for entry in tarball)
            yield ((name, content) for name, content in members if content is not None)
