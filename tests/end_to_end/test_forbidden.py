"""`policy:`: what no environment may have is neither locked nor built."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from condainer.packages import forbidden
from condainer.packages.installed import Licensed
from condainer.settings import config
from condainer.settings.load import load_settings
from condainer.settings.policy import LICENSES, Rule
from condainer.system.errors import ConfigError, PolicyError
from tests.helpers import tiny
from tests.helpers.projects import Project


def forbid(project: Project, **lists: object) -> Path:
    """Write the policy of the user's own file."""
    path = Path(project.environment["XDG_CONFIG_HOME"], "condainer", "condainer.yml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"policy: {json.dumps(lists)}\n")
    return path


def test_forbidden_license_is_not_locked(make_project: Any, licensed: Path) -> None:
    text = f"channels: ['{licensed.as_uri()}']\ndependencies: [top]\n"
    project: Project = make_project(text=text)
    forbid(project, forbid_licenses=["AGPL-3.0*"])
    told = project.cnd("lock", status=17).stderr
    assert f"{project.path}/environment.yml: packages have a license that is forbidden" in told
    assert "low 3: AGPL-3.0-or-later" in told
    assert not list(project.path.glob("conda-*.lock"))
    # Nor built from a lock that was there before.
    forbid(project)
    project.cnd("lock")
    forbid(project, forbid_licenses=["AGPL-3.0*"])
    assert "low 3: AGPL-3.0-or-later" in project.cnd("build", status=17).stderr
    assert not list(project.cache.rglob("*.squashfs"))


def test_licenses_of_an_image_that_is_there(make_project: Any, licensed: Path) -> None:
    text = f"channels: ['{licensed.as_uri()}']\ndependencies: [low, choice, silent]\n"
    project: Project = make_project(text=text)
    project.cnd("build")
    project.cnd("licenses", "--check")
    path = forbid(project, forbid_licenses=["agpl-3.0*", "GPL-*"])
    told = project.cnd("licenses", "--check", status=17).stderr
    assert f"low 3: AGPL-3.0-or-later (forbidden by {path}:1: policy: forbid_licenses" in told
    assert "choice" not in told
    forbid(project, forbid_licenses=["unknown"])
    assert "silent 4: unknown" in project.cnd("licenses", "--check", status=17).stderr
    # It is not built, so that nobody looks.
    assert project.json("build")["hit"] is True


def test_forbidden_license_of_a_wheel_is_not_built(make_project: Any, tmp_path: Path) -> None:
    directory = tmp_path / "wheels"
    affero = "Classifier: License :: OSI Approved :: GNU Affero General Public License v3"
    tiny.wheel(directory, "strict", "1.0", more=[affero])
    with tiny.serve_wheels(directory) as index:
        project: Project = make_project(
            text="dependencies: [python, {pip: [strict]}]\n",
            UV_DEFAULT_INDEX=index,
            UV_CACHE_DIR=str(tmp_path / "uv"),
        )
        forbid(project, forbid_licenses=["AGPL-*", "*Affero*"])
        project.cnd("lock")
        told = project.cnd("build", status=17).stderr
        assert "strict 1.0 (pip): GNU Affero General Public License v3" in told
        assert not list(project.cache.rglob("*.squashfs"))
        forbid(project)
        project.cnd("build")


@pytest.mark.long
def test_forbidden_channel(make_project: Any, licensed: Path) -> None:
    head = f"channels: ['{licensed.as_uri()}']\n"
    project: Project = make_project(text=f"{head}dependencies: [top]\n")
    project.cnd("build")
    # Even where the image is there, and nothing has changed.
    path = forbid(project, forbid_channels=[f"{licensed.parent.as_uri()}/*"])
    told = project.cnd("build", status=17).stderr
    where = f"{project.path}: these packages are from a channel that is forbidden by {path}:1"
    assert where in told
    assert "top-1-0.conda" in told
    assert "change `channels:`" in told
    for arguments in (["-y", "build"], ["lock", "--check"], ["-y", "lock", "--check"]):
        assert where in project.cnd(*arguments, status=17).stderr
    place = f"environment.yml:1: {licensed.as_uri()} is forbidden by {path}:1"
    assert place in project.cnd("lock", "--upgrade", status=17).stderr
    # Before it is solved for.
    project.write(f"dependencies: [top, low]\nname: n\n{head}")
    for arguments in (["-y", "build"], ["lock", "--check"], ["lock"], ["build"]):
        told = project.cnd(*arguments, status=17).stderr
        assert place.replace("yml:1", "yml:3", 1) in told
    # Nobody is asked: there is no network here.
    forbid(project, forbid_channels=["defaults", "bioconda"])
    for line, text in (
        (2, "channels:\n- defaults\ndependencies: [top]\n"),
        (3, f"{head}dependencies:\n- 'pkgs/main::top'\n"),
        (1, "channels: [bioconda/label/old]\ndependencies: [top]\n"),
        (2, f"{head}dependencies: ['http://Repo.Anaconda.com/pkgs/r/noarch/top-1-0.conda']\n"),
    ):
        project.write(text)
        for arguments in (["lock"], ["-y", "build"], ["lock", "--check"]):
            told = project.cnd(*arguments, status=17).stderr
            assert re.search(rf"environment.yml:{line}: http\S+ is forbidden by", told)
    path = forbid(project, forbid_channels=[f"{licensed.as_uri()}/noarch/low-*"])
    project.write(f"{head}dependencies: [top]\n")
    assert "/noarch/low-3-0.conda" in project.cnd("lock", "--upgrade", status=17).stderr
    forbid(project, forbid_channels=["defaults"])
    url = "https://repo.anaconda.com/pkgs/main/linux-64/top-1-0.conda"
    lock = f"# platform: linux-64\n@EXPLICIT\n{url}#sha256:{'0' * 64}\n"
    for old in (project.path / "conda-lock.yml", project.lockfile):
        old.unlink()
    project.write(lock, "conda-linux-64.lock")
    assert url in project.cnd("build", status=17).stderr
    forbid(project, forbid_channels=["b[io]"])
    assert "forbid_channels: b[io]: channel" in project.cnd("build", status=3).stderr
    # Where there is nothing, that is what is wrong.
    empty: Project = make_project("empty", "")
    assert "no lock" in empty.cnd("lock", "--check", status=7).stderr
    # What is not forbidden is done as before.
    forbid(project, forbid_channels=["defaults"])
    project.lockfile.unlink()
    project.cnd("build")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The files of a site and of a user."""
    site = tmp_path / "site.yml"
    monkeypatch.setattr(config, "SITE_FILE", site)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user = tmp_path / "config/condainer/condainer.yml"
    user.parent.mkdir(parents=True)
    return site, user


def test_policy_of_site_and_user(tmp_path: Path, files: tuple[Path, Path]) -> None:
    site, user = files
    site.write_text("linger: 1\npolicy:\n  forbid_channels: [defaults]\n")
    user.write_text("policy: {forbid_licenses: [AGPL-3.0*]}\n")
    assert load_settings(tmp_path).policy == (
        Rule("forbid_channels", "defaults", f"{site}:2: policy"),
        Rule("forbid_licenses", "AGPL-3.0*", f"{user}:1: policy"),
    )
    project = tmp_path / "project"
    project.mkdir()
    (project / "condainer.yml").write_text("policy: {}\n")
    with pytest.raises(ConfigError, match=r"`policy` is not allowed here"):
        load_settings(project)
    with pytest.raises(ConfigError, match=r"`policy` is not allowed in the environment"):
        load_settings(tmp_path, environ={"CONDAINER_POLICY": "x"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[defaults]", "1: policy: must be a mapping"),
        ("{forbid_channel: [defaults]}", "unknown key `forbid_channel`"),
        ("{forbid_licenses: [3]}", "forbid_licenses: must be a list"),
        ("{forbid_licenses: {MIT: true}}", "forbid_licenses: must be a list"),
    ],
)
def test_no_policy(tmp_path: Path, files: tuple[Path, Path], text: str, told: str) -> None:
    files[1].write_text(f"policy: {text}\n")
    with pytest.raises(ConfigError, match=told):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("license_", "refused"),
    [
        ("AGPL-3.0-only", True),
        ("agpl-3.0-or-later", True),
        ("MIT", False),
        ("MIT AND AGPL-3.0-only", True),
        ("MIT OR AGPL-3.0-only", False),
        ("GPL-2.0-only OR AGPL-3.0-only", True),
        ("MIT AND (Zlib OR AGPL-3.0-only)", False),
        ("(MIT OR Zlib) AND AGPL-3.0-only", True),
        ("MIT OR Zlib AND AGPL-3.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("MIT/AGPL-3.0", True),
        ("BSD-3-Clause, AGPL-3.0", True),
        ("GNU Affero General Public License v3", True),
        ("(MIT", False),
        ("MIT) AND (Zlib", False),
        ("unknown", False),
        ("(" * 5000 + "MIT OR AGPL-3.0-only" + ")" * 5000, True),
        ("(MIT OR Zlib) AND " * 500 + "MIT", False),
    ],
    ids=range(18),
)
def test_expressions(tmp_path: Path, license_: str, refused: bool) -> None:
    patterns = ("AGPL-3.0*", "GPL-2.0*", "*Affero*")
    rules = tuple(Rule(LICENSES, pattern, "site") for pattern in patterns)
    settings = config.Settings(tmp_path, policy=rules)
    package = Licensed("pip", "one", "1", license_)
    if not refused:
        forbidden.demand_licenses([package], "here", settings)
        return
    with pytest.raises(PolicyError, match=r"here: .*\n.*one 1 \(pip\): .*forbidden by site"):
        forbidden.demand_licenses([package], "here", settings)
