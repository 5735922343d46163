"""The site: a folder that appears whole, and one page that carries everything."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from thadistill.errors import UserError
from thadistill.export.site import (
    INDEX,
    face_tracking_files,
    index_of,
    media_type,
    player_files,
    single_page,
    write_page,
    write_site,
)

SMALL = {
    "index.html": b"""<!doctype html><head>
<meta http-equiv="Content-Security-Policy" content="default-src 'self'">
<link rel="stylesheet" href="player.css">
<script type="module" src="main.js"></script></head>""",
    "player.css": b"body { color: red }",
    "main.js": b"import { a } from './lib/a.js';\nimport './b.js';\n// import { no } from 'elsewhere'\na('</script>');\n",
    "lib/a.js": b"export { c as a } from '../c.js';\n",
    "b.js": b"globalThis.b = 1;\n",
    "c.js": b"export const c = 1;\n",
    "worker.js": b"onmessage = 1;",
    INDEX: index_of({"x": "x.safetensors"}),
}


def test_the_player_is_there_without_its_sources() -> None:
    files = player_files()
    assert {"index.html", "player.css", "main.js", "pose.js", "engines/kernels.wasm", "engines/choose.js"} <= set(files)
    assert not [path for path in files if path.endswith((".cpp", ".py", ".sh", ".md", ".json"))]


def test_types() -> None:
    assert media_type("a/b.js") == "text/javascript"
    assert media_type("k.wasm") == "application/wasm"
    assert media_type("x.safetensors") == "application/octet-stream"
    assert media_type("player.css") == "text/css"


def test_single_page_carries_modules_under_the_names_of_an_import_map() -> None:
    page = single_page(SMALL)
    imports = json.loads(re.search(r'<script type="importmap">(.*?)</script>', page, re.S)[1].replace("<\\/", "</"))
    modules = {name: base64.b64decode(url.split(",")[1]).decode() for name, url in imports["imports"].items()}
    assert set(modules) == {"thadistill/lib/a.js", "thadistill/b.js", "thadistill/c.js"}
    assert "from 'thadistill/c.js'" in modules["thadistill/lib/a.js"]
    assert "from 'thadistill/lib/a.js'" in page
    assert "import 'thadistill/b.js'" in page
    carried = json.loads(re.search(r"THADISTILL_FILES = (.*?);</script>", page, re.S)[1])
    assert base64.b64decode(carried["worker.js"]) == SMALL["worker.js"]
    assert set(carried) == {"worker.js", INDEX}
    assert "connect-src 'none'" in page or "connect-src data: blob:" in page
    assert page.count("</script>") == 3  # what closes them, and nothing a module says


def test_a_site_replaces_an_earlier_one_only(tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_site({**SMALL, "lib/old.js": b""}, out)
    write_site(SMALL, out)
    assert not (out / "lib" / "old.js").exists()
    assert (out / "lib" / "a.js").read_bytes() == SMALL["lib/a.js"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (out / "CNAME").write_text("me.example")
    write_site({**SMALL, "lib/a.js": b"new"}, out)
    assert (out / "lib" / "a.js").read_bytes() == b"new"
    assert (out / ".git" / "HEAD").is_file()
    assert (out / "CNAME").read_text() == "me.example"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is no exported site"):
        write_site(SMALL, mine)
    assert (mine / "thesis.txt").read_text() == "precious"


def test_a_page_is_a_file(tmp_path: Path) -> None:
    write_page("<p>", tmp_path / "new" / "x.html")
    assert (tmp_path / "new" / "x.html").read_text() == "<p>"
    (tmp_path / "empty.html").mkdir()
    write_page("<p>", tmp_path / "empty.html")
    assert (tmp_path / "empty.html").read_text() == "<p>"
    with pytest.raises(UserError, match="is a folder"):
        write_page("<p>", tmp_path / "new")


def test_face_tracking_files(tmp_path: Path) -> None:
    (tmp_path / "wasm").mkdir()
    (tmp_path / "wasm" / "x.wasm").write_bytes(b"w")
    assert face_tracking_files(tmp_path) == {"facetracking/wasm/x.wasm": b"w"}
    assert face_tracking_files(None) == {}
