"""The documents make a site, without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.links import TOP

# Together, for one site.
pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=TOP,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return directory


def test_it_has_the_documents_from_the_top(site: Path) -> None:
    layout = (site / "reference/cache-layout.html").read_text(encoding="utf-8")
    assert "condainer-recipe" in layout
    # A link of cache_layout.md to docs/explanation/security.md, bent to where that is in the site.
    assert 'href="../explanation/security.html' in layout
    assert (site / "changelog.html").exists()


def test_it_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http'):
            assert tag not in text, page


def test_notes_are_no_pages(site: Path) -> None:
    assert not (site / "reference/notes").exists()
