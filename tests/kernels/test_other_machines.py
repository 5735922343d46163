"""Other machines: every C++ file built for five of them by Zig's compiler, and run on arm64 by QEMU against this machine's.

Nothing here is one of those machines: a compiler for them comes from PyPI, and one for arm64 and its processor from Debian.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.students import toy_student
from thadistill.kernels import build
from thadistill.pose import POSE_PARAMETERS
from thadistill.runtime import compile_model, student_kernels

PACKAGE = Path(build.__file__).parents[1]
SOURCES = {path.stem: path for path in sorted(PACKAGE.rglob("*.cpp")) if path.parent.name != "engines"}  # the browser's
TARGETS = {  # and how an object file begins there
    "x86_64-linux-gnu": b"\x7fELF\x02\x01",
    "aarch64-linux-gnu": b"\x7fELF\x02\x01",
    "x86_64-macos": b"\xcf\xfa\xed\xfe\x07\x00\x00\x01",
    "aarch64-macos": b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01",
    "x86_64-windows-gnu": b"\x64\x86",
}
BASELINE = "-march=x86-64"  # vectors of 8 floats and no integer products, as on arm64
BASE = 1 << 40  # where the arena lies in the emulated process
CROSS = "aarch64-linux-gnu-g++"
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

# Maps a file at BASE and calls one function on what lies there: integers and addresses, then floats by value.
DRIVER = """
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
extern "C" {{ {declared} }}
struct {{ const char *name; void (*call)(); }} functions[] = {{ {listed} }};
int main(int n, char **given) {{
    const int file = open(given[1], O_RDWR);
    struct stat about;
    fstat(file, &about);
    void *base = (void *){base}LL;
    if (mmap(base, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != base) return 2;
    long i[24] = {{}};
    float f[2] = {{}};
    int integers = 0, floats = 0;
    for (int k = 3; k < n; k++)
        if (given[k][0] == 'f') f[floats++] = atof(given[k] + 1);
        else i[integers++] = atol(given[k] + 1);
    for (auto &function : functions)
        if (!strcmp(function.name, given[2])) {{
            ((void (*)(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long,
                       long, long, long, long, long, long, long, long, float, float))function.call)(
                i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12], i[13], i[14], i[15],
                i[16], i[17], i[18], i[19], i[20], i[21], i[22], i[23], f[0], f[1]);
            return 0;
        }}
    return 3;
}}
"""
FUNCTIONS = {
    "level": ("level_enter_f32", "level_sine_f32", "level_turn_f32", "level_leave_f32"),
    "patches": ("match_patches", "warp_patches"),
    "row_tiled": ("tile_moments",),
    "student": ("paint_face", "run_frame"),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def zig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    found = build._zig()
    if found is None:
        pytest.skip("Zig's compiler is not installed: pip install 'thadistill[compiler]'")
    before = dict(os.environ)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(tmp_path_factory.mktemp("zig"))
    yield found
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_is_compiled_for(target: str, zig: list[str], tmp_path: Path) -> None:
    """Not linked: Zig would build its whole C++ library for each of them, a minute of CI apiece."""
    for name, source in SOURCES.items():
        out = tmp_path / name
        flags = ("-c", *build.thread_flags(target))
        command = build.build_command([*zig, "-target", target], source, flags, out)
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes().startswith(TARGETS[target])


@pytest.fixture(scope="module", params=["GCC", "Clang"])
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A program for arm64 for each C++ file, by either compiler and Debian's libraries for that machine."""
    if QEMU is None or shutil.which(CROSS) is None:
        pytest.skip("arm64 cannot be emulated: apt-get install qemu-user-static g++-aarch64-linux-gnu")
    if request.param == "Clang" and shutil.which("clang++") is None:
        pytest.skip("Clang is not installed: apt-get install clang")
    compiler = [CROSS] if request.param == "GCC" else ["clang++", "--target=aarch64-linux-gnu"]
    folder, made = tmp_path_factory.mktemp("arm64"), {}
    for name, functions in FUNCTIONS.items():
        driver = folder / f"{name}_driver.cpp"
        driver.write_text(
            DRIVER.format(
                declared=" ".join(f"void {function}();" for function in functions),
                listed=", ".join(f'{{"{function}", {function}}}' for function in functions),
                base=BASE,
            )
        )
        made[name] = folder / name
        command = [*compiler, "-static", *build._FLAGS, f"-I{Path(build.__file__).parent}", "-pthread"]
        command += ["-o", str(made[name]), str(driver), str(SOURCES[name])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
    return made


def blocks_of(thing: object) -> Iterator[np.ndarray | ctypes.Structure | ctypes.Array]:
    """Arrays and structures that an engine keeps for the kernels."""
    if isinstance(thing, np.ndarray | ctypes.Structure | ctypes.Array):
        yield thing
    elif isinstance(thing, list):
        for item in thing:
            yield from blocks_of(item)
    elif dataclasses.is_dataclass(thing):
        yield from blocks_of(list(vars(thing).values()))


def run_emulated(program: Path, name: str, blocks: Sequence[Any], arguments: Sequence[Any]) -> list[bytes]:
    """Calls a function on copies of ``blocks``, whose pointers into each other are moved; gives what became of each."""
    hosts = [b.ctypes.data if isinstance(b, np.ndarray) else ctypes.addressof(b) for b in blocks]
    sizes = [b.nbytes if isinstance(b, np.ndarray) else ctypes.sizeof(b) for b in blocks]
    content, offsets = bytearray(), []
    for block in blocks:
        content += bytes(-len(content) % 64)
        offsets.append(len(content))
        content += bytes(block) if not isinstance(block, np.ndarray) else block.tobytes()
    for block, offset, size in zip(blocks, offsets, sizes, strict=True):
        if isinstance(block, np.ndarray):
            continue
        words = np.frombuffer(content, np.uint64, size // 8, offset)
        for host, length, place in zip(hosts, sizes, offsets, strict=True):
            inside = (words >= host) & (words < host + length)
            words[inside] += np.uint64((BASE + place - host) % 2**64)
    file = program.with_suffix(".arena")
    file.write_bytes(content)

    def word(argument: Any) -> str:
        if isinstance(argument, int | float):
            return f"{'f' if isinstance(argument, float) else 'i'}{argument}"
        return f"i{BASE + offsets[next(i for i, block in enumerate(blocks) if block is argument)]}"

    given = [word(argument) for argument in arguments]
    done = subprocess.run([str(QEMU), str(program), str(file), name, *given], timeout=300, check=False)
    assert done.returncode == 0
    made = file.read_bytes()
    return [made[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]


def emulated(program: Path, name: str, arguments: Sequence[Any]) -> None:
    """Calls a function on arm64; arrays among its arguments hold afterwards what it wrote."""
    arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    for array, content in zip(arrays, run_emulated(program, name, arrays, arguments), strict=True):
        array[...] = np.frombuffer(content, array.dtype).reshape(array.shape)


def here(library: ctypes.CDLL, name: str, arguments: Sequence[Any]) -> None:
    """The same call on this machine, by a handle without the argument types that the package has set on its own."""
    given = [
        ctypes.c_void_p(argument.ctypes.data) if isinstance(argument, np.ndarray) else
        ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)
        for argument in arguments
    ]  # fmt: skip
    function = getattr(ctypes.CDLL(library._name), name)
    function.restype = None
    function(*given)


def test_level_on_arm64(programs: dict[str, Path]) -> None:
    random = np.random.default_rng(0)
    rows, channels = 70, 21
    library = build.load_native(SOURCES["level"])

    def arguments() -> list[Any]:
        generator = np.random.default_rng(1)
        phase = generator.normal(size=(rows, channels)).astype(np.float32)
        return [phase, np.linspace(-2, 2, channels, dtype=np.float32), rows, channels, np.empty_like(phase), None, 2]

    mine, theirs = arguments(), arguments()
    mine[5], theirs[5] = 0, 0
    here(library, "level_sine_f32", mine)
    emulated(programs["level"], "level_sine_f32", theirs)
    expected = np.random.default_rng(1).normal(size=(rows, channels)).astype(np.float32) + mine[1]
    np.testing.assert_allclose(theirs[0], np.sin(expected), atol=2e-6)  # the polynomial's error
    np.testing.assert_allclose(theirs[0], mine[0], atol=1e-6)
    np.testing.assert_allclose(theirs[4], mine[4], atol=1e-6)

    gradient = random.normal(size=(rows, channels)).astype(np.float32)
    ours, own = [gradient.copy() for _ in range(2)], [np.empty(channels, np.float32) for _ in range(2)]
    here(library, "level_turn_f32", [ours[0], mine[4], rows, channels, own[0], 2])
    emulated(programs["level"], "level_turn_f32", [ours[1], mine[4].copy(), rows, channels, own[1], 2])
    np.testing.assert_allclose(ours[1], gradient * mine[4], atol=1e-6)
    np.testing.assert_allclose(own[1], own[0], rtol=1e-5, atol=1e-5)


def test_patch_losses_on_arm64(programs: dict[str, Path]) -> None:
    n, size = 5, 6

    def arguments() -> list[Any]:
        generator = np.random.default_rng(2)
        draw = lambda *shape: generator.uniform(-1, 1, shape).astype(np.float32)  # noqa: E731
        insets = draw(2, 4, 8, 8).astype(np.float16)
        return [
            *(draw(4, 32, 32), 32, 32, insets, 8, 8, 10, 12),
            *(generator.integers(0, 2, n), generator.integers(0, 26, (n, 2))),
            *(draw(n, size * size, 7) * 0.2, draw(n, 4, size, size), draw(n, 2, size, size) * 0.2, n, size),
            *(np.array([4, 1, 0.5, 1], np.float32), np.empty((n, 5), np.float32), np.empty((n, 36, 7), np.float32), 2),
        ]

    mine, theirs = arguments(), arguments()
    here(build.load_native(SOURCES["patches"]), "match_patches", mine)
    emulated(programs["patches"], "match_patches", theirs)
    for k in (-3, -2):  # sums and gradient
        assert np.abs(mine[k]).max() > 0.1
        np.testing.assert_allclose(theirs[k], mine[k], rtol=1e-4, atol=1e-4)  # of 36 pixels, in another order


def test_moments_on_arm64(programs: dict[str, Path]) -> None:
    values = np.random.default_rng(3).normal(size=(50, 19)).astype(np.float32)
    sums = np.zeros((2, 19))
    emulated(programs["row_tiled"], "tile_moments", [values, 0, 50, 19, np.zeros(19, np.float32), sums])
    np.testing.assert_allclose(sums[0], values.sum(0), atol=1e-4)
    np.testing.assert_allclose(sums[1], np.square(values).sum(0), rtol=1e-5)


def test_a_frame_on_arm64(programs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole student, packed here, painted there."""
    monkeypatch.setenv("THADISTILL_NATIVE_FLAGS", BASELINE)
    model = toy_student()
    engine = compile_model(model, "native", visible=False).engine
    pose = POSE_PARAMETERS.clamp(torch.randn(45, generator=torch.manual_seed(4))).numpy()
    plane, rgba = np.zeros((4, 512, 512), np.float32), np.zeros((512, 512, 4), np.uint8)
    untouched = engine.character.copy()
    frame = student_kernels._Frame(posed=plane.ctypes.data, rgba=rgba.ctypes.data, bottom=512, right=512)
    blocks = [*blocks_of(engine._kept), engine.character, engine._student, frame, pose, plane, rgba]
    face = run_emulated(programs["student"], "paint_face", blocks, [engine._student, pose])
    engine.paint_face(pose)
    assert np.abs(engine.character - untouched).max() > 0.1
    character = next(i for i, block in enumerate(blocks) if block is engine.character)
    there = np.frombuffer(face[character], np.float32).reshape(engine.character.shape)
    np.testing.assert_allclose(there, engine.character, atol=1e-5)  # float32 sums in one order, fused or not
    there = run_emulated(programs["student"], "run_frame", blocks, [engine._student, pose, frame])
    engine.run(pose, {"posed": plane}, rgba)
    assert plane.std() > 0.1
    np.testing.assert_allclose(np.frombuffer(there[-2], np.float32).reshape(plane.shape), plane, atol=1e-3)
    assert np.abs(np.frombuffer(there[-1], np.uint8).astype(int) - rgba.ravel()).max() <= 1
