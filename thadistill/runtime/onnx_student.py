"""ONNX: the folded student's networks as a graph for ONNX Runtime; warping and painting stay in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import Region
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.runtime.folded import Folded, Stage
from thadistill.student import CharacterModel

try:
    import onnx
    import onnxruntime
except ImportError as error:
    raise UserError(f"runtime onnx needs a package that is missing ({error}): pip install thadistill[export]") from None

_OPSET = 17


class _Graph:
    """Collects nodes and constants of one ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, tensor: Tensor) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(tensor.detach().cpu().contiguous().numpy(), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"value{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def stage(self, stage: Stage, pose: str, below: str | None) -> str:
        """Appends a stage; what it does is Stage.pixels for all its pixels at once."""
        shift = self.node("Gemm", pose, self.constant(stage.by_pose), self.constant(stage.bias), transB=1)
        phase = self.node("Add", self.constant(stage.position @ stage.by_position), shift)
        if below is not None:
            assert stage.near is not None
            for corner in range(4):
                part = self.node("Gather", below, self.constant(stage.near[:, corner]), axis=0)
                weight = self.constant(stage.weight[:, corner, None])
                phase = self.node("Add", phase, self.node("Mul", part, weight))
        x = self.node("Sin", phase)
        for matrix, bias in stage.hidden:
            x = self.node("Sin", self.node("Gemm", x, self.constant(matrix), self.constant(bias)))
        matrix, last_bias = stage.out
        operands = [self.constant(tensor) for tensor in (matrix, last_bias) if tensor is not None]
        return self.node("Gemm", x, *operands)

    def session(self, given: int, result: str) -> onnxruntime.InferenceSession:
        """A session from a pose of ``given`` values, [1, given], to ``result``."""
        real = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self.nodes,
            "student",
            [onnx.helper.make_tensor_value_info("pose", real, [1, given])],
            [onnx.helper.make_tensor_value_info(result, real, None)],
            self.constants,
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class OnnxStudent(Folded):
    """Folded, with its matrix products and sines in ONNX Runtime; CPU, exact to float32 rounding.

    Raises: UserError when onnx or onnxruntime is missing.
    """

    name = "onnx"

    def __init__(
        self,
        model: CharacterModel,
        crop: Region | tuple[int, ...] | None = None,
        reuse: bool = True,
        visible: Bool[np.ndarray, "512 512"] | None = None,
    ) -> None:
        super().__init__(model, crop, reuse, visible)
        if self.device.type != "cpu":
            raise UserError(f"runtime onnx got a model on {self.device}; expected cpu: model.cpu() or another runtime")
        graph = _Graph()
        self._face_session = graph.session(FACIAL_SIZE, graph.stage(self.face, "pose", None))
        graph, below = _Graph(), None
        for stage in self.levels:
            assert isinstance(stage, Stage)
            below = graph.stage(stage, "pose", below)
        assert below is not None
        self._body_session = graph.session(POSE_SIZE, below)

    def _channels(self, pose: Float[Tensor, "1 45"]) -> Float[Tensor, "p 7"]:
        return torch.from_numpy(self._body_session.run(None, {"pose": pose.float().numpy()})[0])

    def _face_channels(self, facial: Float[Tensor, "1 39"]) -> Float[Tensor, "p 4"]:
        return torch.from_numpy(self._face_session.run(None, {"pose": facial.float().contiguous().numpy()})[0])
