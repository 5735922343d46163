"""Engine: how a convolutional teacher network runs its blocks, plainly or, on a CPU, row-tiled.

A network says once what its body does, in an engine's words (enter, block, residual, leave); it then runs module by
module on any device, in any precision and with gradients, or by ``RowTiledEngine`` where that is possible and faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.teacher.blocks import TeacherNetwork, precision_of, widen
from thadistill.teacher.row_tiled import RowTiledEngine
from thadistill.teacher.workspace import Threads, Workspace


class ModuleEngine:
    """Runs blocks as the modules they are, on a batch."""

    def __init__(self, precision: torch.dtype) -> None:
        self._precision = precision

    def enter(self, *planes: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n c h w"]:
        """The planes, joined, in the network's precision."""
        return torch.cat([part.to(self._precision) for part in planes], dim=1)

    def leave(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The feature as an ordinary tensor."""
        return x

    def block(self, block: nn.Module, x: Tensor, *, doubled: bool = False, skip: Tensor | None = None) -> Tensor:
        """A block: of ``x``, or of ``x`` doubled in size (nearest) with the channels of ``skip`` joined."""
        if doubled:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return block(x if skip is None else torch.cat([x, skip], dim=1))

    def residual(self, block: nn.Module, x: Tensor) -> Tensor:
        """A resnet block."""
        return block(x)

    def heads(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The output convolutions."""
        return F.conv2d(x, weight, bias, padding=1)


@runtime_checkable
class Engine(Protocol):
    """The words that a network's body is said in; what passes between them is the engine's own."""

    def enter(self, *planes: Tensor) -> Any: ...
    def leave(self, x: Any) -> Tensor: ...
    def block(self, block: nn.Module, x: Any, *, doubled: bool = False, skip: Any = None) -> Any: ...
    def residual(self, block: nn.Module, x: Any) -> Any: ...
    def heads(self, x: Any, weight: Tensor, bias: Tensor) -> Tensor: ...


Flow = Callable[..., Any]  # (engine, *inputs) -> the engine's feature


class BodyNetwork(TeacherNetwork):
    """A network whose body runs by an engine; ``row_tiled`` allows the fast one, with products in precision ``products``."""

    products: torch.dtype = torch.float32

    def __init__(self, *, separable: bool) -> None:
        super().__init__()
        self.row_tiled = separable
        self.workspace = Workspace()

    def run_body(self, flow: Flow, *inputs: Float[Tensor, "n _ _h _w"]) -> Float[Tensor, "n c h w"]:
        """The body's feature."""
        return self._run(lambda engine, *planes: engine.leave(flow(engine, *planes)), inputs)

    def run_heads(
        self, flow: Flow, heads: Sequence[nn.Module], *inputs: Float[Tensor, "n _ _h _w"]
    ) -> list[Float[Tensor, "n _ h w"]]:
        """Each head's output, in at least float32; one convolution for all, since they read the same feature."""
        weights, biases = [], []
        for part in heads:
            convolution = part[0] if isinstance(part, nn.Sequential) else part
            assert isinstance(convolution, nn.Conv2d)
            weights.append(convolution.weight)
            biases.append(
                convolution.weight.new_zeros(len(convolution.weight)) if convolution.bias is None else convolution.bias
            )
        weight, bias = torch.cat(weights), torch.cat(biases)
        joined = self._run(lambda engine, *planes: engine.heads(flow(engine, *planes), weight, bias), inputs)
        pieces = widen(joined).split([len(weight) for weight in weights], dim=1)
        return [
            part[1](piece) if isinstance(part, nn.Sequential) else piece
            for part, piece in zip(heads, pieces, strict=True)
        ]

    def _run(self, flow: Flow, inputs: tuple[Tensor, ...]) -> Tensor:
        if not self._can_tile(inputs):
            with self.precision_scope(inputs[0].device):
                return flow(ModuleEngine(precision_of(self)), *inputs)
        n = len(inputs[0])
        weights: dict[nn.Module, object] = {}
        if torch.get_num_threads() == 1:
            return torch.cat([self._run_tiled(flow, inputs, i, weights) for i in range(n)])
        with Threads() as threads:
            if n >= threads.count:  # an image a thread: they need not wait for one another at all
                results = threads.run(lambda i: self._run_tiled(flow, inputs, i, weights), [(i,) for i in range(n)])
            else:
                results = [self._run_tiled(flow, inputs, i, weights, threads) for i in range(n)]
        return torch.cat(results)

    def _run_tiled(
        self,
        flow: Flow,
        inputs: tuple[Tensor, ...],
        i: int,
        weights: dict[nn.Module, object],
        threads: Threads | None = None,
    ) -> Tensor:
        engine = RowTiledEngine(self.workspace, threads, self.products, weights)
        try:
            return flow(engine, *(planes[i : i + 1] for planes in inputs))
        finally:
            engine.close()

    def _can_tile(self, inputs: tuple[Tensor, ...]) -> bool:
        if not self.row_tiled or self.autocast or torch.is_autocast_enabled("cpu"):
            return False
        if precision_of(self) != torch.float32:
            return False
        if any(planes.device.type != "cpu" or planes.dtype != torch.float32 for planes in inputs):
            return False
        needs_gradients = any(tensor.requires_grad for tensor in (*inputs, *self.parameters()))
        return not (torch.is_grad_enabled() and needs_gradients)


def planes_of(pose: Float[Tensor, "n p"], height: int, width: int) -> Float[Tensor, "n p {height} {width}"]:
    """Each pose value as a constant plane (a view)."""
    return pose[:, :, None, None].expand(-1, -1, height, width)
