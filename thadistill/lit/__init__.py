"""LightningModules: what is trained, with which losses and optimisers."""

from thadistill.lit.body_rotator import BodyRotatorModule
from thadistill.lit.face_morpher import FaceMorpherModule

__all__ = ["BodyRotatorModule", "FaceMorpherModule"]
