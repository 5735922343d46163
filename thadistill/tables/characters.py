"""Which of the sample characters the software knows: what was tuned on them, and what learned from them."""

from __future__ import annotations

from thadistill.assets import SAMPLE_CHARACTERS

TUNED = ("lambda_00", "crypko_00", "crypko_03")  # recipes and sizes were chosen by trials on these
UNTOUCHED = (
    "crypko_06",
    "crypko_07",
)  # for final tables only: no trial, and no init from now on, nor their mirror images
TO_LEARN_FROM = tuple(name for name in SAMPLE_CHARACTERS if name not in (*TUNED, *UNTOUCHED))  # by inits
# those in the package learned from the untouched ones too: a test holds this against experiments/warm_init's records
SHIPPED_INITS_KNOW = tuple(name for name in SAMPLE_CHARACTERS if name not in TUNED)


def known_by(character: str, pretrained: bool) -> str:
    """What has seen a character: ``tuning``, ``init`` (where a run begins with a pretrained one), or ``nothing``."""
    if character in TUNED:
        return "tuning"
    return "init" if pretrained and character in SHIPPED_INITS_KNOW else "nothing"
