"""What a lock looks like in the formats of other tools, read by their own libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.pylock import Pylock, PylockSelectError
from packaging.tags import parse_tag
from rattler.lock import CondaLockedBinaryPackage, LockFile
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from condainer.commands.environment.lock import FORMS
from condainer.lock import rattler_lock
from condainer.lock.address import address_of
from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.settings.load import load_settings
from condainer.solve import export
from condainer.solve.conda_lock_file import Detail
from condainer.solve.formats.exported import Exported, Known

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHANNEL = "https://channel.example/a"
LIB = CondaPackage(f"{CHANNEL}/noarch/_lib_x-1.0-0.conda", "a" * 64)
PYTHON = CondaPackage(f"{CHANNEL}/linux-64/python-3.12.1-h1_0_cpython.conda", "c" * 64)
OTHER = CondaPackage("https://other.example/b/linux-64/app-2-0.tar.bz2", "e" * 64)
GIT = PipPackage("Tool", f"git+https://host.test/tool@{COMMIT}#subdirectory=x", "")
WHEEL = PipPackage("Alpha_One", "https://index.example/alpha_one-1.0-py3-none-any.whl", "b" * 64)
SDIST = PipPackage("beta", "https://files.pythonhosted.org/p/beta-2.0.tar.gz", "d" * 64)
TREE = PipPackage("gamma", "https://host.example/archive/v3.zip", "f" * 64)
LOCK = Lock("linux-64", (LIB, PYTHON, OTHER), (WHEEL, SDIST, TREE, GIT), name="named")
DETAILS = {
    LIB.url: Detail("1" * 32, ()),
    PYTHON.url: Detail("2" * 32, ("_lib_x >=1,<2", "__glibc >=2.17")),
}


def exported(form: str, tmp_path: Path, *locks: Lock) -> Exported:
    make, _ = export.FORMS[form]
    return make(Known(load_settings(tmp_path, environ={}), locks or (LOCK,), DETAILS))


def test_the_command_names_all_formats() -> None:
    assert tuple(export.FORMS) == FORMS


def test_requirements_keep_references_with_a_note(tmp_path: Path) -> None:
    made = exported("requirements", tmp_path)
    assert f"Tool @ {GIT.url}\n" in made.text
    assert f"Alpha_One @ {WHEEL.url} --hash=sha256:{WHEEL.sha256}\n" in made.text
    assert any("version control" in note for note in made.notes)
    assert f"# pip Tool @ {GIT.url}\n" in exported("explicit", tmp_path).text


@pytest.mark.parametrize(("form", "name"), [("pixi", "pixi.lock"), ("conda", "conda.lock")])
def test_rattlers_lockfile_is_read_as_the_same_lock(tmp_path: Path, form: str, name: str) -> None:
    arm = Lock("osx-arm64", (LIB,), (WHEEL,))
    made = exported(form, tmp_path, arm, LOCK)
    assert made.text == exported(form, tmp_path, LOCK, arm).text
    path = tmp_path / name
    path.write_text(made.text)
    for lock in (LOCK, arm):
        read = rattler_lock.read(path, lock.platform)
        assert address_of(read, Path("/m")).digest == address_of(lock, Path("/m")).digest
        assert {(p.url, p.sha256) for p in read.conda} == {(p.url, p.sha256) for p in lock.conda}
    assert made.notes == ("What the conda packages depend on is not known, and left out",)


def test_what_pixis_own_library_reads_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    path.write_text(exported("pixi", tmp_path).text)
    # It writes a version of its own, and what it reads of that is the same.
    LockFile.from_path(path).to_path(tmp_path / "theirs.lock")
    for one in (path, tmp_path / "theirs.lock"):
        environment = LockFile.from_path(one).default_environment()
        assert environment is not None
        assert [str(c) for c in environment.channels()] == [
            f"{CHANNEL}/",
            "https://other.example/b/",
        ]
        (packages,) = environment.packages_by_platform().values()
        conda = {p.name: p for p in packages if isinstance(p, CondaLockedBinaryPackage)}
        record = conda["python"].repo_data_record()
        assert record.depends == ["_lib_x >=1,<2", "__glibc >=2.17"]
        assert record.md5 is not None
        assert record.md5.hex() == "2" * 32
        (pip,) = environment.pypi_packages().values()
        assert {(p.name, p.version) for p in pip} >= {("alpha-one", "1.0"), ("beta", "2.0")}


def test_pylock(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text(
        "pip-repositories: ['https://me:word@index.example/simple']\n"
        "dependencies: [python, {pip: [alpha-one]}]\n"
    )
    made = exported("pylock", tmp_path)
    content: dict[str, Any] = tomlkit.parse(made.text).unwrap()
    pylock = Pylock.from_dict(content)
    packages = {str(package["name"]): package for package in content["packages"]}
    assert packages["alpha-one"]["index"] == "https://index.example/simple"
    assert packages["alpha-one"]["wheels"][0]["hashes"] == {"sha256": WHEEL.sha256}
    assert packages["beta"]["index"] == "https://pypi.org/simple"
    assert packages["beta"]["sdist"]["name"] == "beta-2.0.tar.gz"
    assert packages["gamma"]["archive"]["url"] == TREE.url
    place = {"type": "git", "url": "https://host.test/tool", "commit-id": COMMIT}
    assert packages["tool"]["vcs"] == {**place, "subdirectory": "x"}
    assert "word" not in made.text
    assert "3 conda packages" in made.notes[0]
    # As an installer asks it.
    tags = list(parse_tag("py3-none-any"))
    here: Any = {"python_full_version": "3.12.4", "sys_platform": "linux"}
    machine: Any = {**here, "platform_machine": "x86_64"}
    chosen = pylock.select(environment=machine, tags=tags)
    assert [package.name for package, _ in chosen] == ["alpha-one", "beta", "gamma", "tool"]
    for other in ({"platform_machine": "aarch64"}, {"python_full_version": "3.11.0"}):
        asked: Any = {**machine, **other}
        with pytest.raises(PylockSelectError):
            list(pylock.select(environment=asked, tags=tags))


def test_cyclonedx_of_a_lock(tmp_path: Path) -> None:
    text = exported("cyclonedx", tmp_path).text
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    bom = json.loads(text)
    purls = {item["name"]: PackageURL.from_string(item["purl"]) for item in bom["components"]}
    assert {purl.to_string() for purl in purls.values()} >= {
        f"pkg:conda/_lib_x@1.0?build=0&channel={CHANNEL}&subdir=noarch&type=conda",
        "pkg:pypi/beta@2.0",
    }
    assert purls["Tool"].version is None
    needs = {d["ref"]: d.get("dependsOn", []) for d in bom["dependencies"]}
    refs = {name: purl.to_string() for name, purl in purls.items()}
    assert needs[refs["python"]] == [refs["_lib_x"]]
    assert needs[refs["_lib_x"]] == []
    # Of these nothing is known.
    assert not {refs["beta"], refs["app"]} & needs.keys()
    assert set(needs[f"condainer-{bom['metadata']['component']['version']}"]) == {
        ref for name, ref in refs.items() if name != "_lib_x"
    }
    assert "timestamp" not in text
    assert bom["serialNumber"] == json.loads(exported("cyclonedx", tmp_path).text)["serialNumber"]
    changed = exported("cyclonedx", tmp_path, replace(LOCK, pip=())).text
    assert bom["serialNumber"] != json.loads(changed)["serialNumber"]


def test_spdx_of_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock.spdx.json"
    path.write_text(exported("spdx", tmp_path).text)
    document = parse_file(str(path))
    assert validate_full_spdx_document(document) == []
    packages = {package.name: package for package in document.packages}
    assert packages["beta"].checksums[0].value == SDIST.sha256
    assert packages["Tool"].download_location == GIT.url.replace("#subdirectory=x", "#x")
    assert packages["python"].external_references[0].locator.startswith("pkg:conda/python@3.12.1?")
    relations = {
        (r.spdx_element_id, r.related_spdx_element_id)
        for r in document.relationships
        if r.relationship_type.name == "DEPENDS_ON"
    }
    assert (packages["python"].spdx_id, packages["_lib_x"].spdx_id) in relations


def test_the_names_in_a_comment_stay_whole(tmp_path: Path) -> None:
    names = [f"a-long-name-{number}" for number in range(20)]
    conda = [CondaPackage(f"{CHANNEL}/noarch/{name}-1.0-0.conda", "a" * 64) for name in names]
    text = exported("pylock", tmp_path, Lock("linux-64", (PYTHON, *conda))).text
    assert [name for name in names if name not in text] == []
