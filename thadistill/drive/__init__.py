"""Drive: from what a tracker sees to the pose that moves a character."""

from thadistill.drive.blendshapes import BLENDSHAPES, BlendshapeMapper, breathing

__all__ = ["BLENDSHAPES", "BlendshapeMapper", "breathing"]
