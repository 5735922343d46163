"""thadistill animate: a pose track to a video of a student."""

from __future__ import annotations

import time
from pathlib import Path

import hydra
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from thadistill.console import console, progress_bar, shown
from thadistill.drive.animate import frames, side_by_side, write_frames
from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.motion import ALL, MOUTH, Idle
from thadistill.drive.soundtrack import has_sound
from thadistill.drive.track import SOUND, VIDEO, Track, read_track
from thadistill.drive.video import open_video, read_background
from thadistill.errors import UserError
from thadistill.export.students import find_student
from thadistill.images import IMAGE_SIZE
from thadistill.runtime import compile_model


def run(config: DictConfig, out: Path) -> None:
    """Writes ``out``, and says how fast."""
    if config.side_by_side and config.get("teacher") is None:
        raise UserError("side_by_side=true needs the teacher to compare with; expected teacher=tha3 or another")
    named = str(config.out)
    background = None if str(config.background) in ("None", "transparent") else str(config.background)
    laid = read_background(background, 3 * IMAGE_SIZE if config.side_by_side else IMAGE_SIZE, IMAGE_SIZE)
    mapper = BlendshapeMapper(eyebrow_down=config.eyebrow_down, wink=config.wink)
    with console.status(f"reading {config.poses}"):
        poses = _moving(read_track(config.poses, float(config.poses_fps), mapper), config)
    source = Path(config.poses)
    sound = source if source.suffix.lower() in (*SOUND, *VIDEO) and has_sound(source) else None
    model = find_student(config.model).model
    with open_video(named, float(config.fps), laid, sound) as video:
        fast = compile_model(model, config.runtime)
        if config.side_by_side:
            made = side_by_side(fast, hydra.utils.instantiate(config.teacher, device="cpu"), model.image, poses)
        else:
            made = frames(fast, poses)
        started = time.monotonic()
        with progress_bar() as bar:
            task = bar.add_task("animate", total=len(poses), note="")
            count = write_frames(made, video, lambda done: bar.update(task, completed=done, note=f"{done} frames"))
    seconds = time.monotonic() - started
    where = "standard output" if named == "-" else shown(Path(named).absolute())
    console.print(
        f"{count} frames in {seconds:.1f} s ({count / seconds:.1f} a second): {where}", soft_wrap=True, markup=False
    )


def _moving(track: Track, config: DictConfig) -> Float[Tensor, "n 45"]:
    """The poses of the video's frames: a track of poses as it is; what was tracked smoothed, breathing and blinking."""
    if track.drives == ALL:
        return track.at(float(config.fps))
    seen = track if track.drives == MOUTH else track.smoothed(float(config.smoothing))  # vowels are smooth as they come
    poses = seen.at(float(config.fps))
    if not config.idle:
        return poses
    idle = Idle()
    return torch.stack([idle.apply(pose, index / config.fps, track.drives) for index, pose in enumerate(poses)])
