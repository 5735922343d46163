"""ONNX export: the student as one file, compared with PyTorch before it is written.

The graph is that of ``runtime=onnx`` (runtime/onnx_graph.py); ``parity.json`` next to the file says how near it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import thadistill
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.files import write_bytes, write_json
from thadistill.images import encode_rgba, to_rgba8
from thadistill.metrics.image import psnr
from thadistill.outputs import StudentOutput
from thadistill.student import CharacterModel

LEAST_DB = {"float32": 60.0, "float16": 40.0}
_CHECKED, _SEED = 8, 2000
_HOW = (
    "psnr: dB, per pose and output, in network space (linear premultiplied), both clipped to [-1, 1], data range 2, at most "
    "100; rgba is brought there from its 8 bits, and so is PyTorch's frame. largest_difference: of unclipped values there."
)


def export_onnx(
    model: CharacterModel,
    path: str | Path,
    dtype: str = "float32",
    outputs: Sequence[str] = ("rgba",),
    poses: Float[Tensor, "n 45"] | None = None,
) -> dict[str, Any]:
    """Writes a student as one ONNX graph, and ``parity.json`` next to it.

    Input ``pose`` is float32 [1, 45]. Nothing is written unless ONNX Runtime's frames (CPU) come near enough to PyTorch's.

    Args:
        model: the student.
        path: the file to write; its folder is made.
        dtype: of weights and stored activations: ``float32`` (60 dB or more) or ``float16`` (40 dB or more; for devices
            that sum products in float32).
        outputs: ``rgba``, uint8 [512, 512, 4], straight sRGB; also StudentOutput's, float32 in network space.
        poses: to compare on; None is eight that are drawn as a student's training poses are.

    Returns: what ``parity.json`` holds, ``psnr_min`` and each pose's figures among it.

    Raises: UserError when a package is missing, an argument is none of those above, or the frames are not near enough.
    """
    path = Path(path)
    if dtype not in LEAST_DB:
        raise UserError(f"dtype={dtype}; expected one of {', '.join(LEAST_DB)}")
    from thadistill.runtime.onnx_graph import OUTPUTS, build_graph  # onnx and onnxruntime are extras

    if not outputs or len({*outputs}) < len(outputs) or not {*outputs} <= {*OUTPUTS}:
        raise UserError(f"outputs={[*outputs]}; expected one or more of {', '.join(OUTPUTS)}, each once")
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file for the graph: name {path / 'student.onnx'}")
    content = build_graph(model, outputs, half=dtype == "float16").SerializeToString()
    figures = _compare(model, content, outputs, sample_poses(_CHECKED, _SEED) if poses is None else poses)
    about = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "mb": len(content) / 1e6, "dtype": dtype}
    parity = {**about, "least_db": LEAST_DB[dtype], **figures, "versions": _versions(), "how": _HOW}
    if not figures["psnr_min"] >= LEAST_DB[dtype]:  # not a number is refused too
        raise UserError(
            f"the {dtype} graph is {figures['psnr_min']:.1f} dB from its student; expected {LEAST_DB[dtype]:g} or more: "
            + ("nothing was written, try dtype=float32" if dtype == "float16" else "nothing was written")
        )
    write_bytes(path, content)
    write_json(path.with_name("parity.json"), parity)
    return parity


def _compare(
    model: CharacterModel, content: bytes, outputs: Sequence[str], poses: Float[Tensor, "n 45"]
) -> dict[str, Any]:
    from thadistill.runtime.onnx_graph import open_session

    session = open_session(content)
    rows = []
    with torch.inference_mode():
        for pose in poses.split(1):
            eager = StudentOutput(*(plane.float().cpu() for plane in model(pose.to(model.image))))
            if not all(bool(plane.isfinite().all()) for plane in eager):
                raise UserError("the student's frames are not finite; expected a trained student: distil it again")
            found = dict(zip(outputs, session.run([*outputs], {"pose": pose.float().cpu().numpy()}), strict=True))
            figures = {name: _figures(name, found[name], eager) for name in outputs}
            rows.append({"pose": [round(float(value), 6) for value in pose[0]], "outputs": figures})
    every = [figures for row in rows for figures in row["outputs"].values()]  # type: ignore[attr-defined]
    return {
        "psnr_min": float(np.min([figures["psnr"] for figures in every])),
        "psnr_mean": float(np.mean([figures["psnr"] for figures in every])),
        "largest_difference": float(np.max([figures["largest_difference"] for figures in every])),
        "outputs": [*outputs],
        "poses": rows,
    }


def _figures(name: str, found: np.ndarray, eager: StudentOutput) -> dict[str, float]:
    """One output of one pose against PyTorch's."""
    if name == "rgba":
        ours, theirs = encode_rgba(found)[None], encode_rgba(to_rgba8(eager.posed[0]))[None]
    else:
        ours, theirs = torch.from_numpy(found), getattr(eager, name)
    repeats = 4 // ours.shape[1]  # which no mean changes: the metric takes pictures of four channels
    decibels = psnr(ours.repeat(1, repeats, 1, 1), theirs.repeat(1, repeats, 1, 1))
    return {"psnr": float(decibels), "largest_difference": float((ours - theirs).abs().max())}


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    modules = {"thadistill": thadistill, "torch": torch, "onnx": onnx, "onnxruntime": onnxruntime}
    return {name: str(module.__version__) for name, module in modules.items()}
