"""thadistill: distils Talking Head Anime teachers into one-character students that run in real time."""

__version__ = "0.1.0"
