"""`cnd sbom` and `cnd licenses`: what an image holds, against what is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from condainer.lock.locks import CondaPackage, PipPackage, pip_name
from condainer.materials.bill import Item
from condainer.packages.installed import license_of
from tests.helpers.projects import TOP, Project


def in_image(image: str, directory: Path) -> dict[tuple[str, str], str]:
    """Return kind, name and version of all packages in an image, by its own files."""
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-d", str(directory), image], check=True, capture_output=True
    )
    records = [json.loads(path.read_text()) for path in directory.glob("conda-meta/*.json")]
    owned = {file for record in records for file in record["files"]}
    versions = {("conda", record["name"]): record["version"] for record in records}
    for path in directory.glob("lib/python3*/site-packages/*.dist-info/METADATA"):
        if str(path.relative_to(directory)) not in owned:
            head = HeaderParser().parsestr(path.read_text())
            versions["pypi", pip_name(head["Name"])] = head["Version"]
    return versions


def test_bill_of_materials(make_project: Any, tmp_path: Path) -> None:
    files = [TOP / "demo/project" / name for name in ("environment.yml", "requirements.txt")]
    project: Project = make_project(text=files[0].read_text())
    project.write(files[1].read_text(), "requirements.txt")
    built = project.json("build")
    text = project.cnd("sbom").stdout
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    bom = json.loads(text)
    assert bom["specVersion"] == "1.7"
    purls = {item["name"]: PackageURL.from_string(item["purl"]) for item in bom["components"]}
    named = {(purl.type, purl.name): purl.version for purl in purls.values()}
    present = in_image(built["image"], tmp_path / "tree")
    assert {kind for kind, _ in present} == {"conda", "pypi"}
    assert named == present
    # As the lock has them.
    lock = project.lockfile.read_text()
    for item in bom["components"]:
        (digest,) = item["hashes"]
        assert digest["alg"] == "SHA-256"
        assert digest["content"] in lock
        (place,) = item["externalReferences"]
        assert place["url"] in lock
    python = purls["python"]
    assert python.qualifiers["subdir"] == "linux-64"
    assert python.qualifiers["type"] == "conda"
    assert f"/python-{python.version}-{python.qualifiers['build']}.conda" in lock
    licenses = {item["name"]: item.get("licenses") for item in bom["components"]}
    assert licenses["python"] == [{"license": {"acknowledgement": "declared", "id": "Python-2.0"}}]
    # What needs what, from the image itself on.
    needs = {item["ref"]: set(item.get("dependsOn", ())) for item in bom["dependencies"]}
    refs = {name: purl.to_string() for name, purl in purls.items()}
    assert {refs["python"], refs["numpy"]} <= needs[refs["pandas"]]
    waiting = [bom["metadata"]["component"]["bom-ref"]]
    reached = set(waiting)
    while waiting:
        new = needs[waiting.pop()] - reached
        reached |= new
        waiting += new
    assert set(refs.values()) < reached
    # By its name, from elsewhere, into a file: to the byte.
    assert "timestamp" not in text
    project.cnd("tag", "accounted/1")
    elsewhere = Project(tmp_path, project.environment)
    written = elsewhere.cnd("sbom", "accounted/1", "-o", "bom.json").stderr
    assert "Wrote bom.json" in written
    assert (tmp_path / "bom.json").read_text() == text
    missing = elsewhere.cnd("sbom", "accounted/1", "-o", "none/bom.json", status=12).stderr
    assert "is a directory" in elsewhere.cnd("sbom", "accounted/1", "-o", ".", status=2).stderr
    assert "none/bom.json" in missing
    # In the other format, with the same packages.
    project.cnd("sbom", "--format", "spdx", "-o", "bom.spdx.json")
    document = parse_file(str(project.path / "bom.spdx.json"))
    assert validate_full_spdx_document(document) == []
    references = [one for package in document.packages for one in package.external_references]
    assert {one.locator for one in references} == {purl.to_string() for purl in purls.values()}
    said = {package.name: str(package.license_declared) for package in document.packages}
    assert said["python"] == "Python-2.0"
    # Of the lock alone: the same packages, by the same names.
    of_lock = json.loads(project.cnd("lock", "--export", "cyclonedx").stdout)
    assert {item["bom-ref"] for item in of_lock["components"]} == set(refs.values())
    # Without the library.
    hidden = "import sys; sys.modules['cyclonedx'] = None; import runpy; "
    hidden += "runpy.run_module('condainer', run_name='__main__')"
    # It is told before the image is read, which needs unsquashfs.
    done = subprocess.run(
        [sys.executable, "-c", hidden, "sbom"],
        cwd=project.path,
        env=project.environment | {"PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 10
    assert "pip install 'condainer[sbom]'" in done.stderr


LOCKED = "https://conda.anaconda.org/conda-forge/linux-64/one-1-h0_0.conda"
MAIN = "https://repo.anaconda.com/pkgs/main/noarch/one-1-py_0.tar.bz2"
OWN = "https://a.example/conda/own/noarch/one-1-0.conda"
GIT = f"git+https://a.example/one@{'a' * 40}"


@pytest.mark.parametrize(
    ("locked", "found"),
    [
        (
            CondaPackage(LOCKED, ""),
            "pkg:conda/one@1?build=h0_0&channel=conda-forge&subdir=linux-64&type=conda",
        ),
        (
            CondaPackage(MAIN, ""),
            "pkg:conda/one@1?build=py_0&channel=main&subdir=noarch&type=tar.bz2",
        ),
        (
            CondaPackage(OWN, ""),
            "pkg:conda/one@1?build=0&channel=https://a.example/conda/own&subdir=noarch&type=conda",
        ),
        (PipPackage("One", "https://files.pythonhosted.org/one.whl", ""), "pkg:pypi/one@1"),
        (
            PipPackage("One", "https://a.example/one.whl", ""),
            "pkg:pypi/one@1?download_url=https://a.example/one.whl",
        ),
        (PipPackage("One", GIT, ""), f"pkg:pypi/one@1?vcs_url={GIT.replace('+', '%2B')}"),
    ],
)
def test_purls(locked: CondaPackage | PipPackage, found: str) -> None:
    kind, name = ("conda", "one") if isinstance(locked, CondaPackage) else ("pip", "One")
    purl = Item("one", kind, name, "1", locked).purl
    assert purl == PackageURL.from_string(found)
    assert "?" in found or purl.to_string() == found


def test_licenses(make_project: Any, licensed: Path) -> None:
    text = f"channels: ['{licensed.as_uri()}']\ndependencies: [top, choice, silent]\n"
    project: Project = make_project(text=text)
    built = project.json("build")
    lines = [re.split("  +", line) for line in project.cnd("licenses").stdout.splitlines()]
    assert [(line[0], *line[2:]) for line in lines] == [
        ("LICENSE", "NAME", "VERSION"),
        ("AGPL-3.0-or-later", "low", "3"),
        ("GPL-2.0-only OR Artistic-1.0-Perl", "choice", "2"),
        ("MIT", "top", "1"),
        ("unknown", "silent", "4"),
    ]
    report = {item["name"]: item for item in project.json("licenses", built["address"])}
    assert report["top"] == {"kind": "conda", "name": "top", "version": "1", "license": "MIT"}
    assert report["silent"]["license"] == "unknown"
    components = json.loads(project.cnd("sbom").stdout)["components"]
    assert {item["name"]: item.get("licenses") for item in components}["choice"] == [
        {"acknowledgement": "declared", "expression": "GPL-2.0-only OR Artistic-1.0-Perl"}
    ]
    packages = json.loads(project.cnd("sbom", "--format", "spdx").stdout)["packages"]
    assert {item["name"]: item.get("licenseDeclared") for item in packages[1:]} == {
        "low": "AGPL-3.0-or-later",
        "choice": "GPL-2.0-only OR Artistic-1.0-Perl",
        "top": "MIT",
        "silent": "NOASSERTION",
    }


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"License": "BSD"}, "BSD"),
        (
            {"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"},
            "MIT License",
        ),
        (
            {"License": "Copyright\n  all of it", "Classifier": "License :: Public Domain"},
            "Public Domain",
        ),
        ({"License": "Copyright\n  all of it"}, "Copyright"),
        ({"Classifier": "License :: OSI Approved"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_license_of_a_wheel(fields: dict[str, str], name: str) -> None:
    head = Message()
    for key, value in fields.items():
        head[key] = value
    assert license_of(head) == name
