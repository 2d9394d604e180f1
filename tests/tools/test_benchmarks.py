"""The benchmark suite's own logic: claims, phases, tables; what it measures is not tested here."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import files, measure, table
from benchmarks.measure import Contender, Effort, interleaved, peak_memory, phases, total, usage
from benchmarks.results import Claim, Report, Row, Sample


def test_a_claim_is_met_up_to_its_limit() -> None:
    assert Claim("bare", 1.15, 1.15).met
    assert not Claim("bare", 1.16, 1.15).met
    assert Claim("dd", 0.9, 0.9, at_least=True).met
    assert not Claim("dd", 0.89, 0.9, at_least=True).met
    assert Claim("dd", 0.891, 0.9, at_least=True).goal == "≥ 0.9 × dd"


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def call(name: str) -> Callable[[], None]:
        return lambda: calls.append(name)

    contenders = [Contender(name, call(name), call("before")) for name in "AB"]
    samples = interleaved(contenders, Effort(2, 0))
    assert calls == ["before", "A", "before", "B"] * 3
    assert [len(sample.values) for sample in samples] == [2, 2]


def test_phases_are_taken_from_what_a_command_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock on which a second goes by between two looks at it.
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(measure, "time", clock)
    script = "echo 'One thing ...'; echo 'One thing: done (0.2 s)'; echo 'Two ...'"
    steps = phases(["sh", "-c", f"{{ {script}; }} >&2"], tmp_path, os.environ)
    assert [step.title for step in steps] == ["start", "One thing", "between", "Two"]
    assert [step.seconds for step in steps] == [1, 1, 1, 1]
    assert (total(steps, "One"), total(steps, "One", "Two"), total(steps)) == (1, 2, 4)
    with pytest.raises(RuntimeError, match="no luck"):
        phases(["sh", "-c", "echo no luck >&2; exit 3"], tmp_path, os.environ)


def test_the_memory_of_descendants_counts(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(60_000_000); time.sleep(1)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    held = peak_memory([sys.executable, "-c", start], tmp_path, os.environ)
    assert 60 < held.megabytes < 200
    assert held.own < 60
    assert held.largest.startswith("python")


def test_what_a_command_took_is_its_own(tmp_path: Path) -> None:
    hold = "held = bytearray(60_000_000); sum(range(1_000_000))"
    used = usage([sys.executable, "-c", hold], tmp_path, os.environ)
    assert 60 < used.megabytes < 200
    assert used.processor > 0
    with pytest.raises(RuntimeError, match="no luck"):
        usage(["sh", "-c", "echo no luck >&2; exit 3"], tmp_path, os.environ)


def test_what_failed_stands_in_the_table(tmp_path: Path) -> None:
    good = Row("a", "good", (Sample("cnd", (0.5, 0.7)),), (Claim("bare", 1.0, 1.1),))
    bad = Row("b", "bad", problem="nix-build\nis | missing")
    report = Report("today", (("memory", "1 GB"),), (("uv", "1"),), False, 60.0, (good, bad))
    target = tmp_path / "README.md"
    target.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    table.put_between_markers(target, table.markdown(report))
    text = target.read_text()
    assert "| good | ≤ 1.1 × bare | 1.00 × | met |" in text
    assert "| bad | | not measured: nix-build is \\| missing | **failed** |" in text
    assert "| good | cnd | 600.0 ms | 500.0 ms – 700.0 ms | 2 |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    table.write_json(report, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["key"] == "a"
    assert table.read_json(tmp_path / "results.json") == report


def test_rows_of_a_later_run_take_the_place_of_those_that_are_there() -> None:
    machine = (("processor", "A"), ("load before the run", "0.10"))
    old = Report("then", machine, (), False, 60.0, (Row("a", "A"), Row("b", "B")))
    new = Report("now", machine, (), False, 1.0, (Row("b", "B", note="small"), Row("c", "C")))
    both = table.merged(old, new)
    where = "now, A, load before the run 0.10"
    assert [(row.key, row.note) for row in both.rows] == [
        ("a", ""),
        ("b", f"small; {where}"),
        ("c", where),
    ]
    assert both.date == "then"


def test_what_grows_with_the_files_is_told_by_the_smallest_and_the_largest() -> None:
    rows = (grown_row("files_small_300k", 300, 60.0, 2000), grown_row("files_small_10k", 10, 2, 30))
    alone = grown_row("files_mixed_10k", 10, 2, 30)
    *same, growth = files.with_growth((*rows, alone))
    assert same == [*rows, alone]
    assert growth.key == "files_small_growth"
    assert [claim.value for claim in growth.claims] == [1.0, 1.0, 1.0, 1.0]
    assert growth.sample("peak memory, cnd itself, for each file more").median == 1000 * 1970 / 290
    assert files.with_growth((*rows, growth)) == (*rows, growth)


def grown_row(key: str, count: float, seconds: float, megabytes: float) -> Row:
    values = {files.COUNT: count, files.FIRST: seconds, files.AGAIN: seconds}
    values |= {files.HIT: 0.01, files.MOUNT: 0.1, f"{files.OWN}: {files.FIRST}": megabytes}
    return Row(key, key, tuple(Sample(name, (value,)) for name, value in values.items()))
