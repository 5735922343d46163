"""Table 5: students against their teacher, on several characters.

    python experiments/table5_student_quality/run.py [scale=full|cpu|small|smoke] [rows=NAME,NAME] [KEY=VALUE ...]

Distils each (conf/experiment/table5_student_quality.yaml), with targets made before the budget begins (scale=cpu) or within
it, and writes results.csv and table.md next to itself. The same command continues.
"""

from __future__ import annotations

from pathlib import Path

from thadistill.tables import Claim, Command, Paper, Row, distilled_row, make_rows, read_command, run_table, write_table
from thadistill.tables.characters import TUNED, UNTOUCHED, known_by

HERE = Path(__file__).parent
CHARACTERS = {name: f"character={name}" for name in (*TUNED, *UNTOUCHED)}
SEEDS = {"cpu": {TUNED[0]: 3}}  # the claims are about all characters: the spread of one serves for all
PUPPETS = {f"puppet_{seed}": f"teacher.seed={seed}" for seed in (0, 1)}
COLUMNS = [
    *("psnr", "psnr_display", "ssim", "stlpips", "lpips", "face_psnr", "eye_mouth_psnr", "flow_epe_px"),
    *("psnr_teacher_face", "psnr_unmoved", "n", "poses", "budget_minutes", "minutes", "recipe", "teacher"),
    *("seed", "known by"),
]
CLAIMS = [
    Claim(
        "All are as good as the paper's best, 36.2 dB",
        lambda rows: min(rows[name]["psnr"] for name in CHARACTERS) - 36.156,
        "psnr",
    ),
    Claim(
        "The worst character is within 2.5 dB of the best (1.6 in the paper)",
        lambda rows: (
            2.5 - max(rows[name]["psnr"] for name in CHARACTERS) + min(rows[name]["psnr"] for name in CHARACTERS)
        ),
        "psnr",
    ),
]


def row(command: Command, name: str, seed: int | None) -> Row:
    if command.scale == "smoke":
        return distilled_row(*command.composed("distill", name, [PUPPETS[name]], seed))
    config, out = command.composed("distill", name, [CHARACTERS[name]], seed)
    return {
        **distilled_row(config, out, targets_first=command.scale == "cpu"),
        "known by": known_by(name, pretrained=config.init is not None),
    }


def main() -> None:
    command = read_command(HERE, __doc__)
    names = PUPPETS if command.scale == "smoke" else CHARACTERS
    rows = make_rows(HERE / "results.csv", command.scale, command.runs(names, row, SEEDS.get(command.scale)))
    write_table(
        HERE / "table.md",
        "Table 5: students against their teacher",
        "Means over `n` evaluation poses: `psnr` in network space, `psnr_display` and `ssim` in sRGB on white, "
        "`flow_epe_px` in pixels; `psnr_teacher_face`: the rotator alone, `psnr_unmoved`: the posed face on an unmoved "
        "body. `poses`: targets that the rotator trained on; `minutes`: all that the budget counts, which at `scale=cpu` "
        "targets are not part of. `known by`: what has seen the character: the pretrained init learned from it, or the "
        "recipe was tuned on it.",
        Paper(
            HERE / "paper.csv",
            "Why figures differ: the paper's teacher is THA4, ours THA3; its three characters are not published with its "
            "figures, so rows do not correspond; it trains for about 30 GPU-hours a character on 500,000 poses and does "
            "not state its colour space. `scale=cpu` takes `budget_minutes` on a CPU besides the targets, which are made "
            "before; `scale=small` with them.",
        ),
        rows,
        COLUMNS,
        CLAIMS,
    )


if __name__ == "__main__":
    run_table(main)
