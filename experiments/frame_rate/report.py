"""Makes table.md and, where two trained sizes were measured, plot.png from the files that run.py wrote."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from peers import PEERS
from plot import draw

from thadistill.files import write_text
from thadistill.tables import ledger
from thadistill.tables.ledger import read_rows

HERE = Path(__file__).parent
Table = list[dict[str, str]]
SPEED = [
    *(
        "model",
        "runtime",
        "default_for",
        "dtype",
        "ms_median",
        "ms_p95",
        "ms_worst",
        "frames_a_second",
        "cpu_ms_median",
    ),
    *("times_eager", "first_frame_s", "psnr_to_eager", "grid_max_px", "peak_mb", "frames", "threads", "load", "commit"),
]
STUDENTS = [
    *("model", "width_scale", "body_widths", "body_sizes", "face_width", "face_depth", "size_mb", "character"),
    *("teacher", "recipe", "budget_minutes", "psnr_to_teacher", "fastest", "frames_a_second"),
]
# the goals, on two cores with AVX-512 or AMX
EXACT_DB, EXACT_TIMES = 70, 6
REDUCED_DB, REDUCED_TIMES = 45, 15
OWN_MB, OWN_RATE, OWN_LOSS_DB = 2, 30, 0.5
WARM_S = 10
ALIKE = ("character", "teacher", "recipe", "budget_minutes")
PAPER_BODY, PAPER_SIZES, PAPER_FACE = "360-180-90", "128-256-512", ("128", "8")


def markdown(rows: Sequence[Mapping[str, str]], columns: Sequence[str] | None = None) -> str:
    """A table of the columns that any row fills; all of them in their order, if none are named."""
    columns = columns or list(rows[0])
    columns = [column for column in columns if any(row.get(column) for row in rows)]
    return ledger.markdown(columns, [[row.get(column) or "" for column in columns] for row in rows])


def rate(row: Mapping[str, str]) -> float:
    """Frames a second at the median frame time."""
    return 1000 / float(row["ms_median"])


def fastest(rows: Table, fits: Callable[[dict[str, str]], bool] = lambda row: True) -> dict[str, str] | None:
    """The row of the smallest median frame time among those that fit."""
    return min(filter(fits, rows), key=lambda row: float(row["ms_median"]), default=None)


def is_papers(row: Mapping[str, str]) -> bool:
    """Whether the student has the paper's architecture."""
    face = (row["face_width"], row["face_depth"])
    return (row["body_widths"], row["body_sizes"], face) == (PAPER_BODY, PAPER_SIZES, PAPER_FACE)


def verdict(goal: str, found: str, holds: bool | None) -> dict[str, str]:
    """A line of the table of goals."""
    return {"goal": goal, "found": found, "holds": {True: "yes", False: "**no**", None: "open"}[holds]}


def ratio_verdict(rows: Table, what: str, decibels: float, times: float) -> dict[str, str]:
    """The first model's fastest runtime, exact or reduced, at ``decibels`` or more to eager, against ``times`` its rate.

    Exact is float32: a reduced runtime may come within ``decibels`` too, and does not count.
    """
    goal = f"{what}: at least {times:g} times eager, at {decibels:g} dB or more to it"
    model = rows[0]["model"]

    def fits(row: dict[str, str]) -> bool:
        named = (row["dtype"] == "float32") == (what == "exact") and row["runtime"] != "eager"
        return named and row["model"] == model and bool(row["times_eager"]) and float(row["psnr_to_eager"]) >= decibels

    best = fastest(rows, fits)
    if best is None:
        return verdict(goal, "not measured", None)
    found = f"{best['times_eager']} times ({model}, {best['runtime']}, {best['psnr_to_eager']} dB)"
    return verdict(goal, found, float(best["times_eager"]) >= times)


def own_verdict(rows: Table) -> dict[str, str]:
    """The best student of ours at the goal size and rate, against the paper's architecture trained alike."""
    goal = (
        f"a student trained here, {OWN_MB:g} MB at most: {OWN_RATE:g} frames a second, within {OWN_LOSS_DB:g} dB of the "
        "paper's architecture trained alike"
    )
    trained = [row for row in rows if row.get("psnr_to_teacher") and float(row["size_mb"]) <= OWN_MB]
    compared = []
    for row in trained:
        references = [
            float(other["psnr_to_teacher"])
            for other in rows
            if other.get("psnr_to_teacher") and is_papers(other) and all(other[key] == row[key] for key in ALIKE)
        ]
        if references:
            compared.append((max(references) - float(row["psnr_to_teacher"]), row))
    if not compared:
        return verdict(goal, "no other student was measured with the paper's architecture trained alike", None)
    near = [row for loss, row in compared if loss <= OWN_LOSS_DB] or [min(compared, key=lambda pair: pair[0])[1]]
    best = fastest(near)
    assert best is not None
    loss = next(loss for loss, row in compared if row is best)
    side = "below" if loss > 0 else "above"
    by = f"{best['model']}, {best['runtime']}, itself {best['psnr_to_eager']} dB to eager"
    found = f"{rate(best):.1f} a second, {abs(loss):.2f} dB {side} ({by})"
    return verdict(goal, found, rate(best) >= OWN_RATE and loss <= OWN_LOSS_DB)


def startup_verdict(rows: Table) -> dict[str, str]:
    """The slower of the runtimes that are chosen by themselves."""
    goal = f"importing and the first frame with warm caches: under {WARM_S:g} s"
    slowest = max((row for row in rows if row["default_for"]), key=lambda row: float(row["warm_total_s"]), default=None)
    if slowest is None:
        return verdict(goal, "not measured", None)
    seconds = float(slowest["warm_total_s"])
    found = f"{seconds:.1f} s ({slowest['runtime']}, chosen for {slowest['default_for']})"
    return verdict(goal, found, seconds < WARM_S)


def students_table(rows: Table) -> str:
    """One row per student, with its fastest runtime."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        best = fastest([row for row in rows if row["model"] == model])
        assert best is not None
        lines.append({**best, "fastest": best["runtime"], "frames_a_second": f"{rate(best):.1f}"})
    return markdown(lines, STUDENTS)


def startup_part(startup: Table, speeds: Table) -> list[str]:
    """The table of start-ups; what compiling costs against folded, and after how many frames it has paid."""
    medians = {row["runtime"]: float(row["ms_median"]) for row in speeds if row["model"] == startup[0]["model"]}
    folded = next((row for row in startup if row["runtime"] == "folded"), None)
    for row in startup:
        if folded is None or row is folded or not {"folded", row["runtime"]} <= set(medians):
            continue
        # without imports, which are the same and whose times vary by more than some runtimes cost
        extra = sum(float(row[part]) - float(folded[part]) for part in ("cold_compile_model_s", "cold_first_frame_s"))
        gained = (medians["folded"] - medians[row["runtime"]]) / 1000
        row["pays_after_frames"] = "0" if extra <= 0 < gained else f"{extra / gained:.0f}" if gained > 0 else "never"
    parts = [
        "## Start-up",
        "Seconds of a fresh process, from its start to the first 8-bit frame: the interpreter and imports, loading the "
        "model folder, `compile_model`, the first frame. *Cold*: this package's caches and torch.compile's are empty (of "
        "the system's file cache nothing is dropped); *warm*: the same again. `pays_after_frames`: so many frames after a "
        "cold start the runtime has made up what its compiling and first frame cost over `folded`'s, at the frame times "
        "above.",
        markdown(startup),
    ]
    chosen = [
        f"`{row['runtime']}` for {row['default_for'].replace(' ', ' and ')}" for row in startup if row["default_for"]
    ]
    if folded is not None:
        cold, warm = float(folded["cold_total_s"]), float(folded["warm_total_s"])
        parts.append(
            f"`folded` needs no compiling: its first frame came {cold:.1f} s after a cold start, {warm:.1f} s after a warm "
            "one. It is what `exact` and `reduced` choose where there is no C++ compiler; here they chose "
            f"{', '.join(chosen) or 'none of these'}."
        )
    return parts


def track_part(track: Table) -> list[str]:
    """The table of the recorded track."""
    for row in track:
        if row.get("flicker_to_teacher_levels") and float(row["teacher_change_levels"]) > 0:
            share = float(row["flicker_to_teacher_levels"]) / float(row["teacher_change_levels"])
            row["flicker_share"] = f"{share:.2f}"
    quality = [
        *("model", "runtime", "teacher", "own_teacher", "teacher_pairs", "flicker_to_teacher_levels"),
        *("teacher_change_levels", "flicker_share", "student_change_levels", "psnr_to_teacher"),
        *("flicker_to_exact_levels", "flicker_frames"),
    ]
    speed = [column for column in track[0] if column not in quality[2:]]
    parts = [
        "## Recorded track",
        "Every pose of it in order, as fast as it goes (recorded at 20 a second), up to 8-bit RGBA; `frames_a_second` is "
        "frames over the whole time, `worst_at` the slowest frame's place, `repeated_poses` equal the one before and cost "
        "nothing.",
        markdown(track, speed),
    ]
    if any(row.get(column) for row in track for column in quality[5:]):
        parts += [
            "What flickers, composited on white, in 8-bit levels, means over pixels and steps. "
            "`flicker_to_teacher_levels`: |change of the student - change of the teacher| over pairs of successive frames "
            "spread over the track. A picture that never moved would have `teacher_change_levels`; `flicker_share` is the "
            "ratio. `psnr_to_teacher`: network space, on the frames of those pairs. `own_teacher`: whether this teacher "
            "trained the student; where it is empty the folder does not say, and the figures hold the difference between "
            "two teachers too. `flicker_to_exact_levels`: against the exact runtime, over the track's first "
            "`flicker_frames`.",
            markdown(track, quality),
        ]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="the folder that run.py wrote to")
    out = parser.parse_args().out
    rows, region, track, startup = (
        read_rows(out / f"{name}.csv") for name in ("results", "region", "track", "startup")
    )
    if not rows:
        raise SystemExit(f"{out / 'results.csv'} is missing; run run.py first")
    own = [row for row in rows if row["runtime"] not in PEERS]  # another's engine reaches no goal of ours
    goal = [
        ratio_verdict(own, "exact", EXACT_DB, EXACT_TIMES),
        ratio_verdict(own, "reduced", REDUCED_DB, REDUCED_TIMES),
        own_verdict(own),
        startup_verdict(startup),
    ]
    shown = [{**row, "frames_a_second": f"{rate(row):.1f}"} for row in rows]
    paper = read_rows(HERE / "paper.csv")
    parts = [
        "# Frame rate",
        "Generated by report.py. Milliseconds per frame, batch 1, from pose to 8-bit straight RGBA of 512x512, runtimes "
        "timed interleaved in one process; `frames_a_second` at the median; `times_eager` is the ratio of medians; "
        "`psnr_to_eager` the mean of per-image PSNR in network space over poses that nothing was made from (cap: 100); "
        "`grid_max_px` the largest difference of any grid change, in pixels; `cpu_ms_median` the processor time of all "
        "threads; `load` the system's load average, on a machine that other work shared; `default_for` the names that chose "
        f"this runtime there. {', '.join(f'`{peer}`' for peer in PEERS)}: other people's engines (peers.py).",
        f"Measured on {'; '.join(dict.fromkeys(row['hardware'] for row in rows))}.",
        markdown(goal),
        markdown(shown, SPEED),
        "The paper's figures, on its GPUs (T2, T4, T6):",
        markdown(paper),
    ]
    parts += startup_part(startup, own) if startup else []
    if region:
        parts += [
            "## Skipped tiles",
            "Share of pixels computed, and how many of n poses the region was not made from paint anything (more than half "
            "an 8-bit level) in a skipped tile; the worst in 8-bit levels.",
            markdown(region),
        ]
    parts += track_part(track) if track else []
    parts += [
        "## Quality against frame time",
        "`psnr_to_teacher`: as the student's training evaluated it (the exact runtime, evaluation poses, network space); "
        "what a runtime takes from it is its `psnr_to_eager`. Students compare where character and teacher are the same.",
        students_table(own),
        "![quality against frame time](plot.png)"
        if draw(own, out / "plot.png")
        else "Fewer than two trained students were measured: no plot.",
    ]
    write_text(out / "table.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
