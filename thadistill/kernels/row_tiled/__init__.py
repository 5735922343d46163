"""Row tiles: the C++ kernels of the tiled CPU executor (:mod:`thadistill.teacher.row_tiled`)."""

from thadistill.kernels.row_tiled.feature import Feature
from thadistill.kernels.row_tiled.op import RowTiledKernels, row_tiled_kernels

__all__ = ["Feature", "RowTiledKernels", "row_tiled_kernels"]
