"""What two test files need stands in tests/helpers: none imports from another."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
IMPORT = re.compile(r"^(?:from|import) tests\.(?:\w+\.)*test_\w+.*$", re.MULTILINE)


def test_no_test_file_imports_from_another() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 200
    found = {path.name: IMPORT.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}
