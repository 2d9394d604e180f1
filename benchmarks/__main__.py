"""The command line: `python -m benchmarks [--quick] [--only KEY...]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bulk, charts, crowd, elsewhere, imports, locking, miss, startup, table
from benchmarks.machine import machine, versions
from benchmarks.place import ROOT, TOP, Place, ensure_place
from benchmarks.results import Report, Row

Measurement = Callable[[Place], Row | Sequence[Row]]


def _miss_and_size(place: Place) -> Sequence[Row]:
    row = miss.miss(place)
    return row, miss.size(row)


# In the order of the table; the key is that of the first row that each gives.
ROWS: dict[str, Measurement] = {
    "unchanged": startup.unchanged,
    "fresh_clone": startup.fresh_clone,
    "exec_mounted": startup.exec_mounted,
    "exec_unmounted": startup.exec_unmounted,
    "activate": startup.activate,
    "wrapper": elsewhere.wrapper,
    "module": elsewhere.module,
    "crowd": crowd.execs,
    "imports_warm": imports.imports,
    "miss": _miss_and_size,
    "one_more": miss.one_more,
    "lock": locking.lock,
    "memory": bulk.bulk,
    "many_images": crowd.many_images,
}


def main() -> int:
    """Measure, write, and return 0 if every row could be measured, met or not."""
    arguments = _parser().parse_args()
    start = time.monotonic()
    place = ensure_place(arguments.quick)
    where = machine()
    rows = [row for key in arguments.only or ROWS for row in _measured(key, ROWS[key], place)]
    report = Report(
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        where,
        versions(place),
        arguments.quick,
        time.monotonic() - start,
        tuple(rows),
    )
    partial = arguments.quick or arguments.only
    directory = ROOT / "results" if partial else TOP / "docs" / "benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    _write(report, directory, keep=not partial)
    print("\n".join(table.goals(report.rows)))
    print(f"\nWritten to {directory}", file=sys.stderr)
    return 1 if any(row.problem for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small environments, few repetitions")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="KEY", help=", ".join(ROWS))
    return parser


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
    charts.draw(report, directory)


if __name__ == "__main__":
    sys.exit(main())
