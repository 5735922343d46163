"""The package's layout: imports run one way, from the commands down to the vocabulary, and nowhere in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import thadistill

PACKAGE = Path(thadistill.__file__).parent
# from the bottom up; what stands in one line may import each other's modules, but in no circle
LAYERS = (
    ("errors", "pose", "outputs", "files", "tensors", "processes"),
    ("images", "warp", "devices", "console", "assets", "config"),
    ("kernels",),
    ("puppet",),
    ("teacher",),
    ("student",),
    ("data",),
    ("runtime",),
    ("metrics",),
    ("lit",),
    ("callbacks",),
    ("pipeline",),
    ("drive", "export", "serve", "sweeps", "tables"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"]
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that one imports when it is loaded; what functions import later is left out."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If):  # TYPE_CHECKING
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("thadistill."):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "thadistill":
            yield from (f"thadistill.{alias.name}" for alias in node.names if f"thadistill.{alias.name}" in known)


def test_every_module_has_its_layer() -> None:
    assert {name.split(".")[1] for name in modules()} == set(RANK)


def test_imports_run_down_the_layers() -> None:
    known = modules()
    rank = {name: RANK[name.split(".")[1]] for name in known}
    up = [
        f"{name} -> {other}"
        for name, path in known.items()
        for other in imports(name, path, known)
        if rank[other] > rank[name]
    ]
    assert not up


def test_no_import_circle() -> None:
    known = modules()
    graph = {name: {other for other in imports(name, path, known) if other != name} for name, path in known.items()}
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, "in or above a circle"


def test_no_module_is_loaded_on_unix_alone() -> None:
    """Windows has none of these: a function that can do without may import one."""
    unix = {"fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"}
    for name, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not unix & set(named), f"{name} imports {named}"
