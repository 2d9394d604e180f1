"""The same lock, address and bytes, whichever engine: a real conda against the embedded engine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import rattler

from condainer.build import normalise
from condainer.inputs.read import read_inputs
from condainer.lock.locks import CondaPackage
from condainer.packages import conda_packages
from condainer.settings.load import load_settings
from condainer.solve.external import solver
from condainer.solve.external.conda_exe import recognise
from condainer.solve.request import Request
from condainer.system.reporter import Silent
from tests.channel import ChannelServer
from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file
from tests.helpers.projects import Project

PROBES = "[probe-prefix, probe-activate, probe-files, probe-postlink, 'conda-forge::probe-old']"
SPECS = """\
dependencies:
  - python >=3.10,<3.13
  - numpy[version='>=1.26,<2.5',build=py*]
  - conda-forge::probe-files ==1.0
  - pip
  - probe-virtual=1.0=0
"""


@pytest.fixture
def two(base: Path, make_project: Any, conda: Path, tmp_path: Path) -> Callable[..., list[Project]]:
    """Make one project for the embedded engine and an equal one for conda, with separate caches."""

    def make(text: str, **environment: str) -> list[Project]:
        return [
            make_project(
                f"{engine}/project",
                text,
                CONDAINER_MOUNT_BASE=str(base),
                CONDAINER_CONDA_EXE=named,
                CONDAINER_CACHE=str(tmp_path / engine / "cache"),
                **environment,
            )
            for engine, named in (("embedded", "embedded"), ("external", str(conda)))
        ]

    return make


def lockfiles(project: Project) -> list[str]:
    return [path.read_text() for path in (project.lockfile, project.path / "conda-lock.yml")]


def everything(root: Path) -> dict[str, str]:
    """Return the text of every file below a directory."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text("utf-8", "replace") for path in files}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def test_lock_address_and_image_are_the_same_and_the_users_conda_is_left_alone(
    two: Callable[..., list[Project]], server: ChannelServer, isolated_user: Path
) -> None:
    spoiled = {
        ".condarc": "channels: [/nowhere]\ncreate_default_packages: [numpy]\nsolver: nothing\n",
        ".conda/environments.txt": "/home/me/env\n",
        ".config/conda/.condarc": "pinned_packages: ['probe-files=0.1']\n",
        ".mambarc": "offline: true\n",
    }
    for name, text in spoiled.items():
        write_file(isolated_user / name, text)
    before = everything(isolated_user)
    activated = {
        "CONDA_PREFIX": "/nowhere/env",
        "CONDA_EXE": "/nowhere/bin/conda",
        "CONDA_SHLVL": "1",
        "CONDA_SUBDIR": "osx-arm64",
        "CONDA_PKGS_DIRS": "/nowhere/pkgs",
        "CONDA_ROOT": "/nowhere",
        "CONDARC": str(isolated_user / ".condarc"),
        "PYTHONPATH": "/nowhere",
    }
    embedded, external = two(
        f"dependencies: {PROBES}\nvariables: {{GREETING: hello}}\n", **activated
    )
    mirrors = f"conda-forge=http://127.0.0.1:9/gone conda-forge={server.url}/conda-forge"
    for project in (embedded, external):
        project.write("post_link_scripts: true\n", "condainer.yml")
    first = embedded.json("build")
    server.requests.clear()
    second = external.json("build", CONDAINER_MIRRORS=mirrors)

    assert any("repodata" in path for path in server.requests)
    assert lockfiles(external) == lockfiles(embedded)
    assert not second["hit"]
    assert (second["address"], second["sha256"]) == (first["address"], first["sha256"])
    manifests = [
        json.loads((Path(built["image"]).parent / "manifest.json").read_text())
        for built in (first, second)
    ]
    assert manifests[0]["tree_sha256"] == manifests[1]["tree_sha256"]
    assert manifests[1]["tools"] == manifests[0]["tools"]

    after = everything(isolated_user)
    assert {name: after[name] for name in before} == before
    assert not [name for name in set(after) - set(before) if not name.startswith(".cache/")]


def test_every_form_of_spec_gives_the_same_lock_even_without_sha256(
    two: Callable[..., list[Project]], conda: Path, channel: Path, tmp_path: Path
) -> None:
    forgetful = script(
        tmp_path / "conda", f'set -o pipefail; "{conda}" "$@" | grep -v \'"sha256":\''
    )
    by_url = channel / "noarch" / "click-8.1.8-py_0.conda"
    embedded, external = two(f"{SPECS}  - {by_url.as_uri()}\n")
    embedded.cnd("lock")
    external.cnd("lock", CONDAINER_CONDA_EXE=str(forgetful))
    assert lockfiles(external) == lockfiles(embedded)
    assert f"{by_url.as_uri()}#" in external.lockfile.read_text()


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (
            "dependencies:\n  - pip\n  - probe-conflict-a\n  - probe-conflict-b",
            5,
            ("probe-conflict-a -> numpy", "environment.yml:3", "environment.yml:4"),
        ),
        ("dependencies:\n  - probe-files\n  - probe-none", 5, ("probe-none", "environment.yml:3")),
        ("channels: ['http://127.0.0.1:9/none']\ndependencies: [probe-old]", 6, ("127.0.0.1:9",)),
    ],
)
def test_what_cannot_be_solved_is_explained(
    make_project: Any, conda: Path, text: str, status: int, said: tuple[str, ...]
) -> None:
    project = make_project(text=text, CONDAINER_CONDA_EXE=str(conda))
    error = project.cnd("lock", status=status).stderr
    assert all(part in error for part in said), error
    assert "environment.yml:2" not in error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "does not exist"),
        ("echo nothing of the kind", "is not conda, mamba or micromamba"),
        ("echo oh dear >&2; exit 3", "oh dear"),
        ("echo conda 4.3.16", "4.8 or newer is needed"),
        ("[ $1 = --version ] && echo 2.0.5 || echo '{garbage'", "cannot be used"),
        ("[ $1 = --version ] && echo 2.0.5 || kill -9 $$", "SIGKILL"),
    ],
)
def test_an_executable_that_is_not_what_it_should_be(
    make_project: Any, tmp_path: Path, body: str | None, said: str
) -> None:
    named = tmp_path / "bin" / "conda"
    if body is not None:
        script(named, body)
    project = make_project(CONDAINER_CONDA_EXE=str(named))
    assert said in project.cnd("lock", status=10).stderr


def test_virtual_packages_are_those_that_were_chosen(make_project: Any, conda: Path) -> None:
    project = make_project(text="dependencies: [probe-virtual]\n", CONDAINER_CONDA_EXE=str(conda))
    project.write('virtual_packages: {glibc: "2.12"}\n', "condainer.yml")
    assert "__glibc" in project.cnd("lock", status=5).stderr
    project.cnd("lock", CONDA_OVERRIDE_GLIBC="2.17")


@pytest.mark.parametrize(
    ("url", "offline", "status", "said"),
    [
        ("http://me:secret@127.0.0.1:9/c", "no", 3, "http://***@127.0.0.1:9/c"),
        ("http://127.0.0.1:9/c", "yes", 6, "Nothing may be downloaded"),
    ],
)
def test_channels_that_an_executable_is_not_asked_for(
    make_project: Any,
    conda: Path,
    isolated_user: Path,
    url: str,
    offline: str,
    status: int,
    said: str,
) -> None:
    write_file(isolated_user / ".condarc", f"custom_channels: {{c: '{url.removesuffix('/c')}'}}\n")
    project = make_project(
        text="channels: [c]\ndependencies: [x]\n", CONDAINER_CONDA_EXE=str(conda)
    )
    error = project.cnd("lock", status=status, CONDAINER_OFFLINE=offline).stderr
    assert said in error
    assert "secret" not in error


def test_a_login_comes_from_netrc(
    make_project: Any, conda: Path, channel: Path, isolated_user: Path
) -> None:
    asked: list[str | None] = []

    class Closed(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            if asked[-1] == "Basic bWU6c2VjcmV0":
                super().do_GET()
            else:
                self.send_error(401)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    handler = functools.partial(Closed, directory=str(channel.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        netrc = isolated_user / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret\n")
        netrc.chmod(0o600)
        mirror = f"http://127.0.0.1:{running.server_port}/conda-forge"
        project = make_project(
            text="dependencies: [probe-files]\n",
            CONDAINER_CONDA_EXE=str(conda),
            CONDAINER_MIRRORS=f"conda-forge={mirror}",
        )
        done = project.cnd("lock")
        running.shutdown()
    assert "Basic bWU6c2VjcmV0" in asked
    assert "secret" not in done.stderr + project.lockfile.read_text()


def test_prereq_shows_the_engine_in_force(project: Project, conda: Path) -> None:
    assert "engine             ok       embedded (py-rattler" in project.cnd("prereq").stdout
    shown = project.cnd("prereq", CONDAINER_CONDA_EXE=str(conda)).stdout
    assert f"{conda} (conda 24.7.1)" in shown
    absent = str(project.path / "absent" / "conda")
    missing = project.cnd("prereq", CONDAINER_CONDA_EXE=absent, status=10)
    assert absent in missing.stdout
    remedy = "Name a conda, mamba or micromamba with `conda_exe:`, or remove that line."
    assert remedy in missing.stderr
    report = project.cnd("prereq", "--json", CONDAINER_CONDA_EXE=absent, status=10).stdout
    assert json.loads(report)["engine"]["hint"] == remedy


def described(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, number of names and digest or target of everything below a directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        else:
            # A digest, for messages that can be read.
            content = b"" if path.is_dir() else hashlib.sha256(path.read_bytes()).digest()
        links = 1 if path.is_dir() else status.st_nlink
        found[str(path.relative_to(root))] = (status.st_mode, links, content)
    return found


def module(place: Path, name: str, *points: str, files: str = "x", depends: str = "python") -> Path:
    """Write a package for any python, with everything that has to be put into its place."""
    tree = place / f"tree-{name}"
    write_file(tree / f"site-packages/{name}/__init__.py", f"name = {files!r}\n")
    write_file(tree / f"site-packages/{name}-1.0.dist-info/METADATA", "")
    write_file(tree / f"python-scripts/aaa-{name}", f"#!{PLACEHOLDER}/bin/python\n", 0o755)
    write_file(tree / f"etc/{files}", files)
    write_file(tree / f"Menu/{name}.json", "{}")
    recipe = Recipe(name, "1.0", depends=(depends,), noarch="python", entry_points=points)
    return write_conda(tree, recipe, place / "made")


def test_shared_files_are_linked_in_the_same_way_each_time(
    channel: Path, tmp_path: Path, base: Path, package_cache: Path
) -> None:
    settings = replace(load_settings(tmp_path), package_cache=package_cache)
    prefix = base / "condainer-0123456789abcdef0123456789abcdef"
    prefix.mkdir()
    # Which of the packages came first used to show, in every second or third case.
    archives = [module(tmp_path, "one"), module(tmp_path, "two")]
    archives.append(sorted(channel.glob("*/python-[0-9]*"))[-1])
    trees = []
    for number in range(5):
        directory, scratch = tmp_path / f"tree{number}", tmp_path / f"scratch{number}"
        scratch.mkdir()
        conda_packages.link(archives, directory, prefix, scratch, settings, Silent())
        normalise.metadata(directory, prefix)
        trees.append(described(directory))
    assert trees[1:] == trees[:-1]
    assert "__clobbers__/two/etc/x" in trees[0]
    assert "__clobbers__/one" not in trees[0]


def test_packages_of_an_older_lock_stay_where_they_can(
    conda: Path, channel: Path, tmp_path: Path
) -> None:
    by_url = (channel / "noarch" / "probe-virtual-1.0-0.conda").as_uri()
    write_file(
        tmp_path / "environment.yml", f"dependencies: [click, probe-conflict-b, '{by_url}']\n"
    )
    settings = load_settings(tmp_path)
    inputs = read_inputs(settings, "linux-64")
    specs = [rattler.MatchSpec(spec.text, strict=False) for spec in inputs.specs]
    old = ("noarch/click-8.1.8-py_0", "linux-64/numpy-2.4.6-py311_0", "noarch/probe-old-1.0-0")
    held = [CondaPackage(f"https://channel.example/{name}.conda", "0" * 64) for name in old]
    request = Request(inputs, settings, Silent(), held, [channel.as_uri()], specs)
    found = solver.solve(recognise(conda), request)
    names = {str(record.name.normalized): str(record.version) for record in found}
    # It stays; it stood in the way; nothing needs it any more.
    assert names["click"] == "8.1.8"
    assert names["numpy"].startswith("1.")
    assert "probe-old" not in names
    assert "probe-virtual" in names
