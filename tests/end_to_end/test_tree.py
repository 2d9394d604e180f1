"""`cnd tree` and `cnd why`: what needs what, conda and PyPI packages together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condainer.images.dependencies import Graph, Need, Package, tree, why
from tests.helpers import tiny
from tests.helpers.projects import Project


@pytest.fixture(scope="module")
def channel_of_needs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    channel = tmp_path_factory.mktemp("needs") / "channel"
    tiny.package(channel, "top", "1", depends=("middle >=1", "low"))
    tiny.package(channel, "middle", "2", depends=("low <9", "__unix"))
    tiny.package(channel, "low", "3")
    tiny.package(channel, "alone", "4")
    tiny.index(channel)
    return channel


def test_conda_packages(make_project: Any, channel_of_needs: Path, tmp_path: Path) -> None:
    head = f"channels: ['{channel_of_needs.as_uri()}']\n"
    project: Project = make_project(text=f"{head}dependencies: [top, alone]\n")
    project.cnd("build")
    assert project.cnd("tree").stdout.splitlines() == [
        "alone 4",
        "top 1",
        "├── middle 2",
        "│   └── low 3",
        "└── low 3",
    ]
    assert project.cnd("tree", "middle").stdout == "middle 2\n└── low 3\n"
    assert project.cnd("why", "low").stdout.splitlines() == [
        "low 3",
        "├── middle 2 asks low <9",
        "│   └── top 1 asks middle >=1",
        "└── top 1 asks low",
    ]
    assert project.cnd("why", "alone").stdout == "alone 4\n"
    report = {item["name"]: item for item in project.json("tree")}
    assert report["middle"]["needs"] == [{"name": "low", "asked": "low <9"}]
    assert {item["name"] for item in project.json("why", "low")} == {"low", "middle", "top"}
    told = project.cnd("why", "midle", status=4).stderr
    assert "Did you mean middle?" in told
    # Of any image that a cache has, and from elsewhere.
    project.cnd("tag", "needs/1")
    elsewhere = Project(tmp_path, project.environment)
    assert elsewhere.cnd("tree", "--env", "needs/1").stdout == project.cnd("tree").stdout


def test_packages_of_pypi_need_conda_packages(make_project: Any) -> None:
    text = "dependencies: [python, numpy, {pip: [jupyter_client]}]\n"
    project: Project = make_project(text=text)
    project.cnd("build")
    shown = project.cnd("tree", "Jupyter-Client").stdout.splitlines()
    assert shown[0].startswith("jupyter_client ")
    assert shown[0].endswith(" (pip)")
    assert any("── traitlets " in line for line in shown)
    needed = project.cnd("why", "python").stdout
    assert "numpy" in needed
    assert "jupyter_client" in project.cnd("why", "tornado").stdout


def test_extras_that_are_wanted_are_needed(make_project: Any, tmp_path: Path) -> None:
    directory = tmp_path / "wheels"
    tiny.wheel(directory, "web", "1.0", ["server; extra == 'all'", "docs; extra == 'docs'"])
    tiny.wheel(directory, "server", "2.0", ["loop[fast]>=1"])
    tiny.wheel(directory, "loop", "3.0", ["native; extra == 'fast'"])
    for name in ("native", "docs"):
        tiny.wheel(directory, name, "4.0")
    with tiny.serve_wheels(directory) as index:
        project: Project = make_project(
            text="dependencies: [python, {pip: ['web[all]', docs]}]\n",
            UV_DEFAULT_INDEX=index,
            UV_CACHE_DIR=str(tmp_path / "uv"),
        )
        project.cnd("build")
    assert project.cnd("tree", "web").stdout.splitlines() == [
        "web 1.0 (pip)",
        "└── server 2.0 (pip)",
        "    └── loop 3.0 (pip)",
        "        └── native 4.0 (pip)",
    ]
    assert project.cnd("why", "loop").stdout.splitlines()[1] == (
        "└── server 2.0 (pip) asks loop[fast]>=1"
    )
    # The lock says it, so that the same is known of the image wherever it is.
    assert "\n# extra: web[all]\n" in project.lockfile.read_text()
    address = project.json("status")["address"]
    elsewhere = Project(tmp_path, project.environment)
    assert (
        elsewhere.cnd("tree", "web", "--address", address).stdout
        == project.cnd("tree", "web").stdout
    )
    text = project.cnd("sbom").stdout
    assert elsewhere.cnd("sbom", address).stdout == text
    bom = json.loads(text)
    refs = {item["name"]: item["bom-ref"] for item in bom["components"]}
    needs = {item["ref"]: item.get("dependsOn", []) for item in bom["dependencies"]}
    assert needs[refs["web"]] == [refs["server"]]
    # A lock that was made before it could say so is current still.
    text = project.lockfile.read_text()
    project.lockfile.write_text(text.replace("# extra: web[all]\n", ""))
    project.cnd("lock", "--check")
    project.lockfile.write_text(text.replace("web[all]", "web[all"))
    assert "no valid requirement with extras" in project.cnd("lock", "--check", status=8).stderr


def test_what_needs_each_other_is_shown_once() -> None:
    def package(name: str, *needs: str) -> Package:
        return Package(name, "conda", name, "1", tuple(Need(key, key) for key in needs))

    graph = Graph({p.key: p for p in (package("a", "b"), package("b", "a"), package("c", "a"))})
    assert list(tree(graph)) == ["c 1", "└── a 1", "    └── b 1", "        └── a 1 (*)"]
    both = Graph({p.key: p for p in (package("a", "b"), package("b", "a"))})
    assert list(tree(both)) == ["a 1", "└── b 1", "    └── a 1 (*)"]
    assert list(why(both, both.find("a")))[:2] == ["a 1", "└── b 1 asks a"]
