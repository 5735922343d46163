"""Drive: from what a tracker sees to the pose that moves a character."""

from thadistill.drive.animate import frames, side_by_side, write_frames
from thadistill.drive.blendshapes import BLENDSHAPES, BlendshapeMapper, breathing
from thadistill.drive.track import Track, read_track
from thadistill.drive.video import open_video

__all__ = [
    "BLENDSHAPES",
    "BlendshapeMapper",
    "Track",
    "breathing",
    "frames",
    "open_video",
    "read_track",
    "side_by_side",
    "write_frames",
]
