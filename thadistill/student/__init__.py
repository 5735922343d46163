"""The student: face morpher and body rotator, together one character's model."""

from thadistill.student.body_rotator import BodyRotator, Posed, RotatorOutput
from thadistill.student.character_model import CharacterModel
from thadistill.student.face_morpher import FaceMorpher

__all__ = ["BodyRotator", "CharacterModel", "FaceMorpher", "Posed", "RotatorOutput"]
