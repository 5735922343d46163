"""Table 5: students against their teacher on three characters.

    python experiments/table5_student_quality/run.py [scale=full|small|smoke] [rows=NAME,NAME] [KEY=VALUE ...]

Distils each (conf/experiment/table5_student_quality.yaml), targets included in the budget, and writes results.csv and
table.md next to itself. The same command continues.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from thadistill.tables import Claim, Command, Paper, Row, distilled_row, make_rows, read_command, run_table, write_table

HERE = Path(__file__).parent
CHARACTERS = {name: f"character={name}" for name in ("lambda_00", "crypko_00", "crypko_03")}
PUPPETS = {f"puppet_{seed}": f"teacher.seed={seed}" for seed in (0, 1)}
COLUMNS = [
    *("psnr", "psnr_display", "ssim", "stlpips", "lpips", "face_psnr", "eye_mouth_psnr", "flow_epe_px"),
    *("psnr_teacher_face", "psnr_unmoved", "n", "poses", "budget_minutes", "minutes", "recipe", "teacher"),
    "seed",
]
CLAIMS = [
    Claim(
        "The worst character is within 2 dB of the best (1.6 in the paper)",
        lambda rows: (
            max(rows[name]["psnr"] for name in CHARACTERS) - min(rows[name]["psnr"] for name in CHARACTERS) < 2
        ),
    ),
]


def row(command: Command, name: str) -> Row:
    override = PUPPETS[name] if command.scale == "smoke" else CHARACTERS[name]
    return distilled_row(*command.composed("distill", name, [override]))


def main() -> None:
    command = read_command(HERE, __doc__)
    names = PUPPETS if command.scale == "smoke" else CHARACTERS
    rows = make_rows(
        HERE / "results.csv", command.scale, command.chosen({name: partial(row, command, name) for name in names})
    )
    write_table(
        HERE / "table.md",
        "Table 5: students against their teacher",
        "Means over `n` held-out poses: `psnr` in network space, `psnr_display` and `ssim` in sRGB on white, `flow_epe_px` "
        "in pixels; `psnr_teacher_face`: the rotator alone, `psnr_unmoved`: the posed face on an unmoved body. `poses`: "
        "targets that the rotator trained on; `minutes`: all of it, targets included.",
        Paper(
            HERE / "paper.csv",
            "Why figures differ: the paper's teacher is THA4, ours THA3; its three characters are not published with its "
            "figures, so rows do not correspond; it trains for about 30 GPU-hours a character on 500,000 poses and does "
            "not state its colour space, `scale=small` takes `budget_minutes` on a CPU.",
        ),
        rows,
        COLUMNS,
        CLAIMS,
    )


if __name__ == "__main__":
    run_table(main)
