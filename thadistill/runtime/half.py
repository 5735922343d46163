"""Half: the student in half precision on a GPU, a frame from pose to pixels replayed as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, Region
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.runtime import half_level
from thadistill.runtime.base import Runtime
from thadistill.runtime.folded import Folded, build_stages
from thadistill.runtime.half_level import HalfLevel, pack_level, sample_character
from thadistill.runtime.pixels import srgb_table
from thadistill.runtime.region import read_by_doubling
from thadistill.runtime.visible import find_visible
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE

_ROW = 8  # floats a pixel of the last level's output: seven and one to align
_WARM_UPS = 2  # runs before a capture: they compile kernels and let libraries choose theirs


class _Arithmetic(NamedTuple):
    """What a frame is made of: half_level's functions, or the Triton kernels that stand for them."""

    run_level: Callable[[HalfLevel, Tensor, Tensor | None, Tensor], None]
    paint: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool], None]


def _choose_arithmetic(kernels: bool | None, device: torch.device) -> _Arithmetic:
    if kernels is None and device.type != "cuda":
        raise UserError(
            f"runtime half got a model on {device}; expected cuda: move the model there, or use runtime=reduced"
        )
    if kernels is None:
        kernels = find_spec("triton") is not None
    if not kernels:
        return _Arithmetic(half_level.run_level, half_level.paint)
    try:
        from thadistill.runtime import triton_level, triton_paint
    except ImportError as error:
        raise UserError(f"kernels=True, but Triton cannot be imported ({error}); use kernels=False") from None
    if device.type != "cuda" and not triton_level.INTERPRETED:
        raise UserError(f"kernels=True on {device}; expected cuda, or TRITON_INTERPRET=1 set before the start")
    return _Arithmetic(triton_level.run_level, triton_paint.paint)


class Half(Runtime):
    """The student with float16 products on a GPU: Triton kernels of a level each, in a CUDA graph a kind of frame.

    Phases, their sums, the planes between levels, warp and painting are float32. Poses may come from any device. The
    first frame of each kind (RGBA, BGRA, planes) compiles kernels and captures its graph, and the face has one of its own.

    Args:
        visible: pixels to compute, [512, 512]; True: find the tiles the character ever paints, exactly as the native
            runtime does (once a character, kept on disk); False or None: all of them.
        poses: poses to look at besides the sampled ones when finding the visible tiles.
        kernels: Triton kernels, or the same arithmetic in plain PyTorch; None: kernels where Triton imports. Given, the
            model may lie on a CPU, for tests: kernels then run in Triton's interpreter.

    Raises: UserError when the model is not on a CUDA device, or the kernels that were requested cannot run.
    """

    name = "half"

    def __init__(
        self,
        model: CharacterModel,
        crop: Region | tuple[int, ...] | None = None,
        reuse: bool = True,
        visible: Bool[np.ndarray, "512 512"] | bool | None = True,
        poses: Float[Tensor, "n 45"] | None = None,
        kernels: bool | None = None,
    ) -> None:
        super().__init__(model, crop, reuse)
        self.arithmetic = _choose_arithmetic(kernels, self.device)
        inside = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
        inside[self.crop.top : self.crop.bottom, self.crop.left : self.crop.right] = True
        if visible is None or visible is False:
            self.visible = inside
        else:
            self.visible = inside & (_find_visible(model, poses) if visible is True else visible)
        self._graphs: dict[str, tuple[torch.cuda.CUDAGraph, StudentOutput | None]] = {}
        # What is written every frame must not be of inference mode: a frame may be asked for outside it.
        with torch.inference_mode(False), torch.no_grad():
            self._lay_out(model)

    def _lay_out(self, model: CharacterModel) -> None:
        """Packs the levels and makes every buffer of a frame: graphs hold their addresses."""
        face, stages = build_stages(model, self.visible)
        masks = [self.visible]
        for _ in stages[1:]:
            masks.insert(0, read_by_doubling(masks[0]))
        self.levels = [pack_level(stage, mask) for stage, mask in zip(stages, masks, strict=True)]
        image_rows = np.arange(IMAGE_SIZE * IMAGE_SIZE, dtype=np.int32).reshape(IMAGE_SIZE, IMAGE_SIZE)
        top, bottom, left, right = STUDENT_FACE_REGION
        face_rows = np.ascontiguousarray(image_rows[top:bottom, left:right])
        self.face = pack_level(face, np.ones((FACE_SIZE, FACE_SIZE), bool), face_rows)
        self.by_pose = torch.cat([level.by_pose for level in self.levels])
        self.bias = torch.cat([level.bias for level in self.levels])

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        widths = [*(level.widths[-1] for level in self.levels[:-1]), _ROW]
        self.planes = [zeros(level.size**2, width) for level, width in zip(self.levels, widths, strict=True)]
        self.pose = zeros(1, POSE_SIZE)
        self._given = torch.zeros(0)  # poses are checked and compared with the last ones on the CPU
        self.character = zeros(IMAGE_SIZE * IMAGE_SIZE, 4)
        self.character.copy_(model.image.detach().flatten(1).T)
        self.table = srgb_table().to(self.device)
        pixels = self.levels[-1].pixels
        top, bottom, left, right = self.crop
        self.shown = ((pixels // IMAGE_SIZE - top) * (right - left) + pixels % IMAGE_SIZE - left).int()
        self.rgba = zeros((bottom - top) * (right - left), 4, dtype=torch.uint8)
        self.flat = torch.from_numpy(np.flatnonzero(self.visible)).to(self.device)

    def _planes(self, pose: Tensor) -> StudentOutput:
        frames = []
        for one in pose.split(1):
            frame = self._run(one, "planes", self._draw_planes)
            assert frame is not None
            frames.append([plane.clone() for plane in frame])
        return StudentOutput(*(torch.cat(planes) for planes in zip(*frames, strict=True)))

    def _pixels(self, pose: Tensor, bgra: bool) -> UInt8[np.ndarray, "h w 4"]:
        self._run(pose, "bgra" if bgra else "rgba", lambda: self._draw_pixels(bgra))
        top, bottom, left, right = self.crop
        # Memory the GPU writes to directly; PyTorch keeps and hands it out again once the frame is let go.
        frame = torch.empty(self.rgba.shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        frame.copy_(self.rgba, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return frame.numpy().reshape(bottom - top, right - left, 4)

    def _run(self, pose: Tensor, kind: str, draw: Callable[[], StudentOutput | None]) -> StudentOutput | None:
        """Draws a frame of one pose, the face only if its values changed; the result lies in the buffers."""
        with torch.inference_mode(False), torch.no_grad():
            self.pose.copy_(pose)
            facial = pose[:, :FACIAL_SIZE]
            if self._kept("face", facial) is None:
                self._play("face", self._draw_face)
                self._keep("face", facial, True)
            return self._play(kind, draw)

    def _play(self, kind: str, draw: Callable[[], StudentOutput | None]) -> StudentOutput | None:
        if self.device.type != "cuda":
            return draw()
        with torch.cuda.device(self.device):
            if kind not in self._graphs:
                self._graphs[kind] = _capture(draw)
            graph, result = self._graphs[kind]
            graph.replay()
        return result

    def _draw_face(self) -> None:
        """Into the character image, where it belongs."""
        shift = torch.addmv(self.face.bias, self.face.by_pose, self.pose[0, :FACIAL_SIZE])
        self.arithmetic.run_level(self.face, shift, None, self.character)

    def _draw_body(self) -> None:
        """Into the last plane: grid change 2, alpha 1, colour change 4 per row."""
        shifts = torch.addmv(self.bias, self.by_pose, self.pose[0]).split([level.widths[0] for level in self.levels])
        below = None
        for level, shift, plane in zip(self.levels, shifts, self.planes, strict=True):
            self.arithmetic.run_level(level, shift, below, plane)
            below = plane

    def _draw_pixels(self, bgra: bool) -> None:
        self._draw_body()
        pixels = self.levels[-1].pixels
        self.arithmetic.paint(self.planes[-1], self.character, pixels, self.shown, self.rgba, self.table, bgra)

    def _draw_planes(self) -> StudentOutput:
        self._draw_body()
        channels = self.planes[-1][self.flat, :7]
        warped, posed = sample_character(self.character, channels, self.flat.int())
        image = self.character.T.reshape(1, 4, IMAGE_SIZE, IMAGE_SIZE)
        return StudentOutput(
            posed=self._scatter(posed, -1.0),
            warped=self._scatter(warped, -1.0),
            grid_change=self._scatter(channels[:, :2], 0.0),
            color_change=self._scatter(channels[:, 3:], -1.0),
            alpha=self._scatter(channels[:, 2:3], 0.0),
            face=STUDENT_FACE_REGION.crop(image).contiguous(),
        )

    def _scatter(self, values: Float[Tensor, "p c"], elsewhere: float) -> Float[Tensor, "1 c 512 512"]:
        plane = values.new_full((values.shape[1], IMAGE_SIZE * IMAGE_SIZE), elsewhere)
        plane[:, self.flat] = values.T
        return plane.reshape(1, -1, IMAGE_SIZE, IMAGE_SIZE)


def _capture(draw: Callable[[], StudentOutput | None]) -> tuple[torch.cuda.CUDAGraph, StudentOutput | None]:
    """A graph of what ``draw`` launches, and the buffers it names, which every replay fills again."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            draw()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
        result = draw()
    return graph, result


def _find_visible(model: CharacterModel, poses: Float[Tensor, "n 45"] | None) -> Bool[np.ndarray, "512 512"]:
    """The tiles of the native runtime's choice, from exact frames on the model's device."""

    def begin() -> Callable[[np.ndarray], np.ndarray]:
        exact = Folded(model, reuse=False)
        return lambda pose: exact(torch.from_numpy(pose)[None].to(exact.device)).posed[0].cpu().numpy()

    return find_visible(model, True, poses, begin)
