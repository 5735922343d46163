"""Table 1: PSNR, SSIM and LPIPS of teachers against ground truth, and of showing the image unmoved.

    python experiments/table1_teacher/run.py --teacher tha3 --teacher tha4=WEIGHTS --triples FOLDER
    python experiments/table1_teacher/run.py --teacher tha3 --trained BODY --trained UPSCALER --trained FACE

Without --triples, the puppets of even seeds are rendered: test characters of every training on puppets. A whole teacher is
given each triple's image, whose face is posed already, and the pose's rotation and breathing alone; a network that
``thadistill train module=teacher`` left in a folder is judged on the test triples of its own configuration. Writes
results.csv and table.md next to itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from thadistill.data.triples import FolderTriples, stack, write_puppet_triples
from thadistill.errors import UserError
from thadistill.files import cache_folder, write_csv, write_text
from thadistill.images import FACE_REGION
from thadistill.lit.face_stages import FaceStagesModule
from thadistill.metrics.image import psnr, psnr_display, ssim
from thadistill.metrics.perceptual import Unavailable, load_lpips
from thadistill.pipeline.report import environment
from thadistill.pipeline.teacher import build_module, build_split, load_one, named_networks
from thadistill.pose import POSE_PARAMETERS
from thadistill.tables import run_table
from thadistill.tables.ledger import markdown, read_rows
from thadistill.teacher import load_teacher
from thadistill.warp import resize

HERE = Path(__file__).parent
Posed = Callable[[Tensor, Tensor], Tensor]
Crop = Callable[[Tensor], Tensor]
Row = dict[str, object]


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


def trained(folder: Path) -> tuple[dict[str, Posed], FolderTriples, Crop]:
    """What ``thadistill train module=teacher`` left: its pictures by a row's name, its test triples, what of them counts."""
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} has no config.yaml; expected the folder that thadistill train module=teacher left")
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    stage = config.stage
    stage.perceptual = "laplacian"  # of no use here: a loss needs one, and this one needs no weights
    if stage.coarse is not None and not Path(stage.coarse).is_dir():
        stage.coarse = str(folder.parent / stage.coarse)  # recorded as it was typed, from where both were trained
    module = build_module(config)
    for name, network in named_networks(stage.name, module.network).items():
        load_one(name, network, folder)
    module.eval()
    module.progress = 1.0
    test = build_split(config).test
    assert isinstance(test, FolderTriples)
    if isinstance(module, FaceStagesModule):
        return {"face stages": lambda image, pose: module(image, pose).face.output}, test, FACE_REGION.crop
    rows: dict[str, Posed] = {stage.name.replace("_", " "): lambda image, pose: module(image, pose).merged}
    coarse = module.coarse
    if coarse is not None:

        def enlarged(image: Tensor, pose: Tensor) -> Tensor:
            half = resize(image, stage.size // 2, stage.size // 2)
            merged = coarse(half, pose[:, POSE_PARAMETERS.rotation]).merged
            return resize(merged, stage.size, stage.size)

        rows = {"body morpher, enlarged": enlarged, **rows}
    return rows, test, lambda picture: picture


def judge(name: str, posed: Posed, triples: FolderTriples, count: int, crop: Crop = lambda picture: picture) -> Row:
    """A row: means of per-image values of what ``posed`` gives against ``crop`` of the truth."""
    lpips = load_lpips()
    figures: dict[str, list[float]] = {"psnr": [], "psnr_display": [], "ssim": [], "lpips": []}
    begun = time.perf_counter()
    count = min(count, len(triples))
    for index in range(count):
        image, pose, truth = stack([triples[index * len(triples) // count]])
        with torch.inference_mode():
            found, truth = posed(image, pose), crop(truth)
        for metric, function in (("psnr", psnr), ("psnr_display", psnr_display), ("ssim", ssim)):
            figures[metric].append(float(function(found, truth)))
        if not isinstance(lpips, Unavailable):
            figures["lpips"].append(float(lpips(found, truth)))
    means = {metric: round(float(np.mean(values)), 4) if values else "" for metric, values in figures.items()}
    reason = lpips.reason.split(",")[0] if isinstance(lpips, Unavailable) else ""
    reason = reason.replace(str(torch.hub.get_dir()), "TORCH_HOME/hub")
    minutes = round((time.perf_counter() - begun) / 60, 2)
    return {"teacher": name, "size": triples.size, "n": count, **means, "lpips_reason": reason, "minutes": minutes}


def as_table(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row if any(one[column] != "" for one in rows)))
    return markdown(columns, [[str(row[column]) for column in columns] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triples", type=Path, help="a folder of triples, 512 pixels wide for whole teachers")
    parser.add_argument("--characters", type=int, default=4, help="puppets rendered where no triples are given")
    parser.add_argument("--poses", type=int, default=2, help="of each")
    parser.add_argument("--count", type=int, default=100, help="triples judged, at most")
    parser.add_argument("--teacher", action="append", default=[], help="tha3, tha3=FOLDER, tha4=FOLDER; repeatable")
    parser.add_argument(
        "--trained", type=Path, action="append", default=[], help="what train module=teacher left; repeatable"
    )
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.triples is None:
        place = cache_folder() / "triples" / "puppet-512"
        names = [write_puppet_triples(place, 2 * index, given.poses, 512) for index in range(given.characters)]
        triples, source = FolderTriples(place, 512, names), f"{given.characters} puppets of even seeds"
    else:
        triples, source = FolderTriples(given.triples, 512), given.triples.name
    rows = [judge("identity", identity, triples, given.count)]
    rows += [judge(text.partition("=")[0], whole_teacher(text), triples, given.count) for text in given.teacher]
    for folder in given.trained:
        networks, test, crop = trained(folder)
        face = ", faces" if "face stages" in networks else ""
        rows.append(judge(f"identity{face}", lambda image, pose, crop=crop: crop(image), test, given.count, crop))
        rows += [judge(name, posed, test, given.count, crop) for name, posed in networks.items()]
    write_csv(HERE / "results.csv", rows)
    paper: list[Row] = [dict(row) for row in read_rows(HERE / "paper.csv")]
    made = environment()
    text = [
        "# Table 1: teachers against ground truth",
        f"Generated by run.py; whole teachers on triples of {source}, what was trained here on the test triples of its own "
        "configuration; means of per-image values. `psnr`: network space, four channels; "
        "`psnr_display`, `ssim`, `lpips` (AlexNet): sRGB on white. `identity` shows the image unmoved, `body morpher, "
        "enlarged` what the upscaler begins with; `faces` are the 192x192 face region, from the rest to the posed face.",
        as_table(rows),
        "The paper's, on 10,000 test examples of its own 3D models, which are not public: other pictures, so the figures "
        "compare teachers within a table, not across the two.",
        as_table(paper),
        f"{made['hardware']}, torch {made['torch']}, commit {made['commit']}.\n",
    ]
    write_text(HERE / "table.md", "\n\n".join(text))
    print(rows[-1])


if __name__ == "__main__":
    run_table(main)
