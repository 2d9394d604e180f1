"""What every test relies on: nothing of the user's own configuration reaches it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from condainer.settings import config
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.system import namespace

# A background job of a shell ignores ^C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Many container images set it; each `cnd` of a test would then compile all modules that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine is no reason for a test to fail.
hypothesis.settings.register_profile(
    "condainer", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("condainer")

# Resolved before any test moves HOME, so that wheels are not downloaded again for each.
UV_CACHE = os.environ.get("UV_CACHE_DIR") or str(
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
)


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of root mounts of its own: `cnd umount --all` takes all that it sees."""
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        # Root of a container may not; then they share those of all.
        with suppress(OSError):
            namespace.enter()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest-xdist that spreads groups: their tests disturb each other."""
    if getattr(session.config.option, "loadgroup", False):
        apart = [
            item.nodeid
            for item in session.items
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        assert not apart, "this pytest-xdist and this pytest do not keep groups of tests together"


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """End with the test what the product sets in this process, which others would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def isolated_user(
    own_environment: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Give each test an empty home directory, and no setting of Condainer; return the home."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("CONDAINER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("UV_CACHE_DIR", UV_CACHE)
    monkeypatch.setattr(config, "SITE_FILE", home / "site" / "condainer.yml")
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project directory."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def write(project: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file of the project, given its name and its text or bytes."""

    def write(name: str, content: str | bytes) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def load(project: Path) -> Callable[..., Settings]:
    """Load the settings of the project, given `key=value` texts of the command line."""

    def load(*overrides: str) -> Settings:
        return load_settings(project, overrides)

    return load
