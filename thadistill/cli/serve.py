"""thadistill serve: the browser player on this machine."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from thadistill.assets import facetracking_folder
from thadistill.console import console
from thadistill.errors import UserError
from thadistill.export.site import face_tracking_files, player_files
from thadistill.export.students import find_students, newest
from thadistill.serve.app import Server, can_browse, serve


def run(config: DictConfig, out: Path) -> None:
    """Serves ``model``'s students until it is interrupted; without any, the newest one here, else the package's puppet."""
    if not isinstance(config.port, int) or not 0 <= config.port <= 65535:
        raise UserError(f"port={config.port}; expected a number from 0 (any free one) to 65535")
    students = find_students(config.model)
    if config.model is None:
        named = students[0].name if newest() else "a drawn puppet, as there is no student under outputs/ yet"
        console.print(f"showing {named}; model=DIR shows another", soft_wrap=True)
    files = player_files() | face_tracking_files(facetracking_folder())
    serve(Server(files, students, str(config.host)), str(config.host), config.port, config.open and can_browse())
