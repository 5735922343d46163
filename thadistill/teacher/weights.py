"""Weights: published teacher files into networks, each tensor's name and shape checked first."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.tensors import read_tensors

_SHOWN = 3  # names quoted in an error
_LARGEST_SHARE, _OVERHEAD = 2, 16 << 20  # how large a packed file may be: of its network in float32, and bytes more


def load_networks(teacher: nn.Module, source: Path, dtype: torch.dtype) -> None:
    """Fills each network of ``teacher`` from ``<its name>.pt`` in a folder, or in a ZIP (at any depth).

    Tensors are read on the CPU with ``weights_only=True``, converted to ``dtype`` and put in place of the networks'
    own, which may be on the "meta" device.

    Raises: UserError naming the file, what was found in it and what was expected.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; expected a folder (or ZIP) with {_file_list(teacher)}")
    for name, network in teacher.named_children():
        file, label = _find(source, f"{name}.pt", teacher)
        state = _read(file, label)
        _check(state, network, label)
        converted = {key: tensor.to(dtype) for key, tensor in state.items()}
        network.load_state_dict(converted, assign=True)


def _find(source: Path, file_name: str, teacher: nn.Module) -> tuple[Path | io.BytesIO, str]:
    """What ``torch.load`` can read, and its name for messages."""
    if source.is_dir():
        path = source / file_name
        if not path.is_file():
            found = ", ".join(sorted(entry.name for entry in source.iterdir())[:8]) or "nothing"
            raise UserError(f"{source} has no {file_name} (it has: {found}); expected {_file_list(teacher)}")
        return path, str(path)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{source} is not a readable ZIP ({error}); expected a folder or ZIP with {_file_list(teacher)}: "
            "download it again"
        ) from None
    with archive:
        entry = next((item for item in archive.namelist() if item.rsplit("/", 1)[-1] == file_name), None)
        if entry is None:
            found = ", ".join(archive.namelist()[:8]) or "nothing"
            raise UserError(f"{source} has no {file_name} (it has: {found}); expected {_file_list(teacher)}")
        size, most = archive.getinfo(entry).file_size, _LARGEST_SHARE * _bytes(teacher) + _OVERHEAD
        if size > most:
            raise UserError(
                f"{source}:{entry} unpacks to {size / 1e6:.0f} MB; expected {most / 1e6:.0f} MB at most: take the published"
                " file"
            )
        try:  # whole: the reader seeks, and seeking in a compressed stream starts over
            return io.BytesIO(archive.read(entry)), f"{source}:{entry}"
        except Exception as error:  # of a bad checksum, of a compression or encryption that zipfile does not know
            raise UserError(
                f"{source}:{entry} cannot be unpacked ({error}); expected it whole: download it again"
            ) from None


def _bytes(teacher: nn.Module) -> int:
    """Of its largest network."""
    return max(
        sum(4 * tensor.numel() for tensor in network.state_dict().values()) for _, network in teacher.named_children()
    )


def _file_list(teacher: nn.Module) -> str:
    return ", ".join(f"{name}.pt" for name, _ in teacher.named_children())


def _read(file: Path | io.BytesIO, label: str) -> dict[str, Tensor]:
    state = read_tensors(file, label)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise UserError(f"{label} has {name} of {tensor.dtype}; expected floating-point numbers: copy it again")
    return state


def _check(state: dict[str, Tensor], network: nn.Module, label: str) -> None:
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if found == wanted:
        return
    shapes = [
        f"{key} {list(found[key])} instead of {list(wanted[key])}"
        for key in wanted
        if found.get(key, wanted[key]) != wanted[key]
    ]
    problems = [
        f"{title} {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"
        for title, names in (
            ("without", [f"{key} {list(wanted[key])}" for key in wanted if key not in found]),
            ("with the unknown", [f"{key} {list(found[key])}" for key in found if key not in wanted]),
            ("with", shapes),
        )
        if names
    ]
    raise UserError(
        f"{label} came {'; '.join(problems)}; expected the {len(wanted)} tensors of {type(network).__name__}: "
        "it belongs to another network or variant"
    )
