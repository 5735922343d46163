"""thadistill export: a student as an ONNX file, or with the browser player around it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from thadistill.assets import facetracking_folder
from thadistill.data.poses import load_poses
from thadistill.errors import UserError
from thadistill.export.site import (
    INDEX,
    face_tracking_files,
    index_of,
    player_files,
    single_page,
    write_page,
    write_site,
)
from thadistill.export.students import find_students
from thadistill.export.web import Exported

FORMATS = ("onnx", "web")


def run(config: DictConfig, out: Path) -> None:
    """Writes the form that ``format`` names into ``out``, after comparing it with the student."""
    if config.format not in FORMATS:
        raise UserError(f"format={config.format}; expected one of {', '.join(FORMATS)}")
    students = find_students(config.model)
    if config.format == "web":
        _single(students, out) if config.single else _site(students, out)
    else:
        _onnx(config, students, out)


def _site(students: list[Exported], out: Path) -> None:
    tracking = face_tracking_files(facetracking_folder())
    characters = {f"characters/{student.file}": student.pack() for student in students}
    index = {INDEX: index_of({student.name: student.file for student in students})}
    write_site(player_files() | characters | index | tracking, out)
    first = sum(len(content) for path, content in (player_files() | characters).items() if "facetracking" not in path)
    print(
        f"{out}: {', '.join(student.name for student in students)}, {first / 1e6:.1f} MB; any web server can serve it"
    )
    if not tracking:
        print("without the webcam, whose files are not here: 'thadistill assets pull=facetracking', then export again")


def _single(students: list[Exported], out: Path) -> None:
    if len(students) != 1:
        raise UserError(f"single=true with {len(students)} models; expected one: a page carries one character")
    student = students[0]
    path = out if out.suffix.lower() in (".html", ".htm") else out / f"{student.name}.html"
    files = player_files() | {f"characters/{student.file}": student.pack()}
    page = single_page(files | {INDEX: index_of({student.name: student.file})})
    write_page(page, path)
    print(f"{path}: {len(page) / 1e6:.1f} MB; opens from disk, posed by hand")


def _onnx(config: DictConfig, students: list[Exported], out: Path) -> None:
    from thadistill.export.onnx import export_onnx  # needs the extra

    if len(students) != 1:
        raise UserError(f"format=onnx with {len(students)} models; expected one")
    path = out / "student.onnx"
    poses = None if config.poses is None else load_poses(config.poses)
    parity = export_onnx(students[0].model, path, config.dtype, tuple(config.outputs), poses)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, at least {parity['psnr_min']:.1f} dB to the student")
