"""Design: what one puppet looks like, drawn from its seed."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thadistill.puppet.brush import Colour, Number, mix

BANGS = ("blunt", "parted", "swept", "curtain", "spiky")
BACKS = ("bob", "long", "wavy", "twintails", "ponytail", "short", "tousled")
OUTFITS = ("sailor", "hoodie", "blazer", "dress", "sweater")
ACCESSORIES = ("none", "clip", "bow", "flower", "headband")

_SKINS = "ffe9dc ffe4d3 fddcc6 f6cfb2 e8b791 c58c64 9c6744"
_HAIRS = (
    "4a3a40 6d4a3c 96603f c98d4e f0cd74 f3e3b4 dcdde6 b9b4c8 f4a9bd d983b6 a98ad4 7c8fd9 6fb3e0 5fc4bf 7cc48a c8d26a "
    "f0965a d9604f a8394a 3f4a73 36363f"
)
_EYES = "8a5a33 c98a2e e0b13a 4f9a5b 2fa39a 3f8fd6 4b63c9 8a5cc4 c9538f c94444 6b7686"
_CLOTHES = "34466f 5a76b8 7fb4d9 3f8f8a 6aa56b d9b24a d9793f c9494f d9809f 9a6fb5 4a4652 8b8f9b b58b6a 7a3f4d"


def _colour(code: str) -> Colour:
    return (int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255)


@dataclass(frozen=True)
class Design:
    """Colours (sRGB), styles and proportions of one character. Lengths are pixels of the 512x512 image."""

    seed: int
    skin: Colour
    skin_shadow: Colour
    hair: Colour
    iris: Colour
    cloth: Colour
    trim: Colour
    shirt: Colour
    bangs: str
    back: str
    outfit: str
    accessory: str
    ahoge: bool
    stockings: bool
    trousers: bool  # instead of a skirt, where the outfit allows it
    lashes: float  # thickness, 1 = full
    fringe: float  # how far the bangs reach down, y
    parting: float  # x of the parting, from the middle line
    side_lock: float  # y where the locks before the ears end
    back_length: float  # y where long back hair ends
    jaw: float  # half width of the face at the cheeks
    chin: float  # y
    cheek: float  # 0 = pointed chin, 1 = round
    shoulder: float  # half width
    eye_x: float  # from the middle line
    eye_y: float
    eye_width: float  # half
    eye_height: float  # from the middle to the upper lid
    eye_tilt: float  # > 0: the outer corner is lower
    iris_size: float
    brow_y: float
    brow_tilt: float
    brow_width: float
    mouth_y: float

    @classmethod
    def from_seed(cls, seed: int) -> Design:
        """The character of a seed: the same seed always gives the same one."""
        rng = np.random.default_rng([seed, 0x7075])

        def pick(options: Sequence[str], weights: Sequence[Number] | None = None) -> str:
            chances = None if weights is None else np.array(weights) / sum(weights)
            return options[int(rng.choice(len(options), p=chances))]

        def between(low: Number, high: Number) -> float:
            return float(rng.uniform(low, high))

        def varied(code: str, amount: float = 0.03) -> Colour:
            h, s, v = colorsys.rgb_to_hsv(*_colour(code))
            moved = (h + between(-amount, amount)) % 1, s * between(0.88, 1.08), v * between(0.95, 1.03)
            return colorsys.hsv_to_rgb(moved[0], min(moved[1], 1.0), min(moved[2], 1.0))

        back = pick(BACKS, (3, 3, 2, 2, 2, 2, 4))
        tomboy = back == "tousled"
        skin = varied(pick(_SKINS.split(), (3, 4, 4, 3, 2, 1, 1)), 0.006)
        eye_y = between(147, 150)
        chin = between(188.5, 192)
        return cls(
            seed=seed,
            skin=skin,
            skin_shadow=mix(skin, (skin[0] * 0.95, skin[1] * 0.76, skin[2] * 0.74), 0.85),
            hair=varied(pick(_HAIRS.split())),
            iris=varied(pick(_EYES.split())),
            cloth=varied(pick(_CLOTHES.split())),
            trim=varied(pick(_CLOTHES.split())),
            shirt=mix((0.97, 0.97, 0.98), varied(pick(_CLOTHES.split())), between(0, 0.12)),
            bangs=pick(BANGS),
            back=back,
            outfit=pick(OUTFITS, (0, 3, 3, 0, 3) if tomboy else (3, 2, 2, 3, 2)),
            accessory=pick(ACCESSORIES, (6, 1, 0, 0, 0) if tomboy else (3, 2, 2, 1.5, 1.5)),
            ahoge=bool(rng.random() < 0.45),
            stockings=bool(rng.random() < 0.5),
            trousers=bool(rng.random() < (0.85 if tomboy else 0.2)),
            lashes=between(0.55, 0.75) if tomboy else between(0.85, 1.15),
            fringe=between(118, 126),
            parting=between(-16, 16),
            side_lock=between(164, 176) if tomboy else between(170, 214),
            back_length=between(280, 345),
            jaw=between(39.0, 41.5),
            chin=chin,
            cheek=between(0, 1),
            shoulder=between(47, 53),
            eye_x=between(20, 21.8),
            eye_y=eye_y,
            eye_width=between(12.2, 13.8),
            eye_height=between(10.2, 13.2),
            eye_tilt=between(-2.2, 2.2),
            iris_size=between(0.92, 1.08),
            brow_y=between(128, 131),
            brow_tilt=between(-1.5, 1.5),
            brow_width=between(1.7, 3.0),
            mouth_y=between(173, 175.5),
        )
