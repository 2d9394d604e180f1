"""An authority of a site's own: every client trusts it, however the site makes it known."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from condainer.network import certificates
from tests.helpers import flaky
from tests.helpers.needed import needs
from tests.helpers.projects import fresh
from tests.helpers.repository import Repository

pytestmark = pytest.mark.long

WAYS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ssl_verify", "system")
# What uv and git are asked for during a build, with an index and a repository of the same server.
CLIENTS = """
import sys
from pathlib import Path
from condainer.system import environments, process
from condainer.network import client_settings
from condainer.packages import git_repositories
from condainer.pypi import wheels
from condainer.settings.load import load_settings
from condainer.system.reporter import Silent
client_settings.prepare(load_settings(Path.cwd()), Silent())
Path("in.txt").write_text("idna\\n")
command = wheels._uv("pip", "compile", "--no-deps", "--quiet", "in.txt")
print(process.run(command, env=environments.resolving(Path.cwd())).stdout)
git_repositories._git("clone", "--quiet", sys.argv[1], "cloned")
"""


@pytest.mark.parametrize("way", WAYS)
def test_every_client_trusts_the_authority_of_the_site(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, way: str
) -> None:
    store = next(path for path in certificates.SYSTEM if os.path.isfile(path))
    authority, certificate = flaky.certificates(tmp_path / "tls", "127.0.0.1")
    repository = Repository(tmp_path / "repository", "thing")
    repository.commit("1.0")
    with flaky.serve(certificate=certificate) as server:
        flaky.add_channel(server, channel)
        flaky.add_index(server, (channel.parent / "wheels").glob("idna-*.whl"))
        for path in (tmp_path / "repository" / ".git").rglob("*"):
            if path.is_file():
                name = path.relative_to(tmp_path / "repository" / ".git")
                server.files[f"/thing.git/{name}"] = path.read_bytes()
        asked = "/thing.git/info/refs"
        server.files[f"{asked}?service=git-upload-pack"] = server.files[asked]
        project = fresh(
            make_project,
            tmp_path,
            CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
            UV_DEFAULT_INDEX=f"{server.url}/simple",
        )
        clients = shlex.join([sys.executable, "-c", CLIENTS, f"{server.url}/thing.git"])
        script = f"cnd lock && cnd fetch && {clients}"
        # Otherwise nothing is tested.
        assert "certificate" in project.cnd("lock", status=6).stderr.lower()
        bundle = tmp_path / "bundle.pem"
        bundle.write_text(Path(store).read_text() + authority.read_text())
        if way == "ssl_verify":
            (isolated_user / ".condarc").write_text(f"ssl_verify: {authority}\n")
        elif way == "system":
            if os.geteuid() != 0:
                needs("root")
            mount = shlex.join(["mount", "--bind", str(bundle), os.path.realpath(store)])
            script = shlex.join(["unshare", "-m", "bash", "-c", f"{mount} && {script}"])
        else:
            project.environment[way] = str(authority)
        done = project.bash(script)
        assert done.returncode == 0, done.stderr
        assert "idna==" in done.stdout
        assert (project.path / "cloned").is_dir()
        assert not list(isolated_user.glob(".cache/uv"))
