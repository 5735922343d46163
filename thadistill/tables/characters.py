"""Which of the sample characters the software knows: what was tuned on them, what learned from them, and what saw none."""

from __future__ import annotations

from thadistill.assets import SAMPLE_CHARACTERS

TUNED = ("lambda_00", "crypko_00", "crypko_03")  # recipes and sizes were chosen by trials on these
# for final tables only: neither chosen by nor learned from, nor their mirror images
UNTOUCHED = ("crypko_06", "crypko_07")
LEARNED_FROM = tuple(name for name in SAMPLE_CHARACTERS if name not in (*TUNED, *UNTOUCHED))  # by the pretrained inits


def known_by(character: str) -> str:
    """What has seen a character: ``tuning``, ``init``, or ``nothing``."""
    if character in TUNED:
        return "tuning"
    return "init" if character in LEARNED_FROM else "nothing"
