"""Web player: frame times of the player's engines and of ONNX Runtime Web, interleaved, in one Chromium.

Writes results.csv (one row per engine and student), from which and from the students' arithmetic it makes table.md.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright
from unwatched import UnwatchedPage

from thadistill.data.poses import sample_poses
from thadistill.export.onnx import export_onnx
from thadistill.export.site import INDEX, index_of, player_files, write_site
from thadistill.export.students import open_students
from thadistill.files import write_csv, write_text
from thadistill.metrics.benchmark import hardware
from thadistill.pipeline.report import commit
from thadistill.serve.app import NATIVE
from thadistill.serve.native import FrameMaker
from thadistill.student import CharacterModel
from thadistill.tables.ledger import markdown

HERE = Path(__file__).parent
ONNX_RUNTIME = "onnxruntime-web@1.30.0"
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
WEBGPU_FLAGS = [
    "--enable-unsafe-webgpu",
    "--use-angle=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
]
# float32 peak of integrated and older graphics, TFLOPS, as their makers state it
GPUS = {"Intel UHD 630": 0.44, "Intel Iris Xe": 2.07, "Apple M1": 2.6, "NVIDIA RTX 3060": 12.7}
SHARES = (0.25, 0.35)  # of the peak, what tiled products in WGSL have been seen to reach


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"} | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def static(folder: Path) -> Iterator[str]:
    """A folder on a plain server: its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


@contextlib.contextmanager
def served(folders: list[Path]) -> Iterator[str]:
    """``thadistill serve`` with these students: its address."""
    command = [sys.executable, "-m", "thadistill.cli", "serve", "port=0", "open=false"]
    command.append(f"model=[{','.join(json.dumps(str(folder)) for folder in folders)}]")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def onnx_runtime(folder: Path) -> None:
    """ONNX Runtime Web's files, from the npm registry."""
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(["npm", "pack", "--silent", ONNX_RUNTIME], cwd=temporary, check=True, stdout=subprocess.DEVNULL)
        shutil.unpack_archive(next(Path(temporary).glob("*.tgz")), temporary)
        folder.mkdir()
        for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
            shutil.copy(Path(temporary) / "package" / "dist" / name, folder / name)


def runtime_rate(model: CharacterModel, poses: torch.Tensor, seconds: float) -> dict[str, Any]:
    """Frames of ``runtime=reduced`` in Python, of the same rectangle: what the native engine is held against."""
    maker = FrameMaker(model)
    given = [pose.numpy().tobytes() for pose in poses]
    times = []
    maker.frame(given[0])
    began = perf_counter()
    while perf_counter() - began < seconds:
        start = perf_counter()
        maker.frame(given[len(times) % len(given)])
        times.append(1000 * (perf_counter() - start))
    ms, p95 = np.quantile(times, (0.5, 0.95))
    fps = 1000 * len(times) / sum(times)
    return {"frames": len(times), "fps": fps, "ms": ms, "p95": p95, "detail": f"Python, {maker.name}", "first": None}


def tasks(names: list[str], webgpu: bool) -> list[tuple[str, str, str, dict[str, Any], bool]]:
    """What is measured of each student: label, page (static or served), engine, its options, whether the face stands."""
    found: list[tuple[str, str, str, dict[str, Any], bool]] = [
        ("wasm, 1 worker", "static", "wasm", {"workers": 1}, False),
        ("wasm, 1 worker, face stands", "static", "wasm", {"workers": 1}, True),
        ("wasm, 2 workers", "static", "wasm", {"workers": 2}, False),
        ("native", "served", "native", {}, False),
        ("runtime=reduced", "python", "", {}, False),
        ("ONNX Runtime Web, wasm", "onnx", "", {}, False),
    ]
    if webgpu:
        found.append(("webgpu, software adapter", "gpu", "webgpu", {}, False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="+", help="NAME=FOLDER of character models")
    parser.add_argument("--seconds", type=float, default=10, help="of each engine in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--webgpu", nargs="*", default=[], help="students to draw on Chromium's software WebGPU adapter too"
    )
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    named = {name: Path(folder) for name, _, folder in (student.partition("=") for student in given.students)}
    poses = sample_poses(16, seed=20_000)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        site = Path(temporary) / "site"
        opened = {name: open_students([str(folder)])[0] for name, folder in named.items()}
        characters = {f"characters/{student.file}": student.pack() for student in opened.values()}
        write_site(player_files() | characters | {INDEX: index_of({})}, site)
        shutil.copy(HERE / "measure.js", site / "measure.js")
        (site / "empty.html").write_text("<!doctype html><title>measured</title>")
        onnx_runtime(site / "ort")
        for name, student in opened.items():
            export_onnx(student.model, site / f"{name}.onnx")
        address = {
            "static": stack.enter_context(static(site)),
            "served": stack.enter_context(served(list(named.values()))),
        }
        driver = stack.enter_context(sync_playwright())
        plain = driver.chromium.launch(executable_path=given.chromium, args=FLAGS)
        software = driver.chromium.launch(executable_path=given.chromium, args=[*FLAGS, *WEBGPU_FLAGS])
        pages: dict[str, Page] = {}
        for kind, browser in (("static", plain), ("onnx", plain), ("gpu", software)):
            pages[kind] = browser.new_page()
            pages[kind].goto(f"{address['static']}empty.html")
        # a file of the server's in place of the player, which would draw its idle motion while others are timed
        own = stack.enter_context(UnwatchedPage(given.chromium, f"{address['served']}pose.js", FLAGS))
        own.evaluate(
            "document.head.append(Object.assign(document.createElement('meta'), "
            f"{{ name: 'thadistill-native', content: {json.dumps(NATIVE)} }}))"
        )
        rounds: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for turn in range(given.rounds):
            for name, student in opened.items():
                for label, page, engine, options, still in tasks(list(opened), name in given.webgpu and turn == 0):
                    if page == "python":
                        found = runtime_rate(student.model, poses, given.seconds)
                    elif page == "onnx":
                        task = {"model": f"/{name}.onnx", "poses": poses.tolist(), "seconds": given.seconds}
                        found = pages[page].evaluate(
                            "async (task) => (await import('/measure.js')).measureOnnx(task)", task
                        )
                    else:
                        task = {"engine": engine, "character": f"/characters/{student.file}", "options": options}
                        task |= {"poses": poses.tolist(), "still": still, "seconds": given.seconds}
                        if page == "served":
                            found = own.run_module(HERE / "measure.js", "measure", task)
                        else:
                            found = pages[page].evaluate(
                                "async (task) => (await import('/measure.js')).measure(task)", task
                            )
                    load = os.getloadavg()[0]
                    rounds.setdefault((name, label), []).append({**found, "load": load})
                    print(f"{name}, {label}: {found['fps']:.2f} frames a second ({found['detail']})", file=sys.stderr)
        chromium = plain.version
        costs = {name: cost(pages["gpu"], student.file) for name, student in opened.items()}
    rows = [summary(name, label, found) | about(chromium) for (name, label), found in rounds.items()]
    write_csv(given.out / "results.csv", rows)
    write_text(given.out / "costs.json", json.dumps(costs, indent=1) + "\n")
    write_text(given.out / "table.md", table(rows, costs))
    print(json.dumps(rows))


def cost(page: Page, file: str) -> dict[str, Any]:
    """A frame's multiply-adds and bytes on WebGPU, by the engine's own plan."""
    return page.evaluate(
        """async (address) => {
          const { fetchCharacter } = await import('/character.js');
          const { cost } = await import('/engines/webgpu_plan.js');
          return cost(await fetchCharacter(address), 'half').faceNew;
        }""",
        f"/characters/{file}",
    )


def about(chromium: str) -> dict[str, Any]:
    return {"chromium": chromium, "hardware": hardware("cpu"), "commit": commit()}


def summary(name: str, label: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row: medians over the rounds, and their spread."""
    rates = [one["fps"] for one in found]
    firsts = [one["first"] for one in found if one["first"] is not None]
    return {
        "student": name,
        "engine": label,
        "fps": round(statistics.median(rates), 2),
        "fps_least": round(min(rates), 2),
        "fps_most": round(max(rates), 2),
        "ms_median": round(statistics.median(one["ms"] for one in found), 1),
        "ms_p95": round(statistics.median(one["p95"] for one in found), 1),
        "first_frame_ms": round(statistics.median(firsts)) if firsts else "",
        "rounds": len(found),
        "frames": sum(one["frames"] for one in found),
        "load": round(max(one["load"] for one in found), 1),
        "detail": found[0]["detail"],
    }


def table(rows: list[dict[str, Any]], costs: dict[str, Any]) -> str:
    """table.md: what was measured here, and what graphics processors may be expected to do."""
    columns = ("student", "engine", "fps", "fps_least", "fps_most", "ms_median", "ms_p95", "first_frame_ms", "detail")
    parts = [
        "# The browser player's engines",
        "Generated by run.py: medians over rounds in which all were measured interleaved.",
    ]
    parts.append(markdown(list(columns), [[str(row[column]) for column in columns] for row in rows]))
    ratios = []
    for name in costs:
        rate = {row["engine"]: float(row["fps"]) for row in rows if row["student"] == name}
        if "native" in rate:
            ratios.append(
                f"- {name}: `native` gives {rate['native'] / rate['runtime=reduced']:.0%} of the runtime's own rate."
            )
        onnx = rate.get("ONNX Runtime Web, wasm")
        if onnx:
            ratios.append(
                f"- {name}: one WebAssembly worker is {rate['wasm, 1 worker'] / onnx:.1f} times as fast as ONNX Runtime Web."
            )
    parts.append("\n".join(ratios))
    parts.append("## What a graphics processor may be expected to do")
    parts.append(
        f"Frames a second at {SHARES[0]:.0%} to {SHARES[1]:.0%} of the stated float32 peak, two operations a multiply-add, "
        "the face changing in every frame; arithmetic, not measured."
    )
    lines = []
    for name, found in costs.items():
        for gpu, peak in GPUS.items():
            low, high = (share * peak * 1e12 / 2 / found["multiplyAdds"] for share in SHARES)
            lines.append(
                [
                    name,
                    f"{found['multiplyAdds'] / 1e9:.2f}",
                    f"{found['bytes'] / 1e6:.0f}",
                    gpu,
                    f"{low:.0f} to {high:.0f}",
                ]
            )
    parts.append(
        markdown(["student", "G multiply-adds", "MB moved", "processor (TFLOPS stated)", "frames a second"], lines)
    )
    row = rows[0]
    parts.append(
        f"Measured on {row['hardware']}, Chromium {row['chromium']}, commit {row['commit']}; "
        f"load at most {max(row['load'] for row in rows)}."
    )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
