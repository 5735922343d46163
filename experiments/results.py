"""Results page: makes README.md of this folder from the results of its subfolders: each claim, its figure, its command.

    python experiments/results.py

The README's figures are these: tests/experiments/test_results_page.py fails when it says others.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thadistill.files import write_text
from thadistill.tables.ledger import markdown, read_rows

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """A measured value as it is said, its spread, and where it was measured."""

    said: str
    spread: str = "one run"
    hardware: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the project.

    Args:
        what: the claim, as the page has it.
        folder: of experiments/, which says more.
        command: that measures it.
        figure: reads it from what the command wrote.
        readme: the words around it in the project's README, {} for the figure; None where that does not have it.
    """

    what: str
    folder: str
    command: str
    figure: Callable[[], Figure]
    readme: str | None = None


def row_of(file: str, **wanted: str) -> dict[str, str]:
    """The last row of a CSV file that has these values.

    Raises: LookupError when there is none.
    """
    rows = [row for row in read_rows(HERE / file) if all(row[key] == value for key, value in wanted.items())]
    if not rows:
        raise LookupError(f"{file} has no row of {wanted}")
    return rows[-1]


def where(row: Mapping[str, Any]) -> dict[str, str]:
    """Machine and commit of a row."""
    return {"hardware": str(row.get("hardware", "")), "commit": str(row.get("commit", ""))}


def distilled(name: str) -> Callable[[], Figure]:
    """PSNR at the end of a run of distill_speed."""

    def read() -> Figure:
        row = row_of("distill_speed/results.csv", name=name, at="end")
        return Figure(f"{float(row['psnr']):.1f} dB", **where(row))

    return read


def first_result(key: str) -> Callable[[], Figure]:
    """A figure of the run that the README's picture shows."""

    def read() -> Figure:
        metrics = json.loads((HERE / "first_result/metrics.json").read_text())
        about = {key: metrics.get("environment", metrics).get(key, "") for key in ("hardware", "commit")}
        unit = {"size_mb": "MB"}.get(key, "dB")
        return Figure(f"{metrics[key]:.1f} {unit}", **about)

    return read


def published() -> Figure:
    """The paper's students."""
    values = [float(row["psnr"]) for row in read_rows(HERE / "table5_student_quality/paper.csv")]
    return Figure(
        f"{min(values):.1f} to {max(values):.1f} dB", "three characters", "one A6000, 30 hours", "the paper, table 5"
    )


def seeds() -> Figure:
    """Five minutes of the plain command with several seeds."""
    rows = [row for row in read_rows(HERE / "distill_speed/results.csv") if row["name"].startswith("warm5_seed")]
    ends = [float(row["psnr"]) for row in rows if row["at"] == "end"]
    spread = f"standard deviation {statistics.stdev(ends):.2f} over {len(ends)} seeds"
    return Figure(f"{statistics.mean(ends):.1f} dB", spread, **where(rows[-1]))


def frame_rate(engine: str, student: str) -> Callable[[], Figure]:
    """Frames a second of an engine of the browser player."""

    def read() -> Figure:
        row = row_of("web_player/results.csv", student=student, engine=engine)
        spread = f"{float(row['fps_least']):.1f} to {float(row['fps_most']):.1f} in {row['rounds']} rounds"
        return Figure(f"{float(row['fps']):.1f} frames a second", spread, **where(row))

    return read


def web_ratio(student: str) -> Figure:
    """How many times faster WebAssembly is than ONNX Runtime Web, in one run."""
    mine = row_of("web_player/results.csv", student=student, engine="wasm, 1 worker")
    theirs = row_of("web_player/results.csv", student=student, engine="ONNX Runtime Web, wasm")
    ratio = float(mine["fps"]) / float(theirs["fps"])
    return Figure(f"{ratio:.1f} times", f"medians of {mine['rounds']} rounds", **where(mine))


def track(student: str) -> Figure:
    """The recorded track, played from end to end."""
    row = row_of("frame_rate/track.csv", model=student, runtime="reduced")
    return Figure(f"{float(row['frames_a_second']):.0f} frames a second", f"{row['frames']} poses", **where(row))


def latency() -> Figure:
    """From a tracker's packet to the frame that shows it."""
    row = row_of("latency/results.csv", student="slim", sink="frame in memory")
    spread = f"p95 {float(row['ms_p95']):.0f} ms at {float(row['fps']):.0f} frames a second"
    return Figure(f"{float(row['ms_median']):.0f} ms", spread, **where(row))


def native(student: str) -> Figure:
    """The rate of frames that arrive in a page from the Python runtime, as a share of the runtime's own, in one run."""
    mine, own = (
        row_of("web_player/results.csv", student=student, engine=engine) for engine in ("native", "runtime=reduced")
    )
    return Figure(f"{float(mine['fps']) / float(own['fps']):.0%}", f"medians of {mine['rounds']} rounds", **where(mine))


def wrong(name: str, unit: str) -> Callable[[], Figure]:
    """What a run of reliability/ counted."""

    def read() -> Figure:
        rows = read_rows(HERE / f"reliability/{name}.csv")
        counted, bad = (sum(int(float(row[key])) for row in rows) for key in (unit, "wrong"))
        return Figure(f"{bad} of {counted}", f"seed {rows[0]['seed']}", **where(rows[0]))

    return read


def rerun(name: str) -> str:
    """The command of a run of distill_speed, from what its row says of it."""
    given = dict(
        part.split("=", 1) for part in row_of("distill_speed/results.csv", name=name, at="end")["overrides"].split()
    )
    minutes, keep = (f"{float(given.pop(key)):g}" for key in ("budget_minutes", "keep_every"))
    rest = "".join(f" {key}={value}" for key, value in given.items())
    return f"python experiments/distill_speed/run.py {name} --minutes {minutes} --keep {keep}{rest}"


WEB = "python experiments/web_player/run.py paper=DIR slim=DIR"
CLAIMS = (
    Claim(
        "`thadistill distill`: ten minutes on two CPU cores, lambda_00",
        *("first_result", "thadistill distill", first_result("psnr")),
        "Ten minutes on two CPU cores (Zen 5) give **{}** PSNR",
    ),
    Claim(
        "a picture that does not move, against the teacher",
        *("first_result", "thadistill distill", first_result("psnr_unmoved"), "against {} for a picture that does not move"),
    ),
    Claim("the student's size", "first_result", "thadistill distill", first_result("size_mb"), "a **student of {}**"),
    Claim("the paper's students", "table5_student_quality", "", published, "The paper's students have {} after 30 hours"),
    Claim(
        "five minutes, lambda_00",
        *("distill_speed", rerun("warm5"), distilled("warm5"), "Five minutes give {}."),
    ),
    Claim(
        "five minutes, crypko_00",
        *("distill_speed", rerun("warm5_crypko_00"), distilled("warm5_crypko_00")),
        "On crypko_00 five minutes give {}",
    ),
    Claim(
        "five minutes, crypko_00, `student=slim`",
        *("distill_speed", rerun("slim_warm5_crypko_00")),
        *(distilled("slim_warm5_crypko_00"), "or {} with `student=slim`"),
    ),
    Claim(
        "five minutes, lambda_00, on a slower machine",
        *("distill_speed", rerun("warm5_seed0"), seeds),
        "On a machine with AVX2 only (Zen 3) five minutes give {} on lambda_00",
    ),
    Claim(
        "a recorded track of 250 seconds, `student=slim`, `runtime=reduced`",
        *("frame_rate", "python experiments/frame_rate/run.py slim_15min --track FILE", lambda: track("slim_15min")),
    ),
    Claim(
        "in the browser by WebAssembly, one worker, `student=slim`",
        *("web_player", WEB, frame_rate("wasm, 1 worker", "slim")),
    ),
    Claim("the same, the paper's size", "web_player", WEB, frame_rate("wasm, 1 worker", "paper")),
    Claim("WebAssembly against ONNX Runtime Web, the paper's size", "web_player", WEB, lambda: web_ratio("paper")),
    Claim("WebAssembly against ONNX Runtime Web, `student=slim`", "web_player", WEB, lambda: web_ratio("slim")),
    Claim("`native` in a page against the runtime itself, the paper's size", "web_player", WEB, lambda: native("paper")),
    Claim("the same, `student=slim`", "web_player", WEB, lambda: native("slim")),
    Claim(
        "from a tracker's packet to its frame, `student=slim`, median",
        *("latency", "python experiments/latency/run.py slim/character_model", latency),
    ),
    *(
        Claim(what, "reliability", f"python experiments/reliability/{name}.py", wrong(name, unit))
        for what, name, unit in (
            ("spoiled files that a loader takes wrongly", "fuzz", "inputs"),
            ("random pictures that are read wrongly", "pictures", "pictures"),
            ("`kill -9` that harm what is kept, or leave a process", "kills", "kills"),
            ("full disks that harm what is kept, or end in more than a line", "disks", "disks"),
        )
    ),
)  # fmt: skip


def date_of(commit: str) -> str:
    """The day of a commit; empty where git does not know it."""
    command = ["git", "show", "-s", "--format=%ad", "--date=short", commit.rstrip("+")]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def page() -> str:
    """README.md of this folder."""
    lines = []
    for claim in CLAIMS:
        figure = claim.figure()
        about = figure.commit + (f", {day}" if (day := date_of(figure.commit) if figure.commit else "") else "")
        command = f"`{claim.command}`" if claim.command else ""
        folder = f"[{claim.folder}]({claim.folder})"
        lines.append([claim.what, f"**{figure.said}**", figure.spread, folder, command, figure.hardware, about])
    folders = sorted(path.parent for path in HERE.glob("*/README.md"))
    listed = [f"- [{path.name}]({path.name}): {title(path)}" for path in folders]
    return (
        "\n\n".join(
            [
                "# Results",
                "Generated by [results.py](results.py) from what the commands wrote; nobody types a figure. PSNR is the "
                "mean over evaluation poses of per-image PSNR in network space. Failures, and what decided the recipe: "
                "[LOG.md](LOG.md).",
                markdown(["claim", "figure", "spread", "folder", "command", "machine", "commit"], lines),
                "## Folders",
                "\n".join(listed),
            ]
        )
        + "\n"
    )


def title(folder: Path) -> str:
    """The heading of a folder's README."""
    return (folder / "README.md").read_text().splitlines()[0].lstrip("# ")


if __name__ == "__main__":
    write_text(HERE / "README.md", page())
