"""docs/how-to/registry.md: its recipe for continuous integration, as two accounts run it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import documents, flaky, registry
from tests.helpers.accounts import Account, accounts
from tests.helpers.members import SEARCH
from tests.helpers.needed import needs_program, needs_root
from tests.helpers.registry import PASSWORD, USER

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")

INPUT = "name: ci\nchannels: [conda-forge]\ndependencies: [python, probe-prefix]\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach."""
    needs_root("to make accounts")
    needs_program("useradd")
    path = Path(tempfile.mkdtemp(prefix="condainer-sharing-"))
    path.chmod(0o755)
    (path / "m").mkdir()
    (path / "m").chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_runners_share_what_the_first_one_built(place: Path, channel: Path) -> None:
    """The first builds and pushes; the second has no channel, and pulls."""
    (recipe,) = documents.texts("how-to/registry.md", "runner")
    authority, certificate = flaky.certificates(place / "tls", "127.0.0.1")
    authority.chmod(0o644)
    (place / "tls").chmod(0o755)
    with (
        registry.serve(place / "registry", login=True, certificate=certificate) as running,
        accounts(place, 2) as (first, second),
    ):
        variables = {
            "CI_REGISTRY": running.authority,
            "CI_REGISTRY_IMAGE": f"{running.authority}/group/project",
            "CI_REGISTRY_USER": USER,
            "CI_REGISTRY_PASSWORD": PASSWORD,
            "SSL_CERT_FILE": str(authority),
            "CONDAINER_MOUNT_BASE": str(place / "m"),
            "CONDAINER_LINGER": "0",
        }
        (first.home / "environment.yml").write_text(INPUT)
        mirror = {"CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}"}
        _as(first, "cnd lock", {**variables, **mirror})
        built = _as(first, recipe, {**variables, **mirror})
        assert "Built " in built.stderr
        assert "Pushed " in built.stderr
        for file in first.home.glob("*.*"):
            if file.suffix in (".yml", ".lock") and file.is_file():
                shutil.copy(file, second.home)
        nowhere = {"CONDAINER_MIRRORS": "conda-forge=http://127.0.0.1:9"}
        pulled = _as(second, recipe, {**variables, **nowhere})
        assert "Pulled " in pulled.stderr
        assert "Built " not in pulled.stderr
        assert pulled.stdout == built.stdout
        assert pulled.stdout.startswith("Python 3")
        for told in (built, pulled):
            assert PASSWORD not in told.stderr
        assert not list((second.home / ".cache/condainer/tmp").iterdir())


def _as(
    account: Account, script: str, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    shims = account.home / "shims"
    shims.mkdir(exist_ok=True)
    if not (shims / "cnd").exists():
        (shims / "cnd").symlink_to(Path(sys.executable).with_name("cnd"))
    done = subprocess.run(
        [*account.become, *SEARCH, "bash", "-ec", script],
        cwd=account.home,
        env={
            "PATH": f"{shims}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(account.home),
            "USER": account.name,
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    return done
