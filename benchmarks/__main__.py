"""The command line: `python -m benchmarks [--quick] [--only KEY...]`."""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    bulk,
    charts,
    crowd,
    elsewhere,
    files,
    forge,
    imports,
    job,
    locking,
    miss,
    registry,
    slow_network,
    startup,
    table,
)
from benchmarks.machine import machine, versions
from benchmarks.place import ROOT, TOP, Place, ensure_place
from benchmarks.results import Report, Row

Measurement = Callable[[Place], Row | Sequence[Row]]


def _miss_and_size(place: Place) -> Sequence[Row]:
    row = miss.miss(place)
    return row, miss.size(row)


DOCS = TOP / "docs" / "benchmarks"
# Where the chart of growth is shown, and where that is, as seen from there.
PAGES = {"README.md": "docs/benchmarks", "docs/index.md": "benchmarks"}
# These need no packages but what they make and the tests have.
OWN_PACKAGES = (forge.PREFIX, files.PREFIX, registry.FAR, "exec_job")

# In the order of the table; the key is that of the first row that each gives.
ROWS: dict[str, Measurement] = {
    "unchanged": startup.unchanged,
    "fresh_clone": startup.fresh_clone,
    "exec_mounted": startup.exec_mounted,
    "exec_job": job.exec_job,
    "exec_unmounted": startup.exec_unmounted,
    "activate": startup.activate,
    "wrapper": elsewhere.wrapper,
    "kernel": elsewhere.kernel,
    "module": elsewhere.module,
    "crowd": crowd.execs,
    "imports_warm": imports.imports,
    "many_clients": slow_network.many_clients,
    "miss": _miss_and_size,
    "one_more": miss.one_more,
    "pull": registry.transfers,
    registry.FAR: registry.far,
    "lock": locking.lock,
    **{case.key: functools.partial(forge.forge, case) for case in forge.CASES},
    "memory": bulk.bulk,
    "many_images": crowd.many_images,
    **{point.key: functools.partial(files.grow, point) for point in files.POINTS},
}


def main() -> int:
    """Measure, write, and return 0 if every row could be measured, met or not."""
    arguments = _parser().parse_args()
    start = time.monotonic()
    if arguments.docs and arguments.quick:
        raise SystemExit("--docs: figures of a quick run are none for the documents")
    keys = _chosen(arguments.only) if arguments.only else list(ROWS)
    place = ensure_place(arguments.quick, not all(key.startswith(OWN_PACKAGES) for key in keys))
    where = machine()
    rows = [row for key in keys for row in _measured(key, ROWS[key], place)]
    report = Report(
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        where,
        versions(place),
        arguments.quick,
        time.monotonic() - start,
        tuple(rows),
    )
    kept = arguments.docs or not (arguments.quick or arguments.only)
    if arguments.docs:
        report = table.merged(table.read_json(DOCS / "results.json"), report)
    report = replace(report, rows=files.with_growth(report.rows))
    directory = DOCS if kept else ROOT / "results"
    directory.mkdir(parents=True, exist_ok=True)
    _write(report, directory, kept)
    print("\n".join(table.goals(report.rows)))
    print(f"\nWritten to {directory}", file=sys.stderr)
    return 1 if any(row.problem for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small environments, few repetitions")
    parser.add_argument("--only", nargs="+", metavar="KEY", help=", ".join(ROWS))
    parser.add_argument(
        "--docs", action="store_true", help="put the rows of --only into docs/benchmarks"
    )
    return parser


def _chosen(wanted: Sequence[str]) -> list[str]:
    """Return the keys that are wanted, also by what several begin with."""
    chosen = []
    for name in wanted:
        found = [name] if name in ROWS else [key for key in ROWS if key.startswith(f"{name}_")]
        if not found:
            raise SystemExit(f"{name} is none of {', '.join(ROWS)}")
        chosen += found
    return chosen


def _measured(key: str, measure: Measurement, place: Place) -> list[Row]:
    """Measure one row; one that fails is reported as such, and does not stop the others."""
    print(f"{key} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        found = measure(place)
    except (RuntimeError, OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        found = Row(key, key, problem=f"{type(error).__name__}: {error}")
    rows = [found] if isinstance(found, Row) else list(found)
    for row in rows:
        for claim in row.claims:
            print(f"  {claim.goal}: {claim.shown}", file=sys.stderr)
        if row.problem:
            print(f"  {row.problem}", file=sys.stderr)
    print(f"  ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    return rows


def _write(report: Report, directory: Path, keep: bool) -> None:
    table.write_json(report, directory / "results.json")
    if keep:
        table.put_between_markers(directory / "README.md", table.markdown(report))
    else:
        (directory / "results.md").write_text(table.markdown(report) + "\n", encoding="utf-8")
    drawn = charts.draw(report, directory)
    if keep and any(path.stem == charts.GROWTH for path in drawn):
        for page, place in PAGES.items():
            text = f"![{charts.GROWTH_TEXT}]({place}/{charts.GROWTH}.svg)"
            table.put_between_markers(TOP / page, text, charts.GROWTH_MARKER)


if __name__ == "__main__":
    sys.exit(main())
