"""One file holds an entry: whole, mountable, and believed in nothing that was not checked."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import xxhash
from filelock import FileLock

from condainer.cache import publish
from condainer.cache.one_file import LENGTH
from condainer.lock.address import address_of
from condainer.lock.explicit import parse_explicit
from tests.helpers.projects import Project


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a directory with its content, and every directory."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
    }


@pytest.fixture
def built(project: Project) -> Any:
    return project.json("build")


@pytest.fixture
def bundle(project: Project, built: Any, tmp_path: Path) -> Path:
    """The exported image of the project."""
    path = tmp_path / "environment.squashfs"
    project.cnd("export", built["address"][:10], str(path))
    return path


@pytest.fixture
def other(make_project: Any, tmp_path: Path) -> Project:
    """A project with the same environment on another system: another, empty cache."""
    other: Project = make_project("other", CONDAINER_CACHE=str(tmp_path / "other cache"))
    return other


def packed(image: bytes, manifest: bytes, lock: bytes) -> bytes:
    """Write a bundle as the layout says, independently of the implementation."""
    body = image + manifest + lock
    lengths = f"{len(image):020} {len(manifest):010} {len(lock):010}"
    return body + f"condainer-bundle 1 {lengths} {hashlib.sha256(body).hexdigest()}\n".encode()


def parts(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return image, manifest and lock of a bundle."""
    content = path.read_bytes()
    image, manifest, lock = (int(n) for n in content[-LENGTH:].split()[2:5])
    assert len(content) == image + manifest + lock + LENGTH
    return content[:image], content[image : image + manifest], content[-LENGTH - lock : -LENGTH]


def test_an_exported_image_is_imported_elsewhere_with_the_same_bytes(
    project: Project, other: Project, built: Any, bundle: Path
) -> None:
    entry = Path(built["image"]).parent
    assert packed(*parts(bundle)) == bundle.read_bytes()
    assert parts(bundle)[0] == (entry / "image.squashfs").read_bytes()
    result = other.json("import", str(bundle))
    assert (result["address"], result["present"]) == (built["address"], False)
    place = Path(result["image"]).parent
    assert tree(place) == tree(entry)
    assert {path.stat().st_mode & 0o7777 for path in place.iterdir()} == {0o444}
    assert list((other.cache / "tmp").iterdir()) == []
    assert other.json("verify", built["address"])["ok"]
    assert other.json("build")["hit"]
    before = tree(other.cache)
    assert other.json("import", str(bundle))["present"]
    assert "Already there" in other.cnd("import", str(bundle)).stderr
    assert tree(other.cache) == before
    assert project.cnd("import", str(bundle)).stdout == ""


def test_an_import_that_waited_uses_what_another_has_brought(
    other: Project, built: Any, bundle: Path
) -> None:
    entry = Path(built["image"]).parent
    publish.prepare(other.cache)
    with FileLock(other.cache / "locks" / f"{built['address']}.lock"):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "condainer", "import", "--json", str(bundle)],
            cwd=other.path,
            env=other.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert any("Waiting for" in line for line in waiting.stderr)
        shutil.copytree(entry, other.cache / "images" / built["address"][:2] / built["address"])
    assert json.loads(waiting.communicate()[0])["present"]


def test_a_missing_unsquashfs_is_told_before_anything_is_copied(
    project: Project, other: Project, built: Any, bundle: Path, tmp_path: Path
) -> None:
    away = {"PATH": "/nowhere"}
    copy = tmp_path / "copy"
    told = project.cnd("export", built["address"], str(copy), status=10, **away).stderr
    assert "unsquashfs is not installed" in told
    assert "Exporting" not in told
    image, manifest, lock = parts(bundle)
    bundle.write_bytes(packed(image[:-1] + b"!", manifest, lock))
    # Otherwise the copy would show that it is damaged.
    told = other.cnd("import", str(bundle), status=10, **away).stderr
    assert "unsquashfs is not installed" in told


def test_tools_that_read_squashfs_read_an_exported_file(
    project: Project, built: Any, bundle: Path, tmp_path: Path
) -> None:
    address = f"{built['address']}\n"
    cat = ["unsquashfs", "-no-progress", "-cat", str(bundle), ".condainer/address"]
    assert subprocess.run(cat, capture_output=True, text=True).stdout == address
    where = tmp_path / "where"
    where.mkdir()
    mounts = [["squashfuse"]]
    if os.getuid() == 0:
        # The kernel's own, where it has one and there are loop devices.
        mounts.append(["mount", "-t", "squashfs", "-o", "loop,ro"])
    for command in mounts:
        done = subprocess.run([*command, bundle, where], capture_output=True, text=True)
        if done.returncode and command[0] == "mount":
            continue
        assert done.returncode == 0, done.stderr
        assert (where / ".condainer" / "address").read_text() == address
        subprocess.run(["umount", where], check=True)
    assert len(project.json("verify", str(bundle))["checked"]) == 4


def test_an_exported_file_can_be_taken_apart_by_hand(bundle: Path, built: Any) -> None:
    script = (
        'set -- $(tail -n 1 "$0"); '
        'head -c "$((10#$3))" "$0" | sha256sum; '
        f'head -c -{LENGTH} "$0" | sha256sum; echo "$6"'
    )
    done = subprocess.run(
        ["bash", "-c", script, bundle], capture_output=True, text=True, check=True
    )
    image, body, stated = (line.split()[0] for line in done.stdout.splitlines())
    assert image == built["sha256"]
    assert body == stated


# Export


def test_a_damaged_image_is_not_exported(project: Project, built: Any, tmp_path: Path) -> None:
    image = Path(built["image"])
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 4
    image.chmod(0o644)
    image.write_bytes(content)
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_text("old")
    assert "damaged" in project.cnd("export", built["address"], str(target), status=9).stderr
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_an_export_that_cannot_be_written_says_so(
    project: Project, built: Any, tmp_path: Path
) -> None:
    address = built["address"]
    for command in (("export", address), ("bundle",)):
        said = project.cnd(*command, str(tmp_path / "no" / "file"), status=12).stderr
        assert f"{tmp_path / 'no'} is no directory\n     Make it" in said
    project.cnd("export", "00000000", str(tmp_path / "file"), status=15)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    project.cnd("export", address, str(fifo), status=12)
    assert fifo.is_fifo()
    project.cnd("export", address, str(tmp_path), status=2)
    would = json.loads(project.cnd("-y", "export", address, "file", "--json").stdout)["would"]
    assert "file" in would[0]
    assert not (project.path / "file").exists()


# Import of what is damaged, foreign or hostile


def refused(other: Project, path: Path, status: int = 9) -> str:
    """Import a file that must be refused, and see that nothing of it is left."""
    done = other.cnd("import", str(path), status=status)
    images = other.cache / "images"
    assert not [item for item in images.rglob("*") if len(item.name) > 2]
    assert not (other.cache / "tmp").exists() or not list((other.cache / "tmp").iterdir())
    assert done.stdout == ""
    return done.stderr


def test_every_fault_in_a_file_is_found(other: Project, bundle: Path, tmp_path: Path) -> None:
    original = bundle.read_bytes()
    image, manifest, lock = parts(bundle)
    chance = random.Random(3)
    after = len(image)
    places = [chance.randrange(after) for _ in range(4)]
    places += [after + chance.randrange(len(manifest)) for _ in range(3)]
    places += [after + len(manifest) + chance.randrange(len(lock)) for _ in range(3)]
    places += [len(original) - 1 - chance.randrange(LENGTH) for _ in range(4)]
    damaged = tmp_path / "damaged"
    for place in places:
        content = bytearray(original)
        content[place] ^= 1 << chance.randrange(8)
        damaged.write_bytes(content)
        other.cnd("verify", str(damaged), status=9)
        refused(other, damaged)
    for length in [0, 1, 100, after - 5, after, after + 50, len(original) - 1]:
        damaged.write_bytes(original[:length])
        refused(other, damaged)
    damaged.write_bytes(original + b"\n")
    refused(other, damaged)


def test_foreign_files_are_refused(
    other: Project, built: Any, bundle: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("hello\n")
    assert "not an image that Condainer exported" in refused(other, text)
    bare = shutil.copyfile(built["image"], tmp_path / "bare")
    assert "without manifest and lock" in refused(other, Path(bare))
    refused(other, tmp_path / "missing", 12)
    refused(other, Path("/dev/zero"), 12)
    image, manifest, lock = parts(bundle)
    text.write_bytes(packed(image, manifest, lock)[:-LENGTH] + b"x" * LENGTH)
    refused(other, text)
    text.write_bytes(packed(b"hsqs" + bytes(5000), manifest, lock))
    refused(other, text)


def test_an_image_of_another_platform_is_refused(
    other: Project, bundle: Path, tmp_path: Path
) -> None:
    image, manifest_text, lock = parts(bundle)
    text = lock.decode().replace("linux-64", "linux-aarch64")
    manifest = json.loads(manifest_text)
    base = Path(manifest["prefix"]).parent
    address = address_of(parse_explicit(text, "test", "linux-aarch64"), base)
    manifest.update(
        address=address.digest, recipe_sha256=address.sha256, prefix=str(address.prefix)
    )
    path = tmp_path / "foreign"
    path.write_bytes(packed(image, json.dumps(manifest).encode(), text.encode()))
    assert "linux-aarch64" in refused(other, path, 8)


HOSTILE: tuple[dict[str, Any], ...] = (
    {"address": "../evil"},
    {"address": "0" * 32},
    {"recipe_sha256": "0" * 64},
    {"prefix": "/etc"},
    {"prefix": "/tmp/../etc/condainer-0"},
    {"prefix": "relative"},
    {"size": -1},
    {"size": 2**70},
    {"sha256": "0" * 64},
    {"format": 2},
    {"tools": None},
)


def test_a_hostile_manifest_is_refused(other: Project, bundle: Path, tmp_path: Path) -> None:
    image, manifest, lock = parts(bundle)
    path = tmp_path / "hostile"
    path.touch()
    before = {item for item in tmp_path.rglob("*") if "other cache" not in str(item)}
    for values in HOSTILE:
        changed = json.dumps({**json.loads(manifest), **values}).encode()
        path.write_bytes(packed(image, changed, lock))
        refused(other, path)
    assert {item for item in tmp_path.rglob("*") if "other cache" not in str(item)} == before


def test_a_base_directory_cannot_smuggle_lines_into_the_recipe(
    other: Project, bundle: Path, tmp_path: Path
) -> None:
    image, manifest_text, lock = parts(bundle)
    manifest = json.loads(manifest_text)
    # With the packages in the base directory and out of the lock, the text would be the same.
    lines = re.findall(r"\S*/([^/]+/[^/#]+)#sha256:(\w+)", lock.decode())
    moved, kept = sorted(lines)[0], sorted(lines)[1:]
    base = f"{Path(manifest['prefix']).parent}\nconda {moved[0]} sha256:{moved[1]}"
    manifest["prefix"] = f"{base}/condainer-{manifest['address']}"
    shorter = "".join(
        line
        for line in lock.decode().splitlines(keepends=True)
        if moved[1] not in line and not line.startswith("# packages")
    )
    assert len(kept) == len(lines) - 1
    path = tmp_path / "hostile"
    path.write_bytes(packed(image, json.dumps(manifest).encode(), shorter.encode()))
    assert "prefix" in refused(other, path)


def test_another_image_under_a_right_looking_manifest_is_refused(
    make_project: Any, other: Project, bundle: Path, tmp_path: Path
) -> None:
    third = make_project("third", "dependencies: [probe-prefix]\n").json("build")
    image = Path(third["image"]).read_bytes()
    _, manifest_text, lock = parts(bundle)
    manifest = {
        **json.loads(manifest_text),
        "size": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "xxh3": xxhash.xxh3_128_hexdigest(image),
    }
    path = tmp_path / "hostile"
    path.write_bytes(packed(image, json.dumps(manifest).encode(), lock))
    assert "recipe inside" in refused(other, path)


def test_a_killed_import_leaves_nothing_that_the_next_does_not_clear(
    other: Project, bundle: Path
) -> None:
    for delay in (0.05, 0.15, 0.25):
        child = subprocess.Popen(
            [sys.executable, "-m", "condainer", "import", str(bundle)],
            cwd=other.path,
            env=other.environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    other.cnd("import", str(bundle))
    assert list((other.cache / "tmp").iterdir()) == []
    assert [verdict["ok"] for verdict in other.json("verify", "--all")] == [True]


def test_a_cache_that_cannot_be_written_says_so(make_project: Any, bundle: Path) -> None:
    other = make_project("other", CONDAINER_CACHE="/proc/no-cache")
    other.cnd("import", str(bundle), status=12)
    would = json.loads(other.cnd("-y", "import", str(bundle), "--json").stdout)["would"]
    assert "/proc/no-cache" in would[1]
