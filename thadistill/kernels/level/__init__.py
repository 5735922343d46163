"""Level: the sine layers of one SIREN level at chosen pixels."""

from thadistill.kernels.level.op import LevelKernels, sine_level
from thadistill.kernels.level.reference import Doubling, LayerWeights

__all__ = ["Doubling", "LayerWeights", "LevelKernels", "sine_level"]
