"""Signing, demanding signatures, and what members of a group can plant in its cache."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.keys import Key, allow, make_key
from tests.helpers.members import Member
from tests.helpers.projects import Project
from tests.helpers.signed import configure, demand_signatures, repack
from tests.helpers.waiting import until

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")

EVIL = "#!/bin/sh\necho evil\n"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """A key without passphrase."""
    return make_key(tmp_path / "key")


def test_sign_and_demand_signatures(project: Project, key: Key) -> None:
    built = project.json("build")
    demand_signatures(project, key)
    for command, status in (("build", 16), ("mount", 16), ("exec", 125), ("shell", 16)):
        arguments = ("exec", "probe-prefix") if command == "exec" else (command,)
        refused = project.cnd(*arguments, status=status)
        assert f"{built['image']} is not signed by anybody" in refused.stderr
        assert f"cnd sign {built['address']}" in refused.stderr
    assert "not signed" in project.bash("source ./activate").stderr
    (signed,) = project.json("sign", "--key", str(key.path))
    assert signed["sha256"] == built["sha256"]
    assert Path(signed["signature"]).stat().st_mode & 0o7777 == 0o444
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]
    assert project.json("build")["hit"]
    (told,) = project.json("verify")["signatures"]
    assert (told["signer"], told["allowed"]) == ("alice", True)
    assert "signed by alice" in project.cnd("verify").stderr


def test_what_is_built_or_imported_with_a_key_is_signed(
    project: Project, make_project: Any, key: Key, tmp_path: Path
) -> None:
    demand_signatures(project, key, signing_key=key.path)
    built = project.json("build")
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]
    file = tmp_path / "image.squashfs"
    project.cnd("export", built["address"], str(file))
    other = make_project("other", CONDAINER_CACHE=str(tmp_path / "other-cache"))
    imported = other.json("import", str(file))
    assert list((other.cache / "signatures").glob(f"{imported['address']}.*.sig"))
    configure(other, trust="group", signing_key=tmp_path / "nothing")
    third = make_project("third", CONDAINER_CACHE=str(tmp_path / "third-cache"))
    assert "is not signed" in third.cnd("build").stderr


def test_several_at_once_and_a_damaged_one(make_project: Any, key: Key) -> None:
    first, second = make_project("first"), make_project("second", "dependencies: [probe-files]")
    argument = ("--key", str(key.path))
    assert first.json("sign", "--all", *argument) == []
    images = [Path(project.json("build")["image"]) for project in (first, second)]
    assert "Would check it, and sign" in first.cnd("-y", "sign", "--all", *argument).stderr
    assert len(first.json("sign", "--all", *argument)) == 2
    images[0].chmod(0o644)
    images[0].write_bytes(b"\0" * images[0].stat().st_size)
    images[0].chmod(0o444)
    for path in (first.cache / "signatures").iterdir():
        path.unlink()
    done = first.cnd("sign", "--all", "--json", *argument, status=9)
    assert [item["image"] for item in json.loads(done.stdout)] == [str(images[1])]
    assert "1 of 2 images damaged" in done.stderr
    assert first.cnd("sign", "--all", "abcd", status=3)
    assert first.cnd("sign", "--key", "nothing", images[1].parent.name, status=3)


def test_signed_after_it_was_built_again(project: Project, key: Key, tmp_path: Path) -> None:
    built = project.json("build")
    arguments = ("sign", "--rebuild", "--key", str(key.path))
    assert len(project.json(*arguments)) == 1
    (project.cache / "signatures" / f"{built['address']}.{os.getuid()}.sig").unlink()
    plant(Path(built["image"]), tmp_path)
    # Whole as far as its papers tell, and signed by who takes them at their word.
    assert project.json("verify")["ok"]
    done = project.cnd(*arguments, status=9)
    assert "built again, the image has other bytes" in done.stderr
    assert not list((project.cache / "signatures").iterdir())


def plant(image: Path, work: Path) -> None:
    """Put another program into an image, and papers beside it that look right."""

    def change(tree: Path) -> None:
        (tree / "bin" / "probe-prefix").unlink()
        (tree / "bin" / "probe-prefix").write_text(EVIL)
        (tree / "bin" / "probe-prefix").chmod(0o755)

    repack(image, work, change)


def test_a_passphrase_is_asked_for_on_the_terminal(project: Project, tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked", "open sesame")
    project.cnd("build")
    arguments = ("sign", "--key", str(key.path))
    refused = project.cnd(*arguments, status=1, SSH_AUTH_SOCK="")
    assert "there is no terminal to ask" in refused.stderr
    assert not list((project.cache / "signatures").iterdir())
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(project.path)
        argv = [sys.executable, "-m", "condainer", *arguments]
        os.execve(argv[0], argv, {**project.environment, "SSH_AUTH_SOCK": ""})
    said = b""
    try:
        while b"passphrase" not in said:
            said += os.read(terminal, 1024)
        os.write(terminal, b"open sesame\n")
        while True:
            said += os.read(terminal, 1024)
    except OSError:
        # The terminal is gone with the command.
        pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert b"Signed " in said
    assert list((project.cache / "signatures").iterdir())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an agent of the test's own."""
    socket = str(tmp_path / "agent")
    child = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    until(lambda: Path(socket).exists() or child.poll() is not None)
    assert child.poll() is None
    yield socket
    child.terminate()
    child.wait()


def test_a_key_in_an_agent(project: Project, key: Key, agent: str, tmp_path: Path) -> None:
    project.cnd("build")
    demand_signatures(project, key)
    public = tmp_path / "public"
    public.write_text(key.public)
    arguments = ("sign", "--key", str(public))
    assert "ssh-add" in project.cnd(*arguments, status=1, SSH_AUTH_SOCK=agent).stderr
    environment = {**os.environ, "SSH_AUTH_SOCK": agent}
    subprocess.run(["ssh-add", "-q", key.path], check=True, env=environment)
    project.cnd(*arguments, SSH_AUTH_SOCK=agent)
    project.cnd("exec", "probe-prefix")


# Caches


def test_a_cache_that_everybody_can_write(project: Project, tmp_path: Path) -> None:
    built = project.json("build")
    file = tmp_path / "image.squashfs"
    project.cnd("export", built["address"], str(file))
    project.cache.chmod(0o1777)
    problem = f"The cache {project.cache} is not used: everybody can write into it"
    for command, status in (("build", 16), ("mount", 16), ("exec", 125)):
        arguments = ("exec", "true") if command == "exec" else (command,)
        assert problem in project.cnd(*arguments, status=status).stderr
    listed = project.cnd("list", "--json")
    assert f"Warning: {problem}" in listed.stderr
    assert [item["address"] for item in json.loads(listed.stdout)] == [built["address"]]
    project.write("dependencies: [probe-files]")
    assert problem in project.cnd("build", status=16).stderr
    project.cnd("rm", built["address"])
    assert problem in project.cnd("import", str(file), status=16).stderr
    configure(project, trusted_caches=f"[{project.cache}]")
    project.cnd("build")
    configure(project, trust="anyone")
    project.cnd("exec", "true")


def content(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return what is below a directory, and when each was written."""
    states = {str(path): path.lstat() for path in (root, *root.rglob("*"))}
    return {
        name: (state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns)
        for name, state in states.items()
    }


@pytest.mark.parametrize("names", ["lock", "address"])
def test_nothing_is_written_into_a_cache_that_is_refused(
    project: Project, make_project: Any, key: Key, tmp_path: Path, names: str
) -> None:
    built = project.json("build")
    file = tmp_path / "image.squashfs"
    project.cnd("export", built["address"], str(file))
    for note in (*project.cache.glob("projects/*"), *project.cache.glob("uses/*")):
        note.unlink()
    damaged = project.cache / "images" / "aa" / f"{'a' * 32}"
    damaged.parent.mkdir(exist_ok=True)
    shutil.copytree(Path(built["image"]).parent, damaged)
    for directory in (project.cache, *project.cache.glob("*/")):
        directory.chmod(0o1777)
    other = make_project("other", project.path.joinpath("environment.yml").read_text())
    other.environment["CONDAINER_CACHE"] = str(project.cache)
    shutil.copy(project.lockfile, other.path)
    if names == "address":
        other.write(f"address: {built['address']}\n", "condainer.yml")
    before = content(project.cache)
    refused = 0
    for command in (
        *(["build"], ["--set", "linger=0", "build"], ["mount"], ["exec", "true"], ["shell"]),
        *(["cache"], ["mount", "-p"], ["import", str(file)], ["build", "--json"]),
        *(["sign", "--key", str(key.path)], ["verify", damaged.name], ["verify", "--all"]),
        *(["status"], ["list"], ["show", built["address"]], ["umount"], ["umount", "--all"]),
    ):
        for where in (project, other):
            done = where.cnd(*command, status=None)
            refused += done.returncode in (16, 125)
            now = content(project.cache)
            assert now == before, f"{command}: {sorted(set(now.items()) ^ set(before.items()))}"
            assert done.returncode != 70
    assert refused >= 12


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_stands_in_the_place_of_a_builders_lock(
    project: Project, tmp_path: Path, kind: str
) -> None:
    built = project.json("build")
    project.cnd("rm", built["address"])
    lock = project.cache / "locks" / f"{built['address']}.lock"
    lock.unlink()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    if kind == "link":
        lock.symlink_to(precious)
    else:
        os.mkfifo(lock)
    assert project.json("build")["sha256"] == built["sha256"]
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("link", ""),
        ("link", "image.squashfs"),
        ("fifo", "manifest.json"),
        ("fifo", "explicit.lock"),
    ],
)
def test_what_stands_in_the_place_of_an_entry(project: Project, kind: str, name: str) -> None:
    built = project.json("build")
    path = Path(built["image"]).parent / name
    away = path.rename(project.path.parent / "away")
    if kind == "link":
        path.symlink_to(away)
    else:
        os.mkfifo(path)
    refused = project.cnd("exec", "probe-prefix", status=125)
    assert "is not in" in refused.stderr
    project.cnd("verify", status=None)
    again = project.json("build")
    assert (again["hit"], again["sha256"]) == (False, built["sha256"])
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]


# Members of a group


def test_a_member_plants_an_evil_image(
    members: tuple[Member, Member], tmp_path: Path, key: Key, place: Path
) -> None:
    evil, victim = members
    built = evil.build("probe-prefix")
    plant(Path(built["image"]), tmp_path)
    # Policy `group`, the default: who shares a cache with a group runs what its members put there.
    assert victim.build("probe-prefix")["hit"]
    assert victim.cnd("exec", "probe-prefix").stdout == "evil\n"
    # Policy `signed`: only what an allowed key vouches for.
    shutil.chown(key.path, victim.name, victim.name)
    mine = Path(shutil.move(key.path, victim.home / "key"))
    allowed = allow(victim.home / "allowed", f"victim {key_line(tmp_path / 'key.pub')}")
    settings = victim.home / ".config" / "condainer" / "condainer.yml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"trust: signed\nallowed_signers: {allowed}\nsigning_key: {mine}\n")
    for path in (allowed, settings):
        shutil.chown(path, victim.name, victim.name)
    for command, status in ((("build",), 16), (("exec", "probe-prefix"), 125)):
        refused = victim.cnd(*command, status=status)
        assert f"{built['image']} is not signed" in refused.stderr
        assert "evil" not in refused.stdout
    # The evil member signs as well, with another key.
    other = make_key(place / "other")
    shutil.chown(other.path, evil.name, evil.name)
    evil.cnd("sign", "--key", str(other.path))
    assert "is not signed" in victim.cnd("exec", "probe-prefix", status=125).stderr
    # What the victim builds is signed by the way.
    own = victim.build("probe-prefix, probe-files")
    assert victim.cnd("exec", "probe-prefix").stdout.strip() == own["prefix"]
    modes = {path.stat().st_mode & 0o7777 for path in (place / "cache" / "signatures").iterdir()}
    assert modes == {0o444}
    assert (place / "cache" / "signatures").stat().st_mode & 0o7777 == 0o3775


def key_line(public: Path) -> str:
    return " ".join(public.read_text().split()[:2])


def test_a_cache_of_a_stranger(members: tuple[Member, Member], place: Path) -> None:
    first, second = members
    own = first.home / "cache"
    environment = {**first.environment, "CONDAINER_CACHE": str(own)}
    built = Member(first.name, first.home, 0o022, environment).build("probe-prefix")
    stranger = Member(second.name, second.home, 0o022, environment)
    (second.home / "environment.yml").write_text("dependencies: [probe-prefix]\n")
    refused = stranger.cnd("build", status=16)
    assert f"it belongs to {first.name}" in refused.stderr
    settings = second.home / ".config" / "condainer" / "condainer.yml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"trusted_caches: [{own}]\n")
    shutil.chown(settings, second.name)
    assert json.loads(stranger.cnd("build", "--json").stdout)["image"] == built["image"]


# The documents


TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("document", ["docs/explanation/security.md", "cache_layout.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    text = (TOP / document).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 10
    for path, name in named:
        assert f"\ndef {name}(" in (TOP / path).read_text(encoding="utf-8"), f"{path}::{name}"
    # None of them in another notation, which this would not find.
    assert text.count("::test_") == len(named)
