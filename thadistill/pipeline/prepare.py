"""Preparing a folder: picture in, character image, face mask and sheet out; for the command and for distill's pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thadistill.data.face_mask import computed_face_mask
from thadistill.data.prepare import Prepared, prepare
from thadistill.data.prepare_sheet import sheet
from thadistill.files import write_bytes
from thadistill.images import encode_rgba, png_bytes, save_face_mask, save_png
from thadistill.teacher import Teacher


def prepare_folder(
    image: str | Path,
    out: Path,
    make_teacher: Callable[[], Teacher],
    head: Sequence[int | float] | None = None,
    segmenter: str | None = None,
    face_mask: bool = True,
    force: bool = False,
) -> Prepared:
    """Writes ``prepare.png``, ``face_mask.png`` and at last ``character.png`` into ``out``.

    A ``face_mask.png`` of the same character image stays as it is, as somebody may have painted it; that of another one is
    put aside as ``face_mask.before.png``.

    Args:
        make_teacher: THA3 or THA4; the picture is read before its weights are.
        head, segmenter, force: see :func:`thadistill.data.prepare.prepare`.
        face_mask: whether one is computed.

    Raises: UserError.
    """
    make_teacher = functools.cache(make_teacher)
    prepared = prepare(image, head, make_teacher, segmenter, force)
    character = png_bytes(prepared.character)
    given, mask, hints = out / "character.png", out / "face_mask.png", [*prepared.hints]
    if not given.is_file() or given.read_bytes() != character:
        given.unlink(missing_ok=True)  # while the folder changes it is no character's
        if mask.is_file():
            mask.replace(out / "face_mask.before.png")
            hints.append("the face mask was another character image's, and is face_mask.before.png now")
    save_png(sheet(prepared.character, make_teacher(), prepared.notes, prepared.hints), out / "prepare.png")
    if mask.is_file():
        hints.append("the face mask in the folder stays: delete it to have it computed")
    elif face_mask:
        save_face_mask(computed_face_mask(make_teacher(), encode_rgba(np.array(prepared.character))), mask)
    write_bytes(given, character)
    return replace(prepared, hints=tuple(hints))
