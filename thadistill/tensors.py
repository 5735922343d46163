"""Tensors: files of torch.save, read without running code in them and without more memory than they have bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thadistill.errors import UserError, first_line

_FOLDER = 0x10  # among a ZIP entry's attributes
_READ = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64)


def read_tensors(file: Path | io.BytesIO, name: str) -> dict[str, Tensor]:
    """The tensors of a state dict, on the CPU.

    Args:
        file: a path, or what is in memory.
        name: what messages call it.

    Raises: UserError when the file is missing, damaged, or holds anything but named arrays of finite numbers.
    """
    content = read_torch(file, name)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{name} holds a {type(content).__name__}; expected tensors by name, a state dict")
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"{name} has a tensor named {key!r}; expected names: take another file")
        if (odd := oddity(value)) is not None:
            raise UserError(f"{name} has {key}, {odd}; expected finite numbers: take another file")
    return dict(content)


def read_torch(file: Path | io.BytesIO, name: str) -> Any:
    """What ``torch.save`` wrote: tensors, numbers, text and containers of them, on the CPU; see :func:`read_tensors`.

    The checksums of its records are compared, which ``torch.load`` does not.
    """
    try:
        if isinstance(file, Path) and not file.is_file():
            there = "is no file" if file.exists() else "does not exist"
            raise UserError(f"{name} {there}; expected one of trained tensors: check the folder")
        _check_records(file)
        if isinstance(file, io.BytesIO):
            file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # pickle, zip and torch each have their own
        raise UserError(
            f"{name} cannot be read as tensors ({first_line(error)}); expected a whole file: copy it again"
        ) from None


def oddity(value: Tensor) -> str | None:
    """Why a tensor is not to be trusted; None where it is an array of finite numbers that are all in its file."""
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.device.type != "cpu":
        return "which is no dense array"
    if value.dtype not in _READ:
        return f"of {str(value.dtype).removeprefix('torch.')}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "an array that repeats its values"
    if not bool(torch.isfinite(value).all()):
        return "with values that are not finite"
    return None


def _check_records(file: Path | io.BytesIO) -> None:
    """Refuses damaged records; compressed ones, of which ``torch.save`` writes none; and files of torch before 1.6, which
    are no ZIPs: they have no checksums, and memory is taken for what they claim to hold.
    """
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"{entry.filename} is compressed")
            if entry.external_attr & _FOLDER:  # of which torch reads nothing, and leaves memory as it was
                raise ValueError(f"{entry.filename} is marked as a folder")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} differs")
