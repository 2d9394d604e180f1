"""Results as pictures that can be read on light and on dark backgrounds."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import files, miss, original
from benchmarks.results import Report, Row, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Half-way between black and white, as seen; the background is transparent.
TEXT = "#7f858d"
OURS, OTHERS = "#2f81f7", "#9aa4b0"
STEPS = ("#d29922", "#bf8700", "#db6d28", "#c74e39")
FORMATS = ("svg", "png")
GROWTH = "growth"
GROWTH_TEXT = "How long a build, a mount and a first import take, by the files of an environment"
# Before where the chart is shown on a page.
GROWTH_MARKER = "<!-- growth -->"
LINES = {
    files.FIRST: STEPS[2],
    files.AGAIN: OURS,
    miss.ALONE: OTHERS,
    files.IMPORT: STEPS[0],
    files.MOUNT: STEPS[3],
    files.HIT: "#8957e5",
}


def draw(report: Report, directory: Path) -> list[Path]:
    """Write all charts whose rows were measured, and return their files."""
    import matplotlib as mpl

    mpl.use("agg")
    style = {"text.color": TEXT, "axes.labelcolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT}
    # No time and no random names in the SVG: the same figures give the same file.
    mpl.rcParams.update({**style, "svg.hashsalt": "condainer", "font.size": 10})
    rows = {row.key: row for row in report.rows if row.samples}
    written = []
    if {"unchanged", "miss"} <= set(rows):
        written += _figure(directory, "overview", [(_unchanged, rows), (_miss, rows)])
    if {"fresh_clone", "exec_mounted", "exec_unmounted"} <= set(rows):
        written += _figure(directory, "start-up", [(_start_up, rows)])
    if {"imports_warm", "imports_cold"} <= set(rows):
        written += _figure(directory, "imports", [(_warm, rows), (_cold, rows)])
    if "many_clients" in rows:
        written += _figure(directory, "clients", [(_clients, rows)])
    if kinds := files.by_kind(report.rows):
        *_, last = kinds
        panels = [(functools.partial(_grown, kind, kind == last), kinds[kind]) for kind in kinds]
        written += _figure(directory, GROWTH, panels)
    return written


def _figure(directory: Path, name: str, panels: Sequence[tuple[object, object]]) -> list[Path]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels), 2.9), squeeze=False)
    for (draw_panel, rows), one in zip(panels, axes[0], strict=True):
        draw_panel(one, rows)  # type: ignore[operator]
    figure.tight_layout()
    paths = [directory / f"{name}.{kind}" for kind in FORMATS]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, transparent=True, dpi=160, metadata=metadata)
    pyplot.close(figure)
    return paths


def _unchanged(axes: Axes, rows: dict[str, Row]) -> None:
    samples = sorted(rows["unchanged"].samples, key=lambda sample: sample.median)
    _bars(axes, samples, 1000, "ms", "Nothing changed")
    # conda-lock takes a hundred times as long; on a linear axis nothing else would be seen.
    axes.set_xscale("log")
    axes.set_xlim(1, samples[-1].median * 1000 * 4)


def _bars(axes: Axes, samples: Sequence[Sample], factor: float, unit: str, title: str) -> None:
    names = [sample.name for sample in samples]
    values = [sample.median * factor for sample in samples]
    colours = [OURS if name.startswith(("cnd", "squashfuse_ll")) else OTHERS for name in names]
    bars = axes.barh(names, values, color=colours)
    digits = 0 if max(values) > 100 else 1 if max(values) > 10 else 2
    axes.bar_label(bars, [f" {value:.{digits}f}" for value in values], color=TEXT)
    axes.set_xlim(0, max(values) * 1.18)
    _plain(axes, unit, title)


def _plain(axes: Axes, unit: str, title: str) -> None:
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left", fontsize=11)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TEXT)
    axes.tick_params(left=False)


def _miss(axes: Axes, rows: dict[str, Row]) -> None:
    row = rows["miss"]
    for place, (name, colour) in enumerate((("cnd build", OURS), ("mksquashfs alone", OTHERS))):
        value = row.sample(name).median
        axes.barh(name, value, color=colour)
        axes.text(value, place, f" {value:.1f}", va="center", color=TEXT)
    left = 0.0
    for step, colour in zip(original.STEPS, STEPS, strict=True):
        value = row.sample(f"original: {step}").median
        axes.barh("the original's steps", value, left=left, color=colour, label=step)
        left += value
    axes.text(left, 2, f" {left:.1f}", va="center", color=TEXT)
    axes.set_xlim(0, left * 1.15)
    _plain(axes, "s", "A miss")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _start_up(axes: Axes, rows: dict[str, Row]) -> None:
    named = {"fresh_clone": "cnd build, fresh clone", "exec_mounted": "cnd exec, mounted"}
    named["exec_unmounted"] = "cnd exec, not mounted"
    samples = [Sample(name, rows[key].samples[0].values) for key, name in named.items()]
    bare = rows["fresh_clone"].samples[-1]
    _bars(axes, [bare, *samples], 1000, "ms", "Start-up")


def _warm(axes: Axes, rows: dict[str, Row]) -> None:
    _bars(axes, rows["imports_warm"].samples, 1, "s", "Imports, warm")


def _cold(axes: Axes, rows: dict[str, Row]) -> None:
    _bars(axes, rows["imports_cold"].samples, 1, "s", "Imports, cold")


def _clients(axes: Axes, rows: dict[str, Row]) -> None:
    """Draw the time until the last of so many clients has its first import."""
    found: dict[str, list[tuple[int, float]]] = {}
    for sample in rows["many_clients"].samples:
        match = re.fullmatch(r"(.+), 2 ms, (\d+) clients", sample.name)
        if match:
            found.setdefault(match[1], []).append((int(match[2]), sample.median))
    for (name, points), colour in zip(found.items(), (OTHERS, STEPS[0], OURS), strict=False):
        clients, seconds = zip(*sorted(points), strict=True)
        axes.plot(clients, seconds, marker="o", color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({clients for points in found.values() for clients, _ in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    _lines(axes, "clients", "First import, 2 ms a question")
    axes.legend(frameon=False, fontsize=8)


def _lines(axes: Axes, what: str, title: str) -> None:
    axes.set_xlabel(what)
    axes.set_ylabel("s")
    axes.set_title(title, loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(TEXT)


def _grown(kind: str, last: bool, axes: Axes, rows: Sequence[Row]) -> None:
    """Draw how long things take, by the files of an environment; the last panel names the lines."""
    counts = [row.sample(files.COUNT).median for row in rows]
    for name, colour in LINES.items():
        seconds = [row.sample(name).median for row in rows]
        axes.plot(counts, seconds, marker="o", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{count:,.0f}".replace(",", " ") for count in counts])
    axes.minorticks_off()
    _lines(axes, "files", files.KINDS[kind])
    if last:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
