"""`cnd audit`: an image, or a lock that has none yet, held to a dump of OSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers import tiny
from tests.helpers.advisories import BORN, advisory, dump
from tests.helpers.projects import Project


def test_vulnerabilities_of_a_lock_and_an_image(make_project: Any, tmp_path: Path) -> None:
    tiny.wheel(tmp_path / "wheels", "alpha-one", "1.0")
    path = dump(
        tmp_path / "all.zip",
        advisory("GHSA-1", "Alpha.One", [BORN, {"fixed": "1.1"}], summary="It\x1b[1m breaks"),
        advisory("GHSA-2", "click", [BORN], database_specific={"severity": "HIGH"}),
        advisory("GHSA-3", "click", [BORN, {"fixed": "2"}]),
    ).path
    with tiny.serve_wheels(tmp_path / "wheels") as index:
        project: Project = make_project(
            text="dependencies: [python, click, {pip: [alpha-one]}]\n",
            UV_DEFAULT_INDEX=index,
            UV_CACHE_DIR=str(tmp_path / "uv"),
        )
        assert "Run `cnd build` first" in project.cnd("audit", str(path), status=15).stderr
        project.cnd("lock")
        done = project.cnd("audit", str(path), status=18)
        rows = [line.split() for line in done.stdout.splitlines()]
        assert rows[1][:3] == ["GHSA-1", "pip", "alpha-one"]
        assert [row[6] for row in rows] == ["MATCH", "exact", "name"]
        assert f"{project.lockfile}: 2 known vulnerabilities, in alpha-one, click" in done.stderr
        built = project.json("build")
    done = project.cnd("audit", str(path), status=18)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["ID", "KIND", "PACKAGE", "VERSION", "FIXED", "SEVERITY", "MATCH", "SUMMARY"]
    assert rows[1][:7] == ["GHSA-1", "pip", "alpha-one", "1.0", "1.1", "-", "exact"]
    assert rows[2][0:3] == ["GHSA-2", "conda", "click"]
    assert rows[2][4:] == ["-", "HIGH", "metadata", "-"]
    assert "\x1b" not in done.stdout
    assert f"{built['image']}: 2 known vulnerabilities" in done.stderr
    # By its address, from elsewhere, and as data.
    elsewhere = Project(tmp_path, project.environment)
    done = elsewhere.cnd("audit", "all.zip", built["address"], "--json", status=18)
    told = json.loads(done.stdout)
    assert [item["id"] for item in told["findings"]] == ["GHSA-1", "GHSA-2"]
    assert (told["source"], told["advisories"]) == (built["image"], 3)
    assert told["checked"] >= 2
    # Nothing of it, and no dump.
    clean = dump(tmp_path / "clean.zip", advisory("GHSA-4", "other", [BORN])).path
    done = project.cnd("audit", str(clean))
    assert done.stdout == ""
    assert "with 1 advisories" in done.stderr
    assert "does not exist" in project.cnd("audit", "none.zip", status=2).stderr
    assert "not a whole zip file" in project.cnd("audit", "environment.yml", status=4).stderr
