"""Collection: a folder of runs, failed ones too, as results.csv, table.md and a plot of quality against frame time."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thadistill.config.overrides import unquoted
from thadistill.errors import UserError
from thadistill.files import read_json, write_bytes, write_csv, write_text
from thadistill.sweeps.pareto import pareto_front

QUALITY, COST = "psnr", "student_ms"  # the plot's axes
SPEED_KEYS = ("student_ms", "student_fps", "student_cpu_ms", "teacher_ms", "runtime", "threads", "load")
ABOUT_KEYS = ("module", "character", "teacher", "recipe", "seed", "budget_minutes", "minutes", "size_mb")
STATE_KEYS = ("status", "error", "pareto")
_TABLE_FIGURES = (QUALITY, "face_psnr", "eye_mouth_psnr", "flow_epe_px", "size_mb", COST, "student_fps")
_RECORDS = ("job.json", "run.json", "metrics.json")


def quality_keys() -> tuple[str, ...]:
    """The figures of a student against its teacher; torchmetrics takes seconds to import."""
    from thadistill.metrics.collection import QUALITY_KEYS

    return tuple(QUALITY_KEYS)


def read_runs(folder: str | Path) -> list[dict[str, Any]]:
    """A row for every run below ``folder``, sorted by its place; all rows have the same keys.

    ``run`` is the place below ``folder``; ``status`` is done, failed or unfinished, with ``error`` in one line; then a
    column for each override that any run was given (as typed, without ``character=`` and the like repeated by the
    figures), the figures of ``metrics.json``, and ``pareto``: whether the run is on the
    front of QUALITY against COST among those of its character. What a run does not have is None.

    Raises: UserError when there is no run.
    """
    folder = Path(folder)
    places = sorted({path.parent for name in _RECORDS for path in folder.rglob(name) if "wandb" not in path.parts})
    places = [place for place in places if not {*place.parents} & {*places}]  # a run's own trainings are no runs
    runs = [(place, *_read(place)) for place in places]
    if not runs:
        raise UserError(f"{folder} holds no run; expected folders with metrics.json, such as a sweep leaves")
    named = {key for _, overrides, _ in runs for key in overrides} - {"out", "hparams_search", *ABOUT_KEYS}
    rows = []
    for place, overrides, about in runs:
        row: dict[str, Any] = {"run": str(place.relative_to(folder))}
        row |= {key: overrides.get(key) for key in sorted(named)}
        row |= {key: about.get(key, overrides.get(key)) for key in (*ABOUT_KEYS, *quality_keys(), *SPEED_KEYS)}
        rows.append({**row, "status": about["status"], "error": about["error"]})
    on_front = {row["run"] for group in by_character(rows).values() for row in _front(group)}
    return [{**row, "pareto": row["run"] in on_front} for row in rows]


def by_character(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by character: students of different ones are no alternatives, and PSNRs of different pictures no contest."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("character")), []).append(row)
    return dict(sorted(groups.items()))


def _front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    on = pareto_front([row[QUALITY] for row in rows], [row[COST] for row in rows])
    return [row for row, is_on in zip(rows, on, strict=True) if is_on]


def _read(place: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """A run's overrides, and what its records say of it."""
    records: dict[str, dict[str, Any]] = {}
    damaged = None
    for name in _RECORDS:
        try:
            records[name] = _checked(read_json(place / name))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError):
            damaged = f"{name} is damaged"
    job, metrics = records.get("job.json", {}), records.get("metrics.json", {})
    given = metrics.get("overrides") or job.get("overrides") or []
    typed = (str(item).lstrip("+~").partition("=") for item in given)
    overrides = {key: unquoted(value) for key, _, value in typed}
    about = dict(metrics)
    about.setdefault("minutes", job.get("minutes"))
    if "steps" in metrics:
        about["minutes"] = round(sum(step["minutes"] for step in metrics["steps"]), 3)
    failed = job.get("status") == "failed" or damaged is not None
    about["status"] = "failed" if failed else "done" if metrics else "unfinished"
    about["error"] = damaged or (job.get("error") if failed else None)
    return overrides, about


def _checked(content: Any) -> dict[str, Any]:
    """A record whose figures are numbers, as far as rows are made of them.

    Raises: ValueError, TypeError or KeyError where it is damaged.
    """
    if not isinstance(content, dict) or not isinstance(content.get("overrides") or [], list):
        raise TypeError("no record")
    for key in ("minutes", "size_mb", "budget_minutes", *quality_keys(), "student_ms", "student_fps"):
        if content.get(key) is not None and not abs(content[key]) <= sys.float_info.max:
            raise TypeError(key)
    if "steps" in content and not all(0 <= step["minutes"] <= sys.float_info.max for step in content["steps"]):
        raise ValueError("steps")
    return content


def collect(folder: str | Path, out: str | Path | None = None) -> list[dict[str, Any]]:
    """Writes ``results.csv``, ``table.md`` and, where two figures are there to draw, ``pareto.png``; returns the rows.

    ``out`` is ``folder`` unless given. Raises: UserError when there is no run, or ``out`` cannot be written.
    """
    rows = read_runs(folder)
    out = Path(folder if out is None else out)
    drawn = any(row[QUALITY] is not None and row[COST] is not None for row in rows)
    write_csv(out / "results.csv", rows)
    picture = "\n![quality against frame time](pareto.png)\n" if drawn else ""
    write_text(out / "table.md", f"{markdown_table(rows)}\n{picture}")
    if drawn:
        pareto_plot(rows, out / "pareto.png")
    return rows


def varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns, other than figures, in which rows differ: what a sweep was over."""
    figures = {"run", "minutes", "size_mb", *quality_keys(), *SPEED_KEYS, *STATE_KEYS}
    given = [key for key in rows[0] if key not in figures]
    return [key for key in given if len({str(row[key]) for row in rows if row[key] is not None}) > 1]


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table, best quality first; ``columns``: what varies, the main figures, the state, unless given."""
    if columns is None:
        names = [*(varying(rows) or ["run"]), *_TABLE_FIGURES, "status"]
        columns = [name for name in names if name == "status" or any(row[name] is not None for row in rows)]
        if len(varying(rows)) == 1 and "module" in columns:
            columns = ["run", *columns]
    ranked = sorted(rows, key=lambda row: (row.get(QUALITY) is None, -(row.get(QUALITY) or 0.0), str(row.get("run"))))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row, name) for name in columns) + " |" for row in ranked]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if name == "status":
        error = row.get("error")
        text = f"failed: {error}" if error else str(value)
        value = text + (", Pareto front" if row.get("pareto") else "")
    if value is None:
        return "-"
    return (f"{value:.3f}" if isinstance(value, float) else str(value)).replace("|", "\\|")


def pareto_plot(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Quality against frame time, a colour and a Pareto front a character; runs without both are left out."""
    from matplotlib.figure import Figure  # a second to import, and only plots need it

    shown = [row for row in rows if row.get(QUALITY) is not None and row.get(COST) is not None]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, group in by_character(shown).items():
        points = axes.scatter([row[COST] for row in group], [row[QUALITY] for row in group], label=name)
        front = sorted((row[COST], row[QUALITY]) for row in _front(group))
        axes.plot(*zip(*front, strict=True), color=points.get_facecolor()[0], linewidth=1, marker="o", markersize=11,
                  fillstyle="none", label=f"{name}, Pareto front")  # fmt: skip
    differ = [key for key in varying(shown) if key != "character"]
    for index, group in enumerate(by_character(shown).values()):
        above = 7 if index % 2 == 0 else -13  # characters' points often lie close together
        for row in group if len(shown) <= 12 else _front(group):
            label = ", ".join(f"{key.split('.')[-1]} {row[key]!s:.5}" for key in differ)
            axes.annotate(label, (row[COST], row[QUALITY]), xytext=(0, above), textcoords="offset points",
                          horizontalalignment="center", fontsize=7, color="0.3")  # fmt: skip
    axes.set_xlabel("frame time of the student (ms)")
    axes.set_ylabel("PSNR to the teacher (dB)")
    axes.margins(0.15)
    axes.grid(color="0.9")
    axes.legend(frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    write_bytes(Path(path), file.getvalue())
