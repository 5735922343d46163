"""Drive: from what a tracker sees to the pose that moves a character."""

from thadistill.drive.animate import frames, side_by_side, write_frames
from thadistill.drive.blendshapes import BLENDSHAPES, BlendshapeMapper, breathing
from thadistill.drive.live import drive
from thadistill.drive.player import Player
from thadistill.drive.sinks import SINKS, Sink, SinkOptions, open_sink
from thadistill.drive.sources import SOURCES, Source, SourceOptions, TimedPose, open_source
from thadistill.drive.track import Track, read_track
from thadistill.drive.video import open_video

__all__ = [
    "BLENDSHAPES",
    "SINKS",
    "SOURCES",
    "BlendshapeMapper",
    "Player",
    "Sink",
    "SinkOptions",
    "Source",
    "SourceOptions",
    "TimedPose",
    "Track",
    "breathing",
    "drive",
    "frames",
    "open_sink",
    "open_source",
    "open_video",
    "read_track",
    "side_by_side",
    "write_frames",
]
