"""Site: the browser player with its characters, as files by their paths: what export writes and serve answers with."""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import thadistill
from thadistill.errors import UserError
from thadistill.files import write_bytes, write_text

WEB = Path(thadistill.__file__).parent / "web"
INDEX = "characters/index.json"
_SHOWN = frozenset({".html", ".css", ".js", ".wasm", ".svg", ".png"})
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_TYPES |= {".json": "application/json", ".safetensors": "application/octet-stream", ".html": "text/html"}

# ``from './x.js'``, ``import './x.js'`` and ``export ... from './x.js'``, as the player's modules have them
_IMPORT = re.compile(r"""(?P<before>\bfrom\s*|^import\s*)(?P<quote>['"])(?P<path>\.{1,2}/[^'"]+)(?P=quote)""", re.M)
_MODULE = re.compile(r'<script type="module" src="(?P<path>[^"]+)"></script>')
_STYLE = re.compile(r'<link rel="stylesheet" href="(?P<path>[^"]+)"\s*/?>')
_POLICY = re.compile(r'(<meta http-equiv="Content-Security-Policy"\s+content=")[^"]*(")', re.S)
# Of a page that carries everything in itself: it may fetch nothing at all.
_SINGLE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' data: blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; worker-src blob:; connect-src data: blob:; base-uri 'none'"
)


def media_type(path: str) -> str:
    """The MIME type of one of a site's files, by its ending."""
    suffix = PurePosixPath(path).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def player_files() -> dict[str, bytes]:
    """The player itself: its page, styles, modules and kernels, by their paths."""
    paths = sorted(path for path in WEB.rglob("*") if path.suffix in _SHOWN and path.is_file())
    return {path.relative_to(WEB).as_posix(): path.read_bytes() for path in paths}


def face_tracking_files(folder: Path | None) -> dict[str, bytes]:
    """What the webcam needs (``thadistill assets pull=facetracking``), or nothing where it was not pulled."""
    if folder is None:
        return {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"facetracking/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}


def index_of(characters: Mapping[str, str]) -> bytes:
    """The page's list of characters: name -> file name within ``characters/``."""
    return json.dumps([{"name": name, "file": file} for name, file in characters.items()], indent=1).encode()


def write_site(files: Mapping[str, bytes], out: Path) -> None:
    """Writes a site's folder; it appears whole or not at all, and replaces an earlier export.

    Where that holds what no export has put there (a .git, a CNAME, other pages), files are written one by one among it.

    Raises: UserError when ``out`` holds something else.
    """
    if out.exists() and not (out / INDEX).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(
            f"{out} is there and is no exported site; expected a new folder or an earlier export: give out="
        )
    if out.is_dir() and _has_others(files, out):
        for entry in json.loads((out / INDEX).read_text()):
            (out / "characters" / PurePosixPath(str(entry["file"])).name).unlink(missing_ok=True)
        for path, content in files.items():
            write_bytes(out / path, content)
        return
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "site"
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)
        if out.exists():
            os.replace(out, Path(temporary) / "before")
        os.replace(made, out)


def _has_others(files: Mapping[str, bytes], out: Path) -> bool:
    """Whether a site's folder has something at its top that no export writes."""
    own = (
        {path.split("/")[0] for path in files} | {path.name for path in WEB.iterdir()} | {"characters", "facetracking"}
    )
    return any(path.name not in own for path in out.iterdir())


def write_page(page: str, path: Path) -> None:
    """Writes a single page, whole or not at all.

    Raises: UserError when ``path`` is a folder.
    """
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()  # Hydra makes a command's folder before the command runs
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; expected a file for the page, such as {path / 'character.html'}: give out="
        )
    write_text(path, page)


def single_page(files: Mapping[str, bytes]) -> str:
    """A site as one HTML file that works from disk, where browsers neither fetch nor import other files.

    Modules become data addresses that an import map names; everything else the page asks for is inlined as base64.
    """
    page = files["index.html"].decode()
    entry = _only(_MODULE, page, "module")
    style = _only(_STYLE, page, "style sheet")
    modules = _reachable(files, entry)
    rewritten = {path: _rewrite(path, files[path].decode()) for path in modules if path != entry}
    imports = {
        _bare(path): f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"
        for path, text in rewritten.items()
    }
    carried = {
        path: base64.b64encode(content).decode()
        for path, content in files.items()
        if path not in {"index.html", entry, style, *modules}
    }
    main = _rewrite(entry, files[entry].decode())
    head = "\n".join(
        [
            f"<script>globalThis.THADISTILL_FILES = {_in_script(json.dumps(carried))};</script>",
            f'<script type="importmap">{_in_script(json.dumps({"imports": imports}))}</script>',
        ]
    )
    parts: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (_POLICY, lambda found: f"{found[1]}{_SINGLE_POLICY}{found[2]}"),
        (_STYLE, lambda _: f"<style>\n{files[style].decode()}</style>\n{head}"),
        (_MODULE, lambda _: f'<script type="module">\n{_in_script(main)}</script>'),
    ]
    for pattern, replacement in parts:
        page = pattern.sub(replacement, page, count=1)
    return page


def _only(pattern: re.Pattern[str], page: str, what: str) -> str:
    found = pattern.findall(page)
    assert len(found) == 1, f"index.html has {len(found)} {what}s; expected one"
    return str(found[0])


def _resolve(base: str, relative: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(base).parent / relative).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _reachable(files: Mapping[str, bytes], entry: str) -> list[str]:
    """The modules that ``entry`` imports statically, with their own imports, and itself."""
    found: dict[str, None] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        waiting += [_resolve(path, match["path"]) for match in _IMPORT.finditer(files[path].decode())]
    return list(found)


def _bare(path: str) -> str:
    return f"thadistill/{path}"


def _rewrite(path: str, text: str) -> str:
    """A module with its relative imports by the names of the import map: a data address has nothing to be relative to."""
    return _IMPORT.sub(lambda m: f"{m['before']}{m['quote']}{_bare(_resolve(path, m['path']))}{m['quote']}", text)


def _in_script(text: str) -> str:
    """Text that may stand in a script element: nothing in it closes the element or opens a comment."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")
