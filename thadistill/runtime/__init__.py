"""The fast student: forms of a character model that give the same frames sooner.

| runtime | what | exact | needs |
|---|---|---|---|
| ``eager`` | the published network, layer by layer | yes | - |
| ``folded`` | redundancies removed, in plain PyTorch; any device | yes | - |
| ``onnx`` | folded, in ONNX Runtime | yes | onnx, onnxruntime |
| ``native`` | C++ kernels for this processor, visible tiles only | yes | a C++ compiler (seconds, once) |
| ``int16`` | native with products of int16 | no | the same, and AVX-512 VNNI, or AVX2 without AVX-512 |
| ``half`` | float16 products in Triton kernels, a frame one CUDA graph, visible tiles only | no | a CUDA device |
| ``exact`` | ``native``, else ``folded``; ``eager`` for levels that do not double | yes | - |
| ``reduced`` | ``int16``, on a CUDA device ``half``, else as ``exact`` | no | - |
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from thadistill.errors import UserError
from thadistill.kernels.build import NativeUnavailable
from thadistill.runtime.base import Eager, Runtime
from thadistill.runtime.compiled_student import Native
from thadistill.runtime.folded import Folded
from thadistill.runtime.half import Half
from thadistill.runtime.student_kernels import NativeEngine, load_student
from thadistill.student import CharacterModel

__all__ = ["RUNTIMES", "NativeUnavailable", "Runtime", "compile_model", "resolve"]


def _onnx(model: CharacterModel, **options: Any) -> Runtime:
    from thadistill.runtime.onnx import OnnxStudent  # onnxruntime is an extra

    return OnnxStudent(model, **options)


def _native(precision: str) -> Callable[..., Runtime]:
    def build(model: CharacterModel, **options: Any) -> Runtime:
        return Native(model, precision=precision, **options)

    return build


RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "eager": Eager,
    "folded": Folded,
    "onnx": _onnx,
    "native": _native("float32"),
    "int16": _native("int16"),
    "half": Half,
}
_CHOSEN = ("exact", "reduced")
_NATIVE_ONLY = ("visible", "poses", "threads", "still_face")
_HALF_TOO = ("visible", "poses")


def resolve(runtime: str, device: str = "cpu") -> str:
    """The runtime that a name stands for on this machine: ``exact`` and ``reduced`` are chosen, others are themselves.

    Raises: UserError when there is no such runtime.
    """
    if runtime in RUNTIMES:
        return runtime
    if runtime not in _CHOSEN:
        raise UserError(f"runtime {runtime}; expected one of {', '.join([*_CHOSEN, *RUNTIMES])}")
    if device != "cpu":
        return "half" if device == "cuda" and runtime == "reduced" else "folded"
    try:
        load_student()
    except NativeUnavailable:
        return "folded"
    return "int16" if runtime == "reduced" and NativeEngine.has_integer_products() else "native"


def compile_model(model: CharacterModel, runtime: str = "exact", **options: object) -> Runtime:
    """A fast form of a character model.

    Args:
        model: the character model; later changes to its weights do not reach the runtime (``eager`` excepted).
        runtime: a name of RUNTIMES, or ``exact`` or ``reduced``.
        options: ``crop`` (top, bottom, left, right) and ``reuse`` of every runtime; the others are the classes' own.
            For ``exact`` and ``reduced`` those that only the native runtimes have are dropped where it is not one.

    Raises: UserError when there is no such runtime, or it cannot run here.
    """
    name = resolve(runtime, model.image.device.type)
    sizes = model.body_rotator.sizes
    if name != "eager" and any(b != 2 * a for a, b in pairwise(sizes)):
        if runtime not in _CHOSEN:
            raise UserError(
                f"runtime {runtime} was given levels of {sizes}; expected each twice the last: use runtime=eager"
            )
        name = "eager"
    if runtime in _CHOSEN and name in ("folded", "eager"):
        options = {key: value for key, value in options.items() if key not in _NATIVE_ONLY}
    if runtime in _CHOSEN and name == "half":
        options = {key: value for key, value in options.items() if key not in _NATIVE_ONLY or key in _HALF_TOO}
    try:
        return RUNTIMES[name](model, **options)
    except NativeUnavailable as error:
        if runtime in _CHOSEN:  # kernels that were built may still not take this student
            return RUNTIMES["folded"](
                model, **{key: value for key, value in options.items() if key not in _NATIVE_ONLY}
            )
        raise UserError(f"runtime {name} cannot be built here ({error}); use runtime=folded or exact") from None
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise UserError(f"runtime {name}: {str(error).split('.')[-1]}; see thadistill.runtime") from None
