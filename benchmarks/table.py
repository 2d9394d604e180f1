"""Results as Markdown and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.results import Claim, Report, Row, Sample

BEGIN, END = "<!-- measured -->", "<!-- end -->"


def read_json(path: Path) -> Report:
    """Return what write_json() wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    pairs = {key: tuple(tuple(pair) for pair in found[key]) for key in ("machine", "versions")}
    return Report(**{**found, **pairs, "rows": tuple(_row(row) for row in found["rows"])})


def _row(found: dict[str, Any]) -> Row:
    samples = (Sample(**{**one, "values": tuple(one["values"])}) for one in found["samples"])
    claims = (Claim(**one) for one in found["claims"])
    return Row(**{**found, "samples": tuple(samples), "claims": tuple(claims)})


def merged(old: Report, new: Report) -> Report:
    """Return a report with the rows of a later run in the place of those of the same keys.

    They say when and where they were measured.
    """
    facts = dict(new.machine)
    where = f"{new.date}, {facts['processor']}, load before the run {facts['load before the run']}"
    rows = {row.key: row for row in old.rows}
    for row in new.rows:
        rows[row.key] = replace(row, note="; ".join(filter(None, (row.note, where))))
    return replace(old, rows=tuple(rows.values()))


def write_json(report: Report, path: Path) -> None:
    """Write everything that was measured, each single value included."""
    path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


def markdown(report: Report) -> str:
    """Return the table of goals, that of all samples, and where they come from."""
    made = ", ".join(f"{name} {value}" for name, value in report.versions)
    where = "; ".join(f"{name}: {value}" for name, value in report.machine)
    kind = "`make bench-quick`" if report.quick else "`make bench`"
    return "\n".join(
        [
            f"{kind}, {report.date}, {report.seconds / 60:.0f} minutes. {where}. {made}.",
            "",
            *goals(report.rows),
            "",
            "All samples: medians, with the least and the most.",
            "",
            *samples(report.rows),
        ]
    )


def goals(rows: tuple[Row, ...]) -> list[str]:
    """Return the lines of the table of goals beside what was measured."""
    lines = ["| what | goal | measured | |", "| --- | --- | --- | --- |"]
    for row in rows:
        for number, claim in enumerate(row.claims):
            what = row.what if number == 0 else ""
            verdict = "met" if claim.met else "**not met**"
            lines.append(f"| {what} | {claim.goal} | {claim.shown} | {verdict} |")
        if row.problem:
            what = "" if row.claims else row.what
            lines.append(f"| {what} | | not measured: {_one_line(row.problem)} | **failed** |")
    return lines


def samples(rows: tuple[Row, ...]) -> list[str]:
    """Return the lines of the table of all samples."""
    lines = [
        "| what | contender | median | least – most | runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for number, sample in enumerate(row.samples):
            note = f" ({row.note})" if row.note else ""
            what = row.what + note if number == 0 else ""
            spread = f"{shown(sample, sample.least)} – {shown(sample, sample.most)}"
            median = shown(sample, sample.median)
            lines.append(f"| {what} | {sample.name} | {median} | {spread} | {len(sample.values)} |")
    return lines


def shown(sample: Sample, value: float) -> str:
    """Return a value of a sample with its unit, in milliseconds where that reads better."""
    if sample.unit != "s":
        digits = ".0f" if value >= 1000 else ".4g"
        return f"{value:{digits}} {sample.unit}".strip()
    return f"{value * 1000:.1f} ms" if sample.median < 1 else f"{value:.2f} s"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")[:300]


def put_between_markers(path: Path, text: str, marker: str = BEGIN) -> None:
    """Replace what stands between the markers of a file; `marker` is the first of them."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(marker)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no {marker} … {END}")
    path.write_text(f"{before}{marker}\n{text}\n{END}{after}", encoding="utf-8")
