"""Target cache: teacher outputs on disk, keyed by what made them, in shards that appear whole or not at all.

    FOLDER/manifest.json                 the key and what it was made of
    FOLDER/shard-00000/*.npy             the poses of a shard: one array a field
    FOLDER/shard-00000/manifest.json     the key again, and each array's checksum, compared when it is read

A cache belongs to an endless pose sequence (a seed, or a file): asking for more poses adds shards, and every run on the
same character, teacher and sequence shares them. Warped images, alphas and colours are not kept: the losses recompute the
first from the grid change and need none of the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thadistill.errors import UserError
from thadistill.files import read_json, write_json
from thadistill.kernels.patches import cut_patches
from thadistill.pose import POSE_PARAMETERS

FORMAT = 1  # raise when a field's meaning changes: old caches are then refused
SHARD = 16  # poses of a shard; the largest piece of work that an interruption can lose
_LARGEST_SHARD = 4096

Kind = Literal["posed", "face"]
FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "posed": ("pose", "posed", "grid_change", "face_region"),
    "face": ("pose", "face"),
}
# of one pose; face_region is of the face-morphed image, face the student's crop of it
SHAPES: Mapping[str, tuple[int, ...]] = {
    "pose": (45,),
    "posed": (4, 512, 512),
    "grid_change": (2, 512, 512),
    "face_region": (4, 192, 192),
    "face": (4, 128, 128),
}
POSED_BYTES = 2 * (45 * 2 + 6 * 512**2 + 4 * 192**2)  # of one posed target


@dataclass(frozen=True)
class CacheKey:
    """What a cache's content depends on; two caches with the same digest hold the same targets."""

    kind: Kind
    teacher: str  # the teacher's name
    weights: str  # its fingerprint
    image: str  # hash of the character image in network space
    poses: str  # the sequence: "random seed=1 rotations=sobol", or "file sha256=..."
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def hash_tensor(tensor: Tensor) -> str:
    """sha256 of a tensor's shape and float32 bytes."""
    array = tensor.detach().float().cpu().contiguous().numpy()
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


class TargetCache:
    """Reads a cache, or starts one.

    Args:
        folder: where it lies.
        key: what it must have been made of.
        shard: poses of a shard, where the cache is new; what is there keeps its own.

    Raises: UserError when the folder holds a cache of another key.
    """

    def __init__(self, folder: str | Path, key: CacheKey, shard: int = SHARD) -> None:
        self.folder, self.key, self.shard = Path(folder), key, shard
        manifest = self.folder / "manifest.json"
        if manifest.is_file():
            found = _read_manifest(manifest)
            if found.get("digest") != key.digest:
                content = found.get("key")
                before = content if isinstance(content, dict) else {}
                changed = [name for name, value in asdict(key).items() if before.get(name) != value]
                raise UserError(
                    f"{self.folder} holds targets with key {found.get('digest')}; expected {key.digest} "
                    f"(changed: {', '.join(changed) or 'format'}): rebuild with 'rm -r {self.folder}' and the same command"
                )
            self.shard = found.get("shard", SHARD)
        else:
            self._adopt_none()
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"{self.folder} cannot be made ({error.strerror}); expected a writable folder for targets"
                ) from None
            self.write_manifest()

    def _adopt_none(self) -> None:
        """Refuses shards that another key made, where their cache's own manifest is gone."""
        for place in sorted(self.folder.glob("shard-*")) if self.folder.is_dir() else []:
            if _read_checksums(place).get("key") != self.key.digest:
                raise UserError(
                    f"{self.folder} has shards but no manifest.json, and {place.name} is not of key {self.key.digest}; "
                    f"expected an empty folder: rebuild with 'rm -r {self.folder}' and the same command"
                )

    def write_manifest(self) -> None:
        """Writes the key and the number of whole shards; called again when a build ends."""
        content = {"digest": self.key.digest, "key": asdict(self.key), "shard": self.shard, "count": len(self)}
        write_json(self.folder / "manifest.json", content)

    def shard_folder(self, index: int) -> Path:
        """Where shard ``index`` lies once it is whole."""
        return self.folder / f"shard-{index:05d}"

    def has_shard(self, index: int) -> bool:
        """Whether shard ``index`` is on disk."""
        return self.shard_folder(index).is_dir()

    def __len__(self) -> int:
        """Poses in the shards that are whole, counted from the first without a gap."""
        count = 0
        while self.has_shard(count):
            count += 1
        return count * self.shard

    def write_shard(self, index: int, fields: Mapping[str, Tensor]) -> None:
        """Puts shard ``index`` on disk: all its fields at once, by renaming a finished folder."""
        assert set(fields) == set(FIELDS[self.key.kind])
        temporary = self.folder / f".shard-{index:05d}.{os.getpid()}"
        try:
            temporary.mkdir(exist_ok=True)
            sums = {}
            for name, value in fields.items():
                array = value.cpu().numpy().astype(_precision(name))
                np.save(temporary / f"{name}.npy", array)
                sums[name] = _checksum(array)
            write_json(temporary / "manifest.json", {"key": self.key.digest, "crc32": sums})
            if not self.has_shard(index):
                temporary.rename(self.shard_folder(index))
        except OSError as error:
            reason = error.strerror or str(error)  # numpy words a full disk itself
            raise UserError(f"{self.folder} cannot be written ({reason}); expected room for targets") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def read_shard(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of a whole shard by field, mapped from disk, their checksums compared.

        Raises: UserError where one is damaged; the shard is taken away, so that the same command makes it again.
        """
        place = self.shard_folder(index)
        recorded = _read_checksums(place)
        arrays = {}
        for name in FIELDS[self.key.kind]:
            path = place / f"{name}.npy"
            try:
                arrays[name] = array = _mapped(path)
                _check_form(array, name, self.shard)
                # shards of earlier versions have no checksums
                if recorded and _checksum(array) != recorded["crc32"][name]:
                    raise ValueError("its checksum differs")
                if recorded and recorded["key"] != self.key.digest:
                    raise ValueError(f"made under key {recorded['key']}")
            except Exception as error:  # numpy, pickle and zip each have their own
                # the disk's fault, or the system's, is no damage
                if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                    raise UserError(f"{path} cannot be read ({error.strerror or error}); expected targets") from None
                shutil.rmtree(place, ignore_errors=True)
                raise UserError(
                    f"{path} is damaged ({error}) and now deleted; run the same command, which makes it again"
                ) from None
        return arrays

    def open(self, count: int | None = None) -> Targets:
        """The first ``count`` poses (all, if None), mapped from disk.

        Raises: UserError when there are fewer, or a shard is damaged.
        """
        available = len(self)
        count = available if count is None else count
        if count > available or count == 0:
            raise UserError(
                f"{self.folder} holds {available} poses; expected {count}: run the same command to build them"
            )
        return Targets(self, count)


def _mapped(path: Path) -> np.ndarray:
    """An array of a file, mapped from disk, its own copy where it is written to; no file stays open: there are thousands."""
    found = np.load(path, mmap_mode="r")
    if not isinstance(found, np.memmap):
        raise ValueError("it is no array")
    whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    values = whole[found.offset : found.offset + found.nbytes].numpy().view(found.dtype)
    return values.reshape(found.shape, order="C" if found.flags.c_contiguous else "F")


class Targets:
    """Targets of ``count`` poses by field, a pose at a time; float16 on disk, float32 in the hand.

    ``face_of`` numbers the faces: poses in a row of one face have one number, and ``first_of`` their first.
    """

    def __init__(self, cache: TargetCache, count: int) -> None:
        self._cache, self._shard = cache, cache.shard
        self._faces: Tensor | None = None
        self._shards: dict[str, list[Tensor]] = {name: [] for name in FIELDS[cache.key.kind]}
        self.count = 0
        self._take(count)

    def _take(self, count: int) -> None:
        for index in range(len(self._shards["pose"]), -(-count // self._shard)):
            for name, array in self._cache.read_shard(index).items():
                self._shards[name].append(torch.from_numpy(array))
        self.count = count
        self.pose: Float[Tensor, "n 45"] = torch.cat(self._shards["pose"])[:count]
        facial = self.pose[:, POSE_PARAMETERS.facial]
        other = F.pad((facial[1:] != facial[:-1]).any(dim=1), (1, 0), value=True)
        self.face_of: Int[Tensor, " n"] = other.cumsum(0) - 1
        self.first_of: list[int] = other.nonzero()[:, 0].tolist()

    def grow(self, most: int) -> bool:
        """Takes in what another process has added to the cache since, up to ``most`` poses; whether there was any.

        Raises: UserError when a shard is damaged.
        """
        shards = len(self._shards["pose"])
        while shards * self._shard < most and self._cache.has_shard(shards):
            shards += 1
        count = min(most, shards * self._shard)
        if count <= self.count:
            return False
        self._take(count)
        return True

    def __len__(self) -> int:
        return self.count

    def get(self, name: str, index: int) -> Tensor:
        """Field ``name`` of one pose as float32 [c, h, w]."""
        return self._shards[name][index // self._shard][index % self._shard].float()

    @property
    def faces(self) -> Float[Tensor, "m 4 192 192"]:
        """Field ``face_region`` in float16, in memory from the first use on: once for all poses in a row that share a face.

        Pose i has face ``face_of[i]``.
        """
        have = 0 if self._faces is None else len(self._faces)
        if have < len(self.first_of):
            shards = self._shards["face_region"]
            new = torch.stack([shards[index // self._shard][index % self._shard] for index in self.first_of[have:]])
            self._faces = new if self._faces is None else torch.cat([self._faces, new])
        assert self._faces is not None
        return self._faces

    def patches(
        self, name: str, index: Int[Tensor, " n"], corner: Int[Tensor, "n 2"], size: int
    ) -> Float[Tensor, "n c p p"]:
        """Field ``name`` on the patches of ``size`` pixels at ``corner`` (top, left), one of each pose of ``index``.

        Beyond the image its border pixel repeats.
        """
        return cut_patches(self._shards[name], index, corner, size)


def _check_form(array: Any, name: str, count: int) -> None:
    expected = (count, *SHAPES[name])
    if not isinstance(array, np.ndarray) or array.shape != expected or array.dtype != _precision(name):
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
        raise ValueError(f"{found}; expected {_precision(name)} {expected}")


def _precision(name: str) -> np.dtype:
    return np.dtype(np.float32 if name == "pose" else np.float16)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _read_checksums(place: Path) -> dict[str, Any]:
    """A shard's own manifest; empty where an earlier version wrote the shard."""
    try:
        content = read_json(place / "manifest.json")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {"key": "damaged", "crc32": {}}
    return content if isinstance(content, dict) else {"key": "damaged", "crc32": {}}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        content = None
    shard = content.get("shard", SHARD) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(shard, int) or not 1 <= shard <= _LARGEST_SHARD:
        raise UserError(f"{path} is not a target cache's manifest; delete {path.parent} and run the same command")
    return content
