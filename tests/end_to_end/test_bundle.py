"""A lock with its packages in one file: carried to a machine without network, and built there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condainer.pypi import build_requirements
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.system.errors import IntegrityError, LockfileError, StorageError
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from condainer.transfer import bundle_reader
from tests.channel import ChannelServer
from tests.helpers import flaky
from tests.helpers.projects import SMALL, Project

NOWHERE = {"CONDAINER_MIRRORS": "conda-forge=http://127.0.0.1:9/x"}


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, channel: Path, package_cache: Path
) -> tuple[Path, Any]:
    """A bundle of a small project, and what the build there says."""
    place = tmp_path_factory.mktemp("origin")
    environment = {
        **os.environ,
        "CONDAINER_CACHE": str(place / "cache"),
        "CONDAINER_PACKAGE_CACHE": str(package_cache),
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_MOUNT_BASE": str(place / "m"),
    }
    project = Project(place, environment)
    project.write("name: origin\n" + SMALL)
    project.write(f"compression_level: 3\nmount_base_directory: {place}/m\n", "condainer.yml")
    project.cnd("bundle", "packages.tar")
    return place / "packages.tar", project.json("build")


@pytest.fixture
def elsewhere(make_project: Any, tmp_path: Path) -> Project:
    """An empty project with an empty package cache, on a machine that reaches nobody."""
    packages = str(tmp_path / "their packages")
    project: Project = make_project("elsewhere", "", CONDAINER_PACKAGE_CACHE=packages, **NOWHERE)
    # As the bundle's condainer.yml has it.
    del project.environment["CONDAINER_MOUNT_BASE"]
    return project


def everything(*roots: Path) -> list[Path]:
    return [path for root in roots for path in root.rglob("*") if not path.is_dir()]


def packages_of(project: Project) -> Path:
    return Path(project.environment["CONDAINER_PACKAGE_CACHE"])


def test_a_bundle_is_built_where_there_is_nothing_else(
    bundle: tuple[Path, Any], elsewhere: Project
) -> None:
    file, built = bundle
    plan = elsewhere.json("-y", "build", "--from", str(file))["would"]
    assert "unpack 3 packages" in plan[0]
    assert not everything(elsewhere.path, packages_of(elsewhere))
    here = elsewhere.json("build", "--from", str(file))
    assert (here["hit"], here["locked"]) == (False, False)
    assert (here["address"], here["sha256"]) == (built["address"], built["sha256"])
    assert elsewhere.cnd("exec", "probe-prefix").stdout.strip() == here["prefix"]
    assert elsewhere.json("status")["lock"] == "current"
    # Once more, and afterwards without the file.
    assert elsewhere.json("build", "--from", str(file))["hit"]
    shutil.rmtree(elsewhere.cache)
    elsewhere.cnd("umount", "--force")
    assert elsewhere.json("--offline", "build")["sha256"] == built["sha256"]


def test_the_same_lock_gives_the_same_bundle(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    first = project.json("bundle", str(tmp_path / "one.tar"))
    os.utime(project.lockfile, (1, 1))
    project.cnd("bundle", str(tmp_path / "two.tar"))
    one, two = ((tmp_path / name).read_bytes() for name in ("one.tar", "two.tar"))
    assert one == two
    assert first["packages"] == 3
    assert set(first["files"]) == {project.lockfile.name, "environment.yml", "conda-lock.yml"}
    # A plain archive, for whoever wants to look.
    with tarfile.open(tmp_path / "one.tar") as archive:
        manifest = json.load(archive.extractfile("condainer-bundle.json"))  # type: ignore[arg-type]
        for number, piece in enumerate(manifest["pieces"]):
            content = archive.extractfile(str(number)).read()  # type: ignore[union-attr]
            assert hashlib.sha256(content).hexdigest() == piece["sha256"]


def test_what_the_project_has_is_not_overwritten(
    bundle: tuple[Path, Any], elsewhere: Project
) -> None:
    file, built = bundle
    elsewhere.write("dependencies: [probe-old]\n")
    done = elsewhere.cnd("build", "--from", str(file), status=12)
    assert "another environment.yml" in done.stderr
    assert everything(elsewhere.path, packages_of(elsewhere)) == [
        elsewhere.path / "environment.yml"
    ]
    assert (elsewhere.path / "environment.yml").read_text() == "dependencies: [probe-old]\n"
    # The same file is no obstacle.
    elsewhere.write("name: origin\n" + SMALL)
    assert elsewhere.json("build", "--from", str(file))["sha256"] == built["sha256"]


def test_a_link_in_the_project_is_not_followed(
    bundle: tuple[Path, Any], elsewhere: Project, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (elsewhere.path / "condainer.yml").symlink_to(victim)
    elsewhere.cnd("build", "--from", str(bundle[0]), status=12)
    assert not victim.exists()


def pieces_of(file: Path) -> list[tuple[dict[str, Any], bytes]]:
    with tarfile.open(file) as archive:
        manifest = json.load(archive.extractfile("condainer-bundle.json"))  # type: ignore[arg-type]
        return [
            (piece, archive.extractfile(str(number)).read())  # type: ignore[union-attr]
            for number, piece in enumerate(manifest["pieces"])
        ]


def written(pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
    """Write a bundle as another program would."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        listed = {"format": "condainer-packages 1", "pieces": [piece for piece, _ in pieces]}
        for name, content in [
            ("condainer-bundle.json", json.dumps(listed).encode()),
            *((str(number), content) for number, (_, content) in enumerate(pieces)),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def piece(kind: str, name: str, content: bytes) -> tuple[dict[str, Any], bytes]:
    digest = hashlib.sha256(content).hexdigest()
    return {"kind": kind, "name": name, "sha256": digest, "size": len(content)}, content


RECORD = "0" * 64 + "-3.12"
EVIL = b'[{"url": "https://x", "sha256": "0", "filename": "../../evil"}]'
DEEP = b"[" * 100_000
Change = Callable[[bytes, list[tuple[dict[str, Any], bytes]]], bytes]


def renamed(name: str) -> Change:
    return lambda raw, pieces: written([*pieces, piece("project", name, b"x")])


def settings_saying(text: bytes) -> Change:
    def change(raw: bytes, pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
        others = [item for item in pieces if item[0]["name"] != "condainer.yml"]
        return written([*others, piece("project", "condainer.yml", text)])

    return change


def archive_named(name: str) -> Change:
    return lambda raw, pieces: written([*pieces, piece("archive", name, b"x")])


def changed(number: int, **values: Any) -> Change:
    def change(raw: bytes, pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
        pieces[number] = ({**pieces[number][0], **values}, pieces[number][1])
        return written(pieces)

    return change


def flipped(raw: bytes, pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
    """Change a byte of the last package."""
    place = raw.rindex(pieces[-1][1]) + 5
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def linked(raw: bytes, pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
    """Begin with a link instead of the list."""
    member = tarfile.TarInfo("condainer-bundle.json")
    member.type = tarfile.SYMTYPE
    member.linkname = "/etc/passwd"
    return member.tobuf() + raw


def lying_size(raw: bytes, pieces: list[tuple[dict[str, Any], bytes]]) -> bytes:
    member = tarfile.TarInfo("condainer-bundle.json")
    member.size = 1 << 50
    return member.tobuf(tarfile.GNU_FORMAT) + raw[512:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw, pieces: b"", "no readable archive"),
        (lambda raw, pieces: b"not an archive", "no readable archive"),
        (lambda raw, pieces: raw[: len(raw) // 2], "cut off"),
        (lambda raw, pieces: raw[:-1024], "does not end"),
        (lambda raw, pieces: raw + b"more", "does not end"),
        (lambda raw, pieces: raw[:512] + b"?" + raw[513:], "list cannot be read"),
        (lambda raw, pieces: raw[:130] + b"?" + raw[131:], "no readable archive"),
        (flipped, "does not have its sha256"),
        (linked, "was expected"),
        (lying_size, "cut off"),
        (renamed("../evil"), "no file of a project"),
        (renamed("a/../../evil"), "no file of a project"),
        (renamed(".git/hooks/post-checkout"), "no file of a project"),
        (renamed("./evil"), "no file of a project"),
        (renamed(".envrc"), "no file of a project"),
        (renamed(".ssh/authorized_keys"), "no file of a project"),
        (renamed("conda-linux-64.lock/x"), "no file of a project"),
        (renamed("sitecustomize.py"), "no file of a project"),
        (settings_saying(b"conda_exe: ./evil"), "sets `conda_exe`"),
        (settings_saying(b"{installer: ./evil}"), "sets `installer`"),
        (settings_saying(b"\xef\xbb\xbftool_directory: ."), "sets `tool_directory`"),
        (settings_saying(b"post_link_scripts: true"), "sets `post_link_scripts`"),
        (renamed("a\nb"), "no valid piece"),
        (archive_named("../../evil"), "without a usable file name"),
        (archive_named(".."), "without a usable file name"),
        (archive_named(""), "no valid piece"),
        (changed(-1, sha256="0" * 64), "does not have its sha256"),
        (changed(-1, sha256="../" * 21 + "x"), "no valid sha256"),
        (changed(-1, size=3), "bytes, not 3"),
        (changed(-1, size=True), "no valid piece"),
        (changed(-1, kind="device"), "no valid piece"),
        (changed(-1, name="another-1.0-0.conda"), "lacks packages"),
        (lambda raw, pieces: written(pieces[:-1]), "lacks packages"),
        (lambda raw, pieces: written([*pieces, pieces[-1]]), "something twice"),
        (lambda raw, pieces: written(pieces[1:]), "no platform"),
        (lambda raw, pieces: written([*pieces, piece("repository", "git+ext::x", b"")]), "Git URL"),
        (lambda raw, pieces: written([*pieces, piece("record", "../evil", b"[]")]), "no record"),
        (lambda raw, pieces: written([*pieces, piece("record", RECORD, b"[{}]")]), "no record"),
        (lambda raw, pieces: written([*pieces, piece("record", RECORD, EVIL)]), "no record"),
        (lambda raw, pieces: written([*pieces, piece("record", RECORD, DEEP)]), "no record"),
    ],
)
def test_a_hostile_or_damaged_bundle_leaves_nothing(
    bundle: tuple[Path, Any], change: Change, reason: str, tmp_path: Path
) -> None:
    raw = bundle[0].read_bytes()
    file = tmp_path / "packages.tar"
    file.write_bytes(change(raw, pieces_of(bundle[0])))
    project, packages = tmp_path / "project", tmp_path / "packages"
    project.mkdir()

    def load() -> Settings:
        return load_settings(project, (f"package_cache={packages}",))

    with pytest.raises((IntegrityError, LockfileError), match=reason):
        bundle_reader.unpack(file, project, load, Silent())
    with pytest.raises((IntegrityError, LockfileError), match=reason):
        bundle_reader.unpack_plan(file, project, load())
    assert everything(tmp_path) == [file]


def test_an_absolute_name_in_a_bundle_leaves_nothing(
    bundle: tuple[Path, Any], tmp_path: Path
) -> None:
    test_a_hostile_or_damaged_bundle_leaves_nothing(
        bundle, renamed(str(tmp_path / "evil")), "no file of a project", tmp_path
    )


def test_a_bundle_of_another_writer_is_as_good(bundle: tuple[Path, Any], tmp_path: Path) -> None:
    file = tmp_path / "packages.tar"
    file.write_bytes(written(pieces_of(bundle[0])))
    project = tmp_path / "project"
    project.mkdir()
    settings = load_settings(project, (f"package_cache={tmp_path / 'packages'}",))
    done = bundle_reader.unpack(file, project, lambda: settings, Silent())
    assert done.packages == 3
    assert len(everything(tmp_path / "packages")) == 3


def test_what_was_written_goes_again_when_packages_cannot_be_kept(
    bundle: tuple[Path, Any], elsewhere: Project
) -> None:
    packages_of(elsewhere).write_text("in the way")
    elsewhere.cnd("build", "--from", str(bundle[0]), status=12)
    assert not everything(elsewhere.path)


@pytest.mark.parametrize("there", [set(), {"sub"}])
def test_directories_go_again_too(
    bundle: tuple[Path, Any], tmp_path: Path, there: set[str]
) -> None:
    pieces = [*pieces_of(bundle[0]), piece("project", "sub/deep/e.yml", b"{}")]
    file, project, packages = tmp_path / "x.tar", tmp_path / "project", tmp_path / "packages"
    file.write_bytes(settings_saying(b"environment_yml: sub/deep/e.yml")(b"", pieces))
    for directory in (project, *(project / name for name in there)):
        directory.mkdir()
    packages.write_text("in the way")

    def load() -> Settings:
        assert (project / "sub/deep/e.yml").is_file()
        return load_settings(project, (f"package_cache={packages}",))

    with pytest.raises(StorageError):
        bundle_reader.unpack(file, project, load, Silent())
    assert {str(path.relative_to(project)) for path in project.rglob("*")} == there


def test_a_bundle_is_not_written_without_all_of_its_packages(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    project = make_project(
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
    )
    project.cnd("lock")
    file = tmp_path / "out.tar"
    project.cnd("--offline", "bundle", str(file), status=6)
    server.fail("probe-files", 404, 9)
    project.cnd("bundle", str(file), status=6)
    assert not list(tmp_path.glob("*out.tar*"))
    assert not list((tmp_path / "packages").glob("download.*"))


def test_files_outside_of_the_project_are_refused(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    outside = tmp_path / "environment.yml"
    outside.write_text(SMALL)
    project.write(f"environment_yml: {outside}\n", "condainer.yml")
    done = project.cnd("bundle", str(tmp_path / "out.tar"), status=4)
    assert "not in the project's directory" in done.stderr
    assert not (tmp_path / "out.tar").exists()


BACKEND = """\
import zipfile

import idna

def build_wheel(directory, settings=None, metadata=None):
    name = "sourced-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("sourced.py", f"BUILT = {idna.encode('x')!r}\\n")
        wheel.writestr("sourced-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("sourced-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("sourced-1.0.dist-info/RECORD", "")
    return name

METADATA = "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
"""
PYPROJECT = """\
[build-system]
requires = ["idna>=3"]
build-backend = "backend"
backend-path = ["."]
"""


def sdist(directory: Path) -> Path:
    """Write a package from source that needs another one to be built."""
    path = directory / "sourced-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        texts = {"backend.py": BACKEND, "pyproject.toml": PYPROJECT}
        for name, text in (*texts.items(), ("PKG-INFO", "Name: sourced\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"sourced-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_package_from_source_is_built_where_there_is_no_network(
    make_project: Any, elsewhere: Project, channel: Path, empty_packages: Path, tmp_path: Path
) -> None:
    elsewhere.environment["CONDAINER_PACKAGE_CACHE"] = str(empty_packages)
    with flaky.serve() as index:
        wheels = (channel.parent / "wheels").glob("idna-*.whl")
        flaky.add_index(index, [sdist(tmp_path), *wheels])
        project = make_project(
            text="dependencies: [python]\n",
            CONDAINER_PACKAGE_CACHE=str(tmp_path / "our packages"),
            UV_DEFAULT_INDEX=f"{index.url}/simple",
            UV_CACHE_DIR=str(tmp_path / "uv"),
        )
        # On loopback: what the project itself does not name is refused.
        project.write(f"--index-url {index.url}/simple\nsourced\n", "requirements.txt")
        project.cnd("bundle", str(tmp_path / "packages.tar"))
    built = elsewhere.json(
        "build",
        *("--from", str(tmp_path / "packages.tar")),
        UV_CACHE_DIR=str(tmp_path / "other uv"),
        CONDAINER_MOUNT_BASE=str(tmp_path / "m"),
    )
    assert not built["hit"]
    shown = elsewhere.cnd(
        *("exec", "python", "-c", "import sourced; print(sourced.BUILT)"),
        CONDAINER_MOUNT_BASE=str(tmp_path / "m"),
    )
    assert shown.stdout == "b'x'\n"
    elsewhere.cnd("umount", "--force", CONDAINER_MOUNT_BASE=str(tmp_path / "m"))


def test_a_lock_that_leads_to_this_machine_is_refused(
    bundle: tuple[Path, Any], tmp_path: Path
) -> None:
    pieces = []
    for item, content in pieces_of(bundle[0]):
        if item["name"].endswith(".lock"):
            evil = re.sub(rb"https://[^/]+/", b"http://169.254.169.254/", content)
            pieces.append(piece("project", item["name"], evil))
        else:
            pieces.append((item, content))
    file = tmp_path / "packages.tar"
    file.write_bytes(written(pieces))
    project = tmp_path / "project"
    project.mkdir()
    settings = load_settings(project, (f"package_cache={tmp_path / 'packages'}",))
    with pytest.raises(LockfileError, match=r"169\.254"):
        bundle_reader.unpack(file, project, lambda: settings, Silent())
    assert everything(tmp_path) == [file]


def test_a_project_with_its_own_lock_takes_packages_only(
    bundle: tuple[Path, Any], tmp_path: Path
) -> None:
    """Also where the bundle has another lock, and settings that run programs."""
    pieces = pieces_of(bundle[0])
    (lock,) = (content for item, content in pieces if item["name"].endswith("-64.lock"))
    file, project, packages = tmp_path / "x.tar", tmp_path / "project", tmp_path / "packages"
    evil = settings_saying(b"conda_exe: ./evil")
    file.write_bytes(evil(b"", [*pieces, piece("record", RECORD, b"[]")]))
    project.mkdir()
    (project / f"conda-{this_platform()}.lock").write_bytes(lock + b"# mine\n")
    settings = load_settings(project, (f"package_cache={packages}",))
    assert len(bundle_reader.unpack_plan(file, project, settings)) == 1
    done = bundle_reader.unpack(file, project, lambda: settings, Silent())
    assert (done.written, done.packages) == ((), 3)
    assert len(everything(project)) == 1
    assert not list(packages.glob("builds/*"))


@pytest.mark.parametrize("own", [False, True])
def test_records_of_build_tools_are_for_packages_of_the_lock(
    bundle: tuple[Path, Any], tmp_path: Path, own: bool
) -> None:
    """A record would choose what builds other projects' packages, too."""
    pieces = pieces_of(bundle[0])
    sdist = piece("archive", "thing-1.0.tar.gz", b"source")
    python = piece("archive", "python-3.12.1-0.conda", b"python")
    url = f"https://x.example/{this_platform()}/{python[0]['name']}"
    line = f"{url}#{python[0]['sha256']}\n"
    line += f"# pip thing @ https://x.example/thing-1.0.tar.gz#sha256={sdist[0]['sha256']}\n"
    pieces = [
        piece("project", item["name"], content.replace(b": 3\n", b": 5\n") + line.encode())
        if item["name"].endswith("-64.lock")
        else (item, content)
        for item, content in pieces
    ]
    wanted = f"{sdist[0]['sha256']}-3.12"
    locked = {"url": "https://x.example/e-9.whl", "sha256": "0" * 64, "filename": "e-9.whl"}
    records = [piece("record", key, json.dumps([locked]).encode()) for key in (RECORD, wanted)]
    file, packages = tmp_path / "x.tar", tmp_path / "packages"
    file.write_bytes(written([*pieces, python, sdist, *records]))
    (tmp_path / "project").mkdir()
    settings = load_settings(tmp_path / "project", (f"package_cache={packages}",))
    if own:
        build_requirements.write(wanted, "[]\n", settings)
    bundle_reader.unpack(file, settings.project, lambda: settings, Silent())
    assert [path.name for path in (packages / "builds").iterdir()] == [f"{wanted}.json"]
    assert (build_requirements.read(wanted, settings) == []) == own


def test_a_fifo_is_no_bundle(elsewhere: Project, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    elsewhere.cnd("build", "--from", str(tmp_path / "fifo"), status=12)
    elsewhere.cnd("build", "--from", str(tmp_path / "absent"), status=12)
    subprocess.run(["test", "-p", tmp_path / "fifo"], check=True)
