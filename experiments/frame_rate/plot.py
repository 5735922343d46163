"""Plot: quality over frame time of every student, a colour a runtime."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from thadistill.sweeps.pareto import pareto_front

Row = dict[str, str]
# Okabe and Ito's palette, distinguishable for colour-blind readers; the same colour in every plot
COLORS = {
    **{"eager": "#7f7f7f", "folded": "#56b4e9", "onnx": "#cc79a7"},
    **{"native": "#009e73", "int16": "#e69f00"},
}
TARGET_MS = 1000 / 30
LABEL_GAP = 13.0  # points between the base lines of two labels


def draw(rows: list[Row], path: Path) -> bool:
    """Writes the plot; False, and no plot, where fewer than two students have a quality."""
    rated = [row for row in rows if row.get("psnr_to_teacher")]
    students = {row["model"]: float(row["psnr_to_teacher"]) for row in rated}
    if len(students) < 2:
        path.unlink(missing_ok=True)
        return False
    times = [float(row["ms_median"]) for row in rated]
    figure, axes = pyplot.subplots(figsize=(9, 4.2 + 0.22 * max(0, len(students) - 6)), layout="constrained")
    left = min(*times, TARGET_MS / 1.2) / 1.35
    axes.set_xscale("log")
    axes.set_xlim(left, max(*times, 1.2 * TARGET_MS) * 1.35)
    low, high = min(students.values()), max(students.values())
    margin = max(0.3, 0.12 * (high - low))
    axes.set_ylim(low - margin, high + margin)
    axes.axvspan(left, TARGET_MS, color="#009e73", alpha=0.06, linewidth=0)
    axes.axvline(TARGET_MS, color="#444444", linestyle="--", linewidth=1)
    axes.annotate(
        "30 frames a second",
        (TARGET_MS, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -4),
        textcoords="offset points",
        ha="left",
        va="top",
        rotation=90,
        fontsize=8,
        color="#444444",
    )
    for quality in students.values():
        axes.axhline(quality, color="#dddddd", linewidth=0.8, zorder=0)
    for runtime in [name for name in COLORS if any(row["runtime"] == name for row in rated)]:
        _runtime(axes, [row for row in rated if row["runtime"] == runtime], runtime)
    _labels(axes, {row["model"]: row for row in rated})
    axes.set_xlabel("milliseconds per frame, from pose to 8-bit RGBA (median)")
    axes.set_ylabel("PSNR to the teacher (dB)")
    ticks = [
        tick
        for tick in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
        if left <= tick <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(COLORS), frameon=False, fontsize=9, handletextpad=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True


def _runtime(axes: Axes, rows: list[Row], runtime: str) -> None:
    """A runtime's points, and a line through those that no other student beats in both."""
    times = [float(row["ms_median"]) for row in rows]
    quality = [float(row["psnr_to_teacher"]) for row in rows]
    front = sorted(
        (ms, decibels) for ms, decibels, best in zip(times, quality, pareto_front(quality, times), strict=True) if best
    )
    color = COLORS[runtime]
    axes.plot(*zip(*front, strict=True), color=color, linewidth=1.3, alpha=0.55, zorder=2)
    axes.scatter(times, quality, s=42, color=color, edgecolor="white", linewidth=0.8, label=runtime, zorder=3)


def _labels(axes: Axes, students: dict[str, Row]) -> None:
    """Each student's name and size at the right edge, at its quality, moved apart where they would touch."""
    axes.figure.canvas.draw()  # places the axes, so that data coordinates have pixels
    points = 72 / axes.figure.dpi
    ranked = sorted(students.items(), key=lambda item: float(item[1]["psnr_to_teacher"]))
    places = [axes.transData.transform((1, float(row["psnr_to_teacher"])))[1] * points for _, row in ranked]
    for (name, row), place, moved in zip(ranked, places, apart(places, LABEL_GAP), strict=True):
        axes.annotate(
            f"{name}  (×{float(row['width_scale']):g}, face {row['face_width']}, {float(row['size_mb']):.2f} MB)",
            (1, float(row["psnr_to_teacher"])),
            xycoords=("axes fraction", "data"),
            xytext=(18, moved - place),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#222222",
            # to the middle of the text's left side
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkB": 0},
        )


def apart(places: list[float], gap: float) -> list[float]:
    """The nearest places, in squares, to the given ascending ones that are ``gap`` apart: groups stay centred."""
    # without the gaps the result must only ascend, so that neighbours out of order share their mean
    groups: list[list[float]] = []
    for i, place in enumerate(places):
        groups.append([place - i * gap])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    flat = [fmean(group) for group in groups for _ in group]
    return [place + i * gap for i, place in enumerate(flat)]
