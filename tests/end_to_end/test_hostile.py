"""Input of somebody who means harm: refused, and nothing fetched or written before that."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import venv
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from condainer.pypi import wheels
from condainer.system.errors import BuildError
from condainer.system.reporter import Silent
from tests.channel import ChannelServer
from tests.helpers.projects import PYTHON, SMALL, Project

EVIL = b"evil"
ZEROS = "0" * 64


def write_package(
    channel: Path,
    paths: list[str],
    members: dict[str, str],
    index: dict[str, object] | None = None,
    link: dict[str, object] | None = None,
    listed: bool = True,
) -> Path:
    """Write a crafted package, `evil-1-0.tar.bz2`; a member that begins with `->` is a link."""
    archive = channel / "noarch" / "evil-1-0.tar.bz2"
    archive.parent.mkdir(parents=True)
    about = {"name": "evil", "version": "1", "build": "0", "build_number": 0, "depends": []}
    infos: dict[str, object] = {
        "info/index.json": {**about, "subdir": "noarch", "noarch": "generic", **(index or {})}
    }
    digest = hashlib.sha256(EVIL).hexdigest()
    entries = [
        {"_path": p, "path_type": "hardlink", "sha256": digest, "size_in_bytes": 4} for p in paths
    ]
    if listed:
        infos["info/paths.json"] = {"paths_version": 1, "paths": entries}
    if link:
        infos["info/link.json"] = link
    files = {name: json.dumps(value) for name, value in infos.items()}
    if not listed:
        files["info/files"] = "".join(f"{path}\n" for path in paths)
    with tarfile.open(archive, "w:bz2") as tar:
        for name, text in {**files, **members}.items():
            header = tarfile.TarInfo(name)
            if text.startswith("->"):
                header.type, header.linkname = tarfile.SYMTYPE, text[2:]
                tar.addfile(header)
            else:
                data = text.encode()
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return archive


def built_from(make_project: Any, archive: Path, with_python: bool = False) -> Project:
    """Return a project with a lock of another tool that has the crafted package."""
    project: Project = make_project(text="")
    channel = archive.parent.parent.as_uri()
    python = "python, " if with_python else ""
    project.write(f"channels: [conda-forge, '{channel}']\ndependencies: [{python}evil]\n")
    lines = []
    if with_python:
        helper = make_project("helper", text=PYTHON)
        helper.cnd("lock")
        lines = [line for line in helper.lockfile.read_text().splitlines() if "://" in line]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    lines.append(f"{channel}/noarch/{archive.name}#sha256:{digest}")
    project.write("@EXPLICIT\n" + "\n".join(lines) + "\n", "conda-linux-64.lock")
    return project


UP = "../" * 12


@pytest.mark.parametrize(
    ("path", "member", "listed"),
    [
        ("{up}{target}/planted", "x", True),
        ("share/{up}{target}/planted", "x", False),
        ("/{target}/planted", "x", True),
        ("/{target}/planted", "x", False),
        ("x", "{up}{target}/planted", True),
        ("x", "/{target}/planted", True),
        ("d/planted", "d/planted", True),
    ],
)
def test_a_package_with_a_file_elsewhere(
    make_project: Any, tmp_path: Path, path: str, member: str, listed: bool
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    here = {"up": UP, "target": str(target).lstrip("/")}
    members = {member.format(**here): EVIL.decode()}
    if path.startswith("d/"):
        members = {"d": f"->{target}", **members}
    archive = write_package(tmp_path / "c", [path.format(**here)], members, listed=listed)
    project = built_from(make_project, archive)
    done = project.cnd("build", status=None)
    assert done.returncode in (9, 11), done.stderr
    assert "evil" in done.stderr
    assert not list(target.iterdir())
    assert not list((project.cache / "images").glob("*/*"))


def test_a_file_of_the_builder_cannot_be_copied_into_an_image(
    make_project: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("evil")
    copy = f"{UP}{str(secret).lstrip('/')}"
    project = built_from(make_project, write_package(tmp_path / "c", [copy], {"x": "y"}))
    done = project.cnd("build", status=9)
    assert "outside of the environment" in done.stderr


@pytest.mark.parametrize(
    "index",
    [{"name": "../evil"}, {"version": "1/../2"}, {"build": "../../evil"}, {"subdir": "../noarch"}],
)
def test_a_package_with_a_hostile_name(
    make_project: Any, tmp_path: Path, index: dict[str, object]
) -> None:
    archive = write_package(tmp_path / "c", ["x"], {"x": EVIL.decode()}, index)
    done = built_from(make_project, archive).cnd("build", status=None)
    if "subdir" in index:
        # It is a text in the package's record and nothing more.
        assert done.returncode in (0, 9, 11)
    else:
        assert done.returncode in (9, 11), done.stderr
    assert not list(tmp_path.glob("evil*"))


def test_a_conda_package_with_a_hostile_entry_point(make_project: Any, tmp_path: Path) -> None:
    link = {
        "noarch": {"type": "python", "entry_points": ["../../planted = os:getcwd"]},
        "package_metadata_version": 1,
    }
    archive = write_package(
        tmp_path / "c",
        ["site-packages/x.py"],
        {"site-packages/x.py": "evil"},
        {"noarch": "python", "depends": ["python"]},
        link,
    )
    done = built_from(make_project, archive, with_python=True).cnd("build", status=None)
    assert done.returncode in (9, 11), done.stderr
    assert not list(tmp_path.rglob("planted"))


@pytest.mark.parametrize(
    "member",
    [
        "evil-1.dist-info/entry_points.txt",
        "../../../../planted.py",
        "{up}{target}/planted.py",
        "/{target}/planted.py",
        "evil-1.data/scripts/../../../../planted",
        "evil-1.data/data/{up}{target}/planted",
    ],
)
def test_a_wheel_with_a_file_or_command_elsewhere(tmp_path: Path, member: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    prefix = tmp_path / "down" / "prefix"
    venv.create(prefix, symlinks=True)
    wheel = tmp_path / "wheels" / "evil-1-py3-none-any.whl"
    wheel.parent.mkdir()
    files = {
        "evil.py": "",
        "evil-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1\n",
        "evil-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    commands = {"console_scripts": "../../planted", "gui_scripts": f"{target}/planted"}
    files[member.format(up=UP, target=str(target).lstrip("/"))] = "".join(
        f"[{kind}]\n{name} = os:getcwd\n" for kind, name in commands.items()
    )
    record = "evil-1.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirement = f"evil @ {wheel.as_uri()}{wheels.HASHED}{digest}"
    # Whether uv refuses it or leaves that file out, nothing stands outside of the environment.
    with suppress(BuildError):
        wheels.install([requirement], prefix, tmp_path, (), Silent())
        assert list(prefix.rglob("evil.py"))
    assert not list(tmp_path.rglob("*planted*"))


LEADS = [
    "{server}/conda-forge/noarch/probe-prefix-1.0-0.conda#" + ZEROS,
    "http://169.254.169.254/latest/noarch/a-1-0.conda#" + ZEROS,
    "http://[fe80::1]/c/noarch/a-1-0.conda#" + ZEROS,
    "file:///etc/noarch/a-1-0.conda#" + ZEROS,
    "{server}/conda-forge/noarch/probe-prefix-1.0-0.conda#" + "0" * 32,
]


@pytest.mark.parametrize("line", LEADS)
def test_a_lock_that_leads_to_this_machine(
    make_project: Any, server: ChannelServer, tmp_path: Path, line: str
) -> None:
    project = make_project(CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"))
    project.write(f"@EXPLICIT\n{line.format(server=server.url)}\n", "conda-linux-64.lock")
    done = project.cnd("build", status=8)
    assert "leads to" in done.stderr
    assert not server.requests
    assert not (tmp_path / "packages").exists()


@pytest.mark.parametrize(
    "line",
    [
        "# pip a @ {server}/a-1-py3-none-any.whl#sha256=" + ZEROS,
        "# pip a @ git+file:///etc@" + "0" * 40,
        "# pip a @ git+{server}/a.git@" + "0" * 40,
    ],
)
def test_pip_lines_that_lead_to_this_machine(
    make_project: Any, server: ChannelServer, tmp_path: Path, line: str
) -> None:
    project = make_project(CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"))
    conda = f"https://a.example/c/noarch/a-1-0.conda#{ZEROS}"
    text = f"@EXPLICIT\n{conda}\n{line.format(server=server.url)}\n"
    project.write(text, "conda-linux-64.lock")
    assert "leads to" in project.cnd("build", status=8).stderr
    assert not server.requests


def test_the_same_lock_is_used_where_the_user_names_the_place(
    make_project: Any, server: ChannelServer
) -> None:
    text = f"channels: ['{server.url}/conda-forge']\n{SMALL}"
    project = make_project(text=text)
    project.cnd("lock")
    assert server.url in project.lockfile.read_text()
    project.cnd("build")


def test_http_where_the_environment_file_says_https(make_project: Any) -> None:
    project = make_project(text="channels: ['https://a.example/c']\ndependencies: [a]\n")
    line = f"http://a.example/c/noarch/a-1-0.conda#{ZEROS}"
    project.write(f"@EXPLICIT\n{line}\n", "conda-linux-64.lock")
    assert "leads to http," in project.cnd("build", status=8).stderr


@pytest.mark.parametrize(
    "line",
    [
        "https://a.example/c/noarch/a-1-0.conda%0d%0aX-Evil:%201#" + ZEROS,
        "https://a.example/c%0d%0aHost:%20b/noarch/a-1-0.conda#" + ZEROS,
        "https://a.example\rHost: b/c/noarch/a-1-0.conda#" + ZEROS,
        "# pip a @ https://a.example/a-1%0d%0a-py3-none-any.whl#sha256=" + ZEROS,
        "# pip a\r-e. @ https://a.example/a-1-py3-none-any.whl#sha256=" + ZEROS,
    ],
)
def test_line_ends_in_urls(make_project: Any, line: str) -> None:
    project = make_project()
    (project.path / "conda-linux-64.lock").write_bytes(f"@EXPLICIT\n{line}\n".encode())
    assert "conda-linux-64.lock:2: " in project.cnd("build", status=8).stderr


def test_variables_that_take_over_programs_are_shown(make_project: Any) -> None:
    text = SMALL.replace("{GREETING: hello}", "{LD_PRELOAD: /x/evil.so, PYTHONSTARTUP: /y, OK: 1}")
    project = make_project(text=text)
    project.cnd("lock")
    done = project.cnd("build")
    assert "LD_PRELOAD=/x/evil.so" in done.stderr
    assert "PYTHONSTARTUP=/y" in done.stderr
    assert "OK=" not in done.stderr
    shown = project.cnd("show", project.json("status")["address"]).stdout
    assert "LD_PRELOAD=/x/evil.so" in shown
