"""thadistill serve: the browser player on this machine."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from thadistill.assets import facetracking_folder
from thadistill.console import console, shown
from thadistill.errors import UserError
from thadistill.export.site import face_tracking_files, player_files
from thadistill.export.web import open_students
from thadistill.serve.app import Server, can_browse, serve


def run(config: DictConfig, out: Path) -> None:
    """Serves ``model``'s students until it is interrupted; without any, the newest one here, else the package's puppet."""
    if not isinstance(config.port, int) or not 0 <= config.port <= 65535:
        raise UserError(f"port={config.port}; expected a number from 0 (any free one) to 65535")
    students = open_students(models(config.model) or [str(newest() or packaged_puppet())])
    if config.model is None:
        named = students[0].name if newest() else "a drawn puppet, as there is no student under outputs/ yet"
        console.print(f"showing {named}; model=DIR shows another", soft_wrap=True)
    files = player_files() | face_tracking_files(facetracking_folder())
    serve(Server(files, students, str(config.host)), str(config.host), config.port, config.open and can_browse())


def models(given: object) -> list[str]:
    """``model=`` as a list: one folder, several between commas, or a list of Hydra's."""
    if given is None:
        return []
    if isinstance(given, ListConfig):
        return [str(one) for one in given]
    text = str(given)
    return [text] if Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]


def packaged_puppet() -> Path:
    """The student that comes with the package, of a drawn character."""
    return Path(__file__).parent.parent / "serve" / "puppet.safetensors"


def newest() -> Path | None:
    """The student that was distilled last under ``outputs/`` of the current folder."""
    found = Path("outputs").glob("**/character_model/character_model.yaml")
    latest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if latest is None else shown(latest.parent.absolute())
