"""Triples: a character, a pose, and the character posed; what teachers are trained on.

A folder of triples:

    FOLDER/CHARACTER/rest.png          the character, square RGBA
    FOLDER/CHARACTER/poses.npy         [n, 45]
    FOLDER/CHARACTER/00000.png ...     posed by that row
    FOLDER/CHARACTER/00000.face.png    eyebrows, eyes and mouth posed, body not; without it rest.png serves

or tar shards in WebDataset's convention, a triple's files under one key: ``KEY.rest.png KEY.pose.npy KEY.png``. Body
networks learn the way from the posed face to the posed character; with ``face=True`` triples go from the character at rest
to its posed face, which the face stages learn.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from thadistill.data.poses import check_poses, load_poses, sample_poses
from thadistill.errors import UserError
from thadistill.files import cache_folder, replacing
from thadistill.images import IMAGE_SIZE, encode_rgba, save_png, to_pil
from thadistill.images.picture import LARGEST_FILE, Picture, decode_picture, read_picture
from thadistill.pose import POSE_SIZE

_BUFFER = 256  # triples a tar stream mixes


class Triple(NamedTuple):
    """A batch of triples, or one without the first dimension. Images are in network space."""

    image: Float[Tensor, "*n 4 h w"]  # the character with its face posed, its body not; for the face stages at rest
    pose: Float[Tensor, "*n 45"]
    posed: Float[Tensor, "*n 4 h w"]  # for the face stages with only its face posed


class Split(NamedTuple):
    """Triples to learn from, and triples of other characters to judge by."""

    train: FolderTriples | TarTriples
    test: FolderTriples


def shrink(image: Float[Tensor, "n 4 h w"], size: int) -> Float[Tensor, "n 4 {size} {size}"]:
    """Mean over the pixels that become one: for a halving, the bilinear resizing of the teachers."""
    return image if image.shape[-1] == size else F.interpolate(image, size=(size, size), mode="area")


class FolderTriples(Dataset[Triple]):
    """The triples of some characters of a folder, at ``size`` pixels.

    Raises: UserError when the folder has none of them, or a file is missing, unreadable or smaller than ``size``.
    """

    def __init__(
        self, folder: str | Path, size: int, characters: Sequence[str] | None = None, face: bool = False
    ) -> None:
        self.folder, self.size, self.face = Path(folder), size, face
        names = list_characters(self.folder) if characters is None else list(characters)
        self.entries: list[tuple[str, int]] = []
        self.poses: dict[str, Tensor] = {}
        for name in names:
            self.poses[name] = load_poses(self.folder / name / "poses.npy")
            self.entries += [(name, index) for index in range(len(self.poses[name]))]
        if not self.entries:
            raise UserError(
                f"{folder} has no triples of {names}; expected CHARACTER/poses.npy, rest.png, 00000.png ..."
            )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Triple:
        name, row = self.entries[index]
        place = self.folder / name
        rest, own, posed = place / "rest.png", place / f"{row:05d}.face.png", place / f"{row:05d}.png"
        before, after = (rest, own) if self.face else (own if own.is_file() else rest, posed)
        return Triple(self._read(before), self.poses[name][row], self._read(after))

    def _read(self, path: Path) -> Float[Tensor, "4 h w"]:
        return _network_space(read_picture(path), self.size, str(path))


class TarTriples:
    """An endless shuffled stream of the triples in tar shards; processes share the shards out.

    Raises: UserError when no shard matches, or one is damaged.
    """

    def __init__(self, shards: Sequence[str | Path], size: int, face: bool = False) -> None:
        self.shards, self.size = [Path(shard) for shard in shards], size
        self.names = ("rest.png", "face.png" if face else "png")
        missing = [shard for shard in self.shards if not shard.is_file()]
        if not self.shards or missing:
            raise UserError(f"shard {missing[0] if missing else ''} does not exist; expected .tar files of triples")

    def stream(self, seed: int, rank: int = 0, world: int = 1) -> Iterator[Triple]:
        """Triples of every ``world``-th shard from ``rank`` on, mixed through a buffer."""
        generator, buffer = random.Random(seed), list[Triple]()
        while True:
            some = False
            mine = self.shards[rank::world] or self.shards
            for shard in generator.sample(mine, len(mine)):
                for triple in self.read(shard):
                    some = True
                    buffer.append(triple)
                    if len(buffer) > _BUFFER:
                        yield buffer.pop(generator.randrange(len(buffer)))
            if not some:
                raise UserError(
                    f"{mine[0]} and its like hold no triples; expected {', '.join(self.names)} and pose.npy"
                )
            # a set smaller than the buffer still has to flow
            generator.shuffle(buffer)
            yield from buffer
            buffer.clear()

    def read(self, shard: Path) -> Iterator[Triple]:
        """The triples of one shard in order."""
        try:
            with tarfile.open(shard) as archive:
                key, files = "", dict[str, bytes]()
                for member in archive:
                    if not member.isfile():
                        continue
                    place, slash, name = member.name.rpartition("/")
                    stem, _, extension = name.partition(".")
                    found = place + slash + stem
                    if found != key and files:
                        yield self._triple(files, f"{shard}:{key}")
                        files = {}
                    if member.size > LARGEST_FILE:
                        raise UserError(f"{shard}:{member.name} has {member.size / 1e6:.0f} MB; expected 1 GB at most")
                    file = archive.extractfile(member)
                    assert file is not None
                    key, files[extension] = found, file.read()
                if files:
                    yield self._triple(files, f"{shard}:{key}")
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{shard} cannot be read ({error}); expected a whole tar file: copy it again") from None

    def _triple(self, files: dict[str, bytes], label: str) -> Triple:
        if not {*self.names, "pose.npy"} <= set(files):
            raise UserError(
                f"{label} has {', '.join(sorted(files))}; expected {', '.join(self.names)} and pose.npy under one key"
            )
        rest, posed = (
            _network_space(decode_picture(io.BytesIO(files[name]), f"{label}.{name}"), self.size, f"{label}.{name}")
            for name in self.names
        )
        return Triple(rest, _pose(files["pose.npy"], f"{label}.pose.npy"), posed)


class TripleStream(IterableDataset[Triple]):
    """Endless random batches.

    Args:
        triples: drawn from with replacement between passes, each once a pass; or a tar stream.
        batch_size: triples a batch.
        seed, start: of the drawing; ``start`` differs between processes and after interruptions.
    """

    def __init__(self, triples: FolderTriples | TarTriples, batch_size: int, seed: int = 0, start: int = 0) -> None:
        self.triples, self.batch_size, self.seed, self.start = triples, batch_size, seed, start

    def __iter__(self) -> Iterator[Triple]:
        drawn = self._draw()
        while True:
            yield stack([next(drawn) for _ in range(self.batch_size)])

    def _draw(self) -> Iterator[Triple]:
        if isinstance(self.triples, TarTriples):
            rank, world = _place()
            yield from self.triples.stream(self.seed + self.start, rank, world)
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.start)
        while True:
            for index in torch.randperm(len(self.triples), generator=generator).tolist():
                yield self.triples[index]


class TripleBatches(Dataset[Triple]):
    """The first ``count`` triples, one a batch, taken evenly over the set; for validation."""

    def __init__(self, triples: FolderTriples, count: int) -> None:
        self.triples, self.count = triples, min(count, len(triples))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Triple:
        return stack([self.triples[index * len(self.triples) // self.count]])


def stack(triples: Sequence[Triple]) -> Triple:
    """Triples as one batch."""
    return Triple(*(torch.stack(part) for part in zip(*triples, strict=True)))


def list_characters(folder: Path) -> list[str]:
    """The characters that have triples in ``folder``, in order."""
    return sorted(path.parent.name for path in folder.glob("*/poses.npy"))


def folder_split(folder: str | Path, size: int, test_share: float = 0.1, face: bool = False) -> Split:
    """Characters of a folder to train and test by a hash of their names: adding characters moves none.

    Raises: UserError when either side is empty.
    """
    names = list_characters(Path(folder))
    draws = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 for name in names}
    test = [name for name in names if draws[name] < test_share]
    train = [name for name in names if draws[name] >= test_share]
    if not test or not train:
        raise UserError(
            f"{folder} splits into {len(train)} training and {len(test)} test characters of {len(names)}; expected both: "
            "add characters, or change triples.test_share"
        )
    return Split(FolderTriples(folder, size, train, face), FolderTriples(folder, size, test, face))


def tar_split(shards: str, test: str | Path, size: int, face: bool = False) -> Split:
    """Tar shards (a glob pattern) to train on; a folder of other characters to test on."""
    pattern = Path(shards)
    return Split(
        TarTriples(sorted(pattern.parent.glob(pattern.name)), size, face), FolderTriples(test, size, face=face)
    )


def puppet_split(
    size: int,
    train_characters: int,
    test_characters: int,
    poses: int,
    seed: int = 0,
    folder: str | Path | None = None,
    face: bool = False,
    report: Callable[[float], None] = lambda share: None,
) -> Split:
    """Triples drawn by puppets, rendered once and kept; test characters are those of even puppet seeds from ``seed`` on,
    training characters those of odd ones, so that neither side ever holds one of the other's, whatever the counts.
    """
    place = cache_folder() / "triples" / f"puppet-{size}" if folder is None else Path(folder)
    test = [2 * (seed + index) for index in range(test_characters)]
    train = [2 * (seed + index) + 1 for index in range(train_characters)]
    names = {}
    for done, number in enumerate([*test, *train]):
        names[number] = write_puppet_triples(place, number, poses, size)
        report((done + 1) / (len(test) + len(train)))
    return Split(
        FolderTriples(place, size, [names[number] for number in train], face),
        FolderTriples(place, size, [names[number] for number in test], face),
    )


def write_puppet_triples(folder: Path, seed: int, poses: int, size: int = IMAGE_SIZE) -> str:
    """Renders one puppet in ``poses`` poses of its own unless it is there already; returns its name."""
    from thadistill.teacher.puppet import load_puppet

    name = f"puppet-{seed:05d}-{poses}"
    place = folder / name
    if (place / "poses.npy").is_file():
        return name
    teacher = load_puppet(seed)
    rest = teacher.character()[None]
    save_png(to_pil(shrink(rest, size)[0]), place / "rest.png")
    drawn = sample_poses(poses, seed)
    with torch.inference_mode():
        for index, pose in enumerate(drawn.split(1)):
            out = teacher(rest, pose)
            save_png(to_pil(shrink(out.face_morphed, size)[0]), place / f"{index:05d}.face.png")
            save_png(to_pil(shrink(out.posed, size)[0]), place / f"{index:05d}.png")
    with replacing(place / "poses.npy") as temporary, temporary.open("wb") as file:
        np.save(file, drawn.numpy())  # last: what makes the character whole
    return name


def _pose(content: bytes, label: str) -> Float[Tensor, "45"]:
    """One pose of a NumPy file."""
    try:
        with io.BytesIO(content) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, precision = read(file)
            if shape != (POSE_SIZE,) or precision.kind != "f":
                raise ValueError(f"{precision} {shape}")
            values = np.frombuffer(file.read(), precision)
            pose = torch.from_numpy(values.reshape(shape).astype(np.float32))
    except Exception as error:  # numpy's own, and what its header makes stumble
        raise UserError(f"{label} cannot be read ({error}); expected {POSE_SIZE} floating-point numbers") from None
    return check_poses(pose[None], Path(label))[0]


def _network_space(picture: Picture, size: int, label: str) -> Float[Tensor, "4 h w"]:
    width, height = picture.size
    if not picture.kind.endswith(" RGBA") or width != height or width < size:
        raise UserError(f"{label} is {width}x{height} {picture.kind}; expected square RGBA of {size} or more")
    return shrink(encode_rgba(np.array(picture.image))[None], size)[0]


def _place() -> tuple[int, int]:
    distributed: Any = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
