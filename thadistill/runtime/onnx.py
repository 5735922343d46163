"""ONNX: frames by ONNX Runtime, from the graph that ``thadistill export format=onnx`` writes; the whole crop."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, Region
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE
from thadistill.runtime.base import Runtime
from thadistill.runtime.onnx_graph import build_graph, open_session
from thadistill.student import CharacterModel

_ELSEWHERE = {"posed": -1.0, "warped": -1.0, "grid_change": 0.0, "color_change": -1.0, "alpha": 0.0}


class OnnxStudent(Runtime):
    """Two sessions, the face morpher's and the rest's, so that a face is kept; CPU, exact to float32 rounding.

    Raises: UserError when onnx or onnxruntime is missing, or the model is not on the CPU.
    """

    name = "onnx"

    def __init__(self, model: CharacterModel, crop: Region | tuple[int, ...] | None = None, reuse: bool = True) -> None:
        super().__init__(model, crop, reuse)
        if self.device.type != "cpu":
            raise UserError(f"runtime onnx got a model on {self.device}; expected cpu: model.cpu() or another runtime")
        self._face_session = open_session(build_graph(model, ["face"]))
        self._session = open_session(build_graph(model, [*_ELSEWHERE], crop=self.crop, face_given=True))

    def _planes(self, pose: Tensor) -> StudentOutput:
        frames = [self._one(one) for one in pose.split(1)]
        return StudentOutput(*(torch.cat(planes) for planes in zip(*frames, strict=True)))

    def _one(self, pose: Float[Tensor, "1 45"]) -> StudentOutput:
        face = self._face(pose)
        given = {"pose": pose.float().numpy(), "face": face.numpy()}
        found = dict(zip(_ELSEWHERE, self._session.run([*_ELSEWHERE], given), strict=True))
        return StudentOutput(**{name: self._placed(found[name], _ELSEWHERE[name]) for name in _ELSEWHERE}, face=face)

    def _face(self, pose: Float[Tensor, "1 45"]) -> Float[Tensor, "1 4 128 128"]:
        kept = self._kept("face", pose[:, :FACIAL_SIZE])
        if isinstance(kept, Tensor):
            return kept
        painted = torch.from_numpy(self._face_session.run(["face"], {"pose": pose.float().numpy()})[0])
        return self._keep("face", pose[:, :FACIAL_SIZE], painted)

    def _placed(self, values: object, elsewhere: float) -> Float[Tensor, "1 c 512 512"]:
        """A plane of the crop within the whole image."""
        part = torch.as_tensor(values)
        return self.crop.paste(part.new_full((1, part.shape[1], IMAGE_SIZE, IMAGE_SIZE), elsewhere), part)
