"""Errors in Japanese: every line that a module throws in English has one, which says its values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import WEB
from .javascript import run

# what readers meet; dom.js and recorder-less parts throw only for our own mistakes
MODULES = [
    *("character.js", "png.js", "fold.js", "player.js", "pose.js", "recorder.js", "stage.js"),
    *sorted(f"engines/{path.name}" for path in (WEB / "engines").glob("*.js") if path.name != "wasm_worker.js"),
]
THROWN = re.compile(r"""new Error\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)""")
RETURNED = re.compile(r"""obstacle\(\) \{(.*?)\n  \},""", re.S)
ASKED = re.compile(r"""return (?:[^;'"`\n]*\? (?:null : )?)?(?:'([^']+)'|"([^"]+)"|`([^`]+)`)""")


def lines_of(module: str) -> list[str]:
    """What a module says, with a value in each of its places."""
    text = (WEB / module).read_text()
    found = THROWN.findall(text)
    for body in RETURNED.findall(text):
        found += ASKED.findall(body)
    if module == "engines/webgpu.js":
        found += ASKED.findall(text[text.index("async function findAdapter") : text.index("function describe")])
    lines = []
    for groups in found:
        line = next(group for group in groups if group)
        place = iter("ABCDEFGH")
        lines.append(re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", lambda _: f"<{next(place)}>", line).replace("\\'", "'"))  # noqa: B023
    return lines


def test_every_line_has_a_translation(tmp_path: Path) -> None:
    lines = [line for module in MODULES for line in lines_of(module)]
    lines = [line for line in lines if not re.fullmatch(r"<A>|too long", line)]  # another error's line; caught
    assert len(lines) > 50
    assert "this browser has no WebGPU" in lines
    script = """
      const { inJapanese } = await import('./ui/errors.js');
      const answer = (lines) => lines.map(inJapanese);
    """
    given = run(script, tmp_path, lines)
    missing = [
        line for line, told in zip(lines, given, strict=True) if not re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", told)
    ]
    assert not missing
    for line, told in zip(lines, given, strict=True):
        assert sorted(re.findall("<.>", told)) == sorted(re.findall("<.>", line)), told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("webgpu: the GPU was lost (x)", "webgpu：GPU が失われました（x）"),
        (
            "nothing here can draw the character (webgpu: this browser has no WebGPU; wasm: this browser is too old)",
            "ここではキャラクターを描画できません（webgpu：このブラウザーには WebGPU がありません；"
            "wasm：このブラウザーは古すぎます）",
        ),
        ("the disk is full", "the disk is full"),
    ],
)
def test_lines_of_lines(line: str, expected: str, tmp_path: Path) -> None:
    script = """
      const { inJapanese } = await import('./ui/errors.js');
      const answer = inJapanese;
    """
    assert run(script, tmp_path, line) == expected
