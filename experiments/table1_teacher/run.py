"""Table 1: PSNR, SSIM and LPIPS of teachers against ground truth, and of showing the image unmoved.

    python experiments/table1_teacher/run.py --triples FOLDER --teacher tha3 --teacher tha4=WEIGHTS --body-morpher FOLDER

Without --triples, the puppets of even seeds are rendered: test characters of every training on puppets. A teacher is
given each triple's image, whose face is posed already, and the pose's rotation and breathing alone. Writes results.csv
and table.md next to itself.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thadistill.config import compose
from thadistill.data.triples import FolderTriples, shrink, stack, write_puppet_triples
from thadistill.files import cache_folder, write_csv, write_text
from thadistill.metrics.image import psnr, psnr_display, ssim
from thadistill.metrics.perceptual import Unavailable, load_lpips
from thadistill.pipeline.report import environment
from thadistill.pipeline.teacher import build_module, load_one
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher import load_teacher

HERE = Path(__file__).parent
Posed = Callable[[Tensor, Tensor], Tensor]


def identity(image: Tensor, pose: Tensor) -> Tensor:
    return image


def whole_teacher(text: str) -> Posed:
    """``tha3``, ``tha3=FOLDER`` or ``tha4=FOLDER``: all five networks at 512."""
    name, _, weights = text.partition("=")
    teacher = load_teacher(name, weights=weights or None)

    def posed(image: Tensor, pose: Tensor) -> Tensor:
        rotation = torch.zeros_like(pose)
        rotation[:, POSE_PARAMETERS.rotation] = pose[:, POSE_PARAMETERS.rotation]
        return teacher(image, rotation).posed

    return posed


def body_morpher(folder: Path, stage: str) -> tuple[Posed, int]:
    """A body morpher that ``thadistill train module=teacher`` left, and the size it works at."""
    config = compose("train", ["module=teacher", f"stage={stage}", "out=unused"])
    module = build_module(config)
    load_one(config.stage.name, module.network, folder)
    module.eval()
    return lambda image, pose: module(image, pose).merged, int(config.stage.size)


def judge(name: str, posed: Posed, triples: FolderTriples, size: int, count: int) -> dict[str, object]:
    """A row: means of per-image values at ``size`` pixels."""
    lpips = load_lpips()
    figures: dict[str, list[float]] = {"psnr": [], "psnr_display": [], "ssim": [], "lpips": []}
    begun = time.perf_counter()
    count = min(count, len(triples))
    for index in range(count):
        image, pose, truth = stack([triples[index * len(triples) // count]])
        image, truth = shrink(image, size), shrink(truth, size)
        with torch.inference_mode():
            found = posed(image, pose)
        for metric, function in (("psnr", psnr), ("psnr_display", psnr_display), ("ssim", ssim)):
            figures[metric].append(float(function(found, truth)))
        if not isinstance(lpips, Unavailable):
            figures["lpips"].append(float(lpips(found, truth)))
    means = {metric: round(float(np.mean(values)), 4) if values else "" for metric, values in figures.items()}
    reason = lpips.reason.split(",")[0] if isinstance(lpips, Unavailable) else ""
    reason = reason.replace(str(torch.hub.get_dir()), "TORCH_HOME/hub")
    minutes = round((time.perf_counter() - begun) / 60, 2)
    return {"teacher": name, "size": size, "n": count, **means, "lpips_reason": reason, "minutes": minutes}


def markdown(rows: list[dict[str, object]]) -> str:
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triples", type=Path, help="a folder of triples, 512 pixels wide for whole teachers")
    parser.add_argument("--characters", type=int, default=4, help="puppets rendered where no triples are given")
    parser.add_argument("--poses", type=int, default=2, help="of each")
    parser.add_argument("--count", type=int, default=100, help="triples judged, at most")
    parser.add_argument("--teacher", action="append", default=[], help="tha3, tha3=FOLDER, tha4=FOLDER; repeatable")
    parser.add_argument("--body-morpher", type=Path, help="a folder with a trained body_morpher.pt")
    parser.add_argument("--stage", default="small", help="its sizes, of conf/stage")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.triples is None:
        place = cache_folder() / "triples" / "puppet-512"
        names = [write_puppet_triples(place, 2 * index, given.poses, 512) for index in range(given.characters)]
        triples, source = FolderTriples(place, 512, names), f"{given.characters} puppets of even seeds"
    else:
        triples, source = FolderTriples(given.triples, 512), given.triples.name
    rows = [judge("identity", identity, triples, 512, given.count)]
    rows += [judge(text.partition("=")[0], whole_teacher(text), triples, 512, given.count) for text in given.teacher]
    if given.body_morpher is not None:
        posed, size = body_morpher(given.body_morpher, given.stage)
        rows.append(judge("identity", identity, triples, size, given.count))
        rows.append(judge(f"body morpher, stage={given.stage}", posed, triples, size, given.count))
    write_csv(HERE / "results.csv", rows)
    with (HERE / "paper.csv").open(newline="") as file:
        paper: list[dict[str, object]] = [dict(row) for row in csv.DictReader(file)]
    made = environment()
    text = [
        "# Table 1: teachers against ground truth",
        f"Generated by run.py on triples of {source}; means of per-image values. `psnr`: network space, four channels; "
        "`psnr_display`, `ssim`, `lpips`: sRGB on white. `identity` shows the image unmoved.",
        markdown(rows),
        "The paper's, on 10,000 test examples of its own 3D models, which are not public: other pictures, so the figures "
        "compare teachers within a table, not across the two.",
        markdown(paper),
        f"{made['hardware']}, torch {made['torch']}, commit {made['commit']}.\n",
    ]
    write_text(HERE / "table.md", "\n\n".join(text))
    print(rows[-1])


if __name__ == "__main__":
    main()
