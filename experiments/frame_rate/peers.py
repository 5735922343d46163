"""Peers: a student in other people's engines, timed next to our runtimes; none of them is a runtime of the package.

``compile`` is torch.compile of the network as published, ``openvino`` and ``ncnn`` run the graph of
``thadistill export format=onnx``, up to its planes.
Each computes every pixel in float32.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from thadistill.outputs import StudentOutput
from thadistill.runtime import Runtime
from thadistill.runtime.onnx_graph import build_graph
from thadistill.student import CharacterModel

PLANES = ("posed", "warped", "grid_change", "color_change", "alpha", "face")
PACKAGES = {"compile": ("torch",), "openvino": ("openvino", "onnx"), "ncnn": ("ncnn", "pnnx", "onnx")}


class TorchCompile(Runtime):
    """torch.compile's default mode; builds for a minute at the first frame."""

    name = "compile"

    def __init__(self, model: CharacterModel) -> None:
        super().__init__(model, reuse=False)
        self.compiled = torch.compile(model)

    def _planes(self, pose: Tensor) -> StudentOutput:
        return StudentOutput(*self.compiled(pose))


class OpenVino(Runtime):
    """OpenVINO on the CPU, float32, its latency mode, as many threads as PyTorch has."""

    name = "openvino"

    def __init__(self, model: CharacterModel) -> None:
        super().__init__(model, reuse=False)
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        graph = core.read_model(build_graph(model, PLANES).SerializeToString())
        self.request = core.compile_model(graph, "CPU", options).create_infer_request()

    def _planes(self, pose: Tensor) -> StudentOutput:
        found = self.request.infer({"pose": pose.numpy()})
        return StudentOutput(**{name: torch.from_numpy(found[name].copy()) for name in PLANES})


class Ncnn(Runtime):
    """ncnn, from the same graph by its converter pnnx, weights and sums in float32."""

    name = "ncnn"

    def __init__(self, model: CharacterModel) -> None:
        super().__init__(model, reuse=False)
        import ncnn
        import pnnx

        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "student.onnx"
            graph.write_bytes(build_graph(model, PLANES).SerializeToString())
            converter = Path(pnnx.EXEC_PATH)
            subprocess.run(
                [str(converter), graph.name, "inputshape=[1,45]", "fp16=0"], cwd=folder, check=True, capture_output=True
            )
            self.net = ncnn.Net()
            self.net.opt.num_threads = torch.get_num_threads()
            for half in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
                setattr(self.net.opt, half, False)
            self.net.load_param(str(graph.with_suffix(".ncnn.param")))
            self.net.load_model(str(graph.with_suffix(".ncnn.bin")))
        self.matrix = ncnn.Mat

    def _planes(self, pose: Tensor) -> StudentOutput:
        extractor = self.net.create_extractor()
        extractor.input("in0", self.matrix(pose.numpy(), batch_index=0).clone())
        # in the order of the graph's outputs
        planes = [torch.from_numpy(extractor.extract(f"out{i}")[1].numpy(batch_index=0)) for i in range(len(PLANES))]
        return StudentOutput(**dict(zip(PLANES, planes, strict=True)))


PEERS: dict[str, Callable[[CharacterModel], Runtime]] = {"compile": TorchCompile, "openvino": OpenVino, "ncnn": Ncnn}
