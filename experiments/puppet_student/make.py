"""Puppet student: distils the student that ``thadistill serve`` shows without a model, and puts it into the package.

    python experiments/puppet_student/make.py [--minutes 12] [--seed 30]

The records (report.md, metrics.json, preview.png) are those of ``thadistill distill``, which an interrupted run continues.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from thadistill.export.web import Exported
from thadistill.student import CharacterModel

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SHIPPED = ROOT / "thadistill" / "serve" / "puppet.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=30, help="which puppet is drawn")
    given = parser.parse_args()
    out = HERE / "outputs"
    which = ["teacher=puppet", "character=puppet", f"teacher.seed={given.seed}", "student=slim"]
    command = ["distill", *which, f"budget_minutes={given.minutes:g}", f"out={out.relative_to(ROOT)}"]
    subprocess.run([sys.executable, "-m", "thadistill.cli", *command], check=True, cwd=ROOT)
    for name in ("report.md", "metrics.json", "preview.png"):
        shutil.copyfile(out / name, HERE / name)
    # packed: which pixels it paints is known then, and the page has it at once
    SHIPPED.write_bytes(Exported("puppet", CharacterModel.load(out / "character_model")).pack())


if __name__ == "__main__":
    main()
