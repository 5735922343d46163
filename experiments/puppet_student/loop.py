"""Loop: ten seconds of a pose track on the packaged puppet, teacher | student | their difference, as a small picture.

    python experiments/puppet_student/loop.py TRACK [--start 60]

Writes loop.webp next to itself: the README's moving picture. Any track of `thadistill animate` will do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from thadistill.drive.animate import side_by_side
from thadistill.drive.track import read_track
from thadistill.export.students import open_students, packaged_puppet
from thadistill.files import replacing
from thadistill.runtime import compile_model
from thadistill.teacher import load_teacher

HERE = Path(__file__).parent
SEED = 30  # of the packaged puppet, see README.md
FPS = 12
SIZE = (720, 240)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track", help="poses, as thadistill animate takes them; 20 a second where they do not say")
    parser.add_argument("--start", type=float, default=60, help="seconds into the track")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    first = round(FPS * given.start)
    poses = read_track(given.track, 20.0).at(FPS)[first : first + round(FPS * given.seconds)]
    student = open_students([str(packaged_puppet())])[0].model
    made = side_by_side(compile_model(student, "reduced"), load_teacher("puppet", seed=SEED), student.image, poses)
    pages = [Image.fromarray(frame).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS) for frame in made]
    with replacing(HERE / "loop.webp") as temporary:
        pages[0].save(
            temporary, "WEBP", save_all=True, append_images=pages[1:], duration=1000 / FPS, loop=0, quality=70, method=4
        )


if __name__ == "__main__":
    main()
