"""Stamps: what they say is held against the whole computation, whatever happens to a project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from condainer import pipeline, remember
from condainer.cache import entries, project_note, publish
from condainer.cache.entries import Entry, Manifest
from condainer.inputs.read import read_inputs
from condainer.lock.address import address_of
from condainer.lock.explicit import render_explicit
from condainer.lock.lock_paths import lockfile_name
from condainer.lock.locks import CondaPackage, Lock
from condainer.pipeline import Built
from condainer.settings.config import KEYS, Settings
from condainer.settings.load import load_settings
from condainer.startup import stamp
from condainer.system import ownership
from condainer.system.errors import CondainerError
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers.needed import needs_program

OLD, NEW, OTHER = ("dependencies: [demo=1]\n", "dependencies: [demo=2]\n", "# a comment only\n")
WORKSPACE = (
    '[workspace]\nchannels = ["c"]\nplatforms = ["linux-64"]\n[dependencies]\ndemo = "1.*"\n'
)
PYLOCK = 'lock-version = "1.0"\ncreated-by = "x"\npackages = []\n'
SHA = {OLD: "1" * 64, NEW: "2" * 64}


def lock_for(text: str, settings: Settings) -> Lock:
    """Return the lock of an environment.yml that is in its place."""
    inputs = read_inputs(settings, this_platform())
    url = f"https://conda.invalid/conda-forge/noarch/demo-{text[-3]}-0.conda"
    return Lock(
        this_platform(),
        (CondaPackage(url, SHA[text[-len(OLD) :]]),),
        inputs=inputs.fingerprint(),
        sources=inputs.sources,
        name=inputs.name,
    )


def publish_image(lock: Lock, settings: Settings) -> Entry:
    """Publish an image, of which nothing but its size is ever looked at here."""
    address = address_of(lock, settings.mount_base_directory)
    with publish.building(address, settings, Silent()) as directory:
        (directory / "image.squashfs").write_bytes(b"an image")
        manifest = Manifest(
            address=address.digest,
            recipe_sha256=address.sha256,
            prefix=str(address.prefix),
            name="demo",
            size=8,
            sha256="0" * 64,
            xxh3="0" * 32,
            tree_sha256="0" * 64,
            compressor="zstd",
            compression_level=9,
            builder="me",
            host="here",
            created="2026-01-01T00:00:00Z",
            tools={},
        )
        return publish.publish(
            directory, address, entries.render_manifest(manifest), render_explicit(lock), settings
        )


class World:
    """A project with two environments, of both of which the cache has the image."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.project = top / "project"
        self.cache, self.readonly = top / "cache", top / "readonly"
        for path in (self.project, top / "home", top / "elsewhere", top / "m"):
            path.mkdir()
        os.environ["HOME"] = str(top / "home")
        os.environ["XDG_CACHE_HOME"] = str(top / "home/.cache")
        os.environ["XDG_CONFIG_HOME"] = str(top / "home/.config")
        os.environ["CONDAINER_CACHE"] = str(self.cache)
        os.environ["CONDAINER_READONLY_CACHES"] = str(self.readonly)
        os.environ["CONDAINER_MOUNT_BASE"] = str(top / "m")
        self.user_file = top / "home/.config/condainer/condainer.yml"
        self.locks: dict[str, str] = {}
        for text in (NEW, OLD):
            self.yml.write_text(text)
            lock = lock_for(text, self.settings())
            publish_image(lock, self.settings())
            self.locks[text] = render_explicit(lock)
        self.lockfile.write_text(self.locks[OLD])

    @property
    def yml(self) -> Path:
        return self.project / "environment.yml"

    @property
    def lockfile(self) -> Path:
        return self.project / lockfile_name(this_platform())

    def settings(self) -> Settings:
        return load_settings(self.project)

    def image(self, text: str = OLD) -> Path:
        return next(self.cache.glob(f"images/*/{self.digest(text)}/image.squashfs"))

    def digest(self, text: str) -> str:
        return address_of(self.lock(text), self.top / "m").digest

    def lock(self, text: str) -> Lock:
        from condainer.lock.explicit import parse_explicit

        return parse_explicit(self.locks[text], "", this_platform())

    def build(self) -> Built:
        """Find the image as `cnd build` does, and write the stamp."""
        settings = self.settings()
        # Nothing is built here.
        pipeline.current_entry(settings)
        reporter = Silent()
        built = pipeline.ensure(settings, reporter)
        remember.remember(settings, built, reporter.told)
        return built

    def check(self) -> bool:
        """Hold what the stamp says, if it says anything, against the whole computation."""
        found = stamp.valid(str(self.project))
        if found is None:
            return False
        settings = self.settings()
        entry, lock = pipeline.current_entry(settings)
        assert found["prefix"] == str(entry.prefix)
        assert (found["address"], found["name"]) == (entry.address, lock.name)
        if "text" not in found:
            # Something is told again by each build.
            return False
        report = json.loads(f"{found['head']}0.0{found['tail']}")
        assert report == pipeline_report(entry)
        # What else the whole computation would do is done.
        before = self.tree()
        pipeline.ensure(settings, Silent())
        assert self.tree() == before
        return True

    def tree(self) -> dict[str, tuple[int, int]]:
        paths = [path for top in (self.project, self.cache) for path in sorted(top.rglob("*"))]
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in paths}


@contextmanager
def a_world() -> Iterator[World]:
    kept, here = dict(os.environ), os.getcwd()
    top = Path(tempfile.mkdtemp(prefix="stamp "))
    top.chmod(0o755)
    try:
        yield World(top)
    finally:
        os.environ.clear()
        os.environ.update(kept)
        os.chdir(here)
        shutil.rmtree(top)


def pipeline_report(entry: Entry) -> dict[str, Any]:
    return Built(entry, True, False, 0.0, Lock("", ())).report()


def times_kept(path: Path, text: str) -> None:
    """Write a file as `touch -r`, rsync -t and hasty editors do: its time stays."""
    before = path.stat() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path, text: str) -> None:
    """Write a file as git and careful editors do."""
    new = path.with_name("new")
    new.write_text(text)
    if path.exists():
        shutil.copystat(path, new)
    new.rename(path)


def config(text: str) -> Callable[[World], None]:
    return lambda world: times_kept(world.project / "condainer.yml", text)


def user_config(text: str) -> Callable[[World], None]:
    return lambda world: times_kept(world.user_file, text)


def variable(name: str, value: str) -> Callable[[World], None]:
    def set_it(world: World) -> None:
        os.environ[name] = value.format(top=world.top)

    return set_it


def to_readonly(world: World) -> None:
    """Put the image into the cache that is looked into first."""
    entry = world.image().parent
    target = world.readonly / entry.relative_to(world.cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(entry, target, dirs_exist_ok=True)


def replaced_image(world: World) -> None:
    image = world.image()
    status = image.stat()
    new = image.with_name("new")
    new.write_bytes(b"no image")
    new.chmod(0o444)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(image)


def quarantined(world: World) -> None:
    publish.quarantine(world.image().parent, world.cache)


def cut_off(world: World) -> None:
    world.image().chmod(0o644)
    times_kept(world.image(), "an im")


def no_variables(world: World) -> None:
    for name in ("TRUST", "USER_SITE"):
        os.environ.pop(f"CONDAINER_{name}", None)


def loose(world: World) -> None:
    """Let others write the user's configuration, if there is one."""
    if world.user_file.exists():
        world.user_file.chmod(0o666)


def written(how: Callable[[Path, str], None], text: str) -> Callable[[World], None]:
    return lambda world: how(world.yml, text)


def same_in_another_file(world: World) -> None:
    """Name another file of the same meaning, which includes one that the lock did not know."""
    text = world.yml.read_text() if world.yml.exists() else OLD
    # Newer times would have shells ask again, of which a hit by the stamp knows nothing.
    times_kept(world.project / "same.txt", "-r extra.txt\n")
    times_kept(world.project / "extra.txt", "")
    times_kept(world.project / "same.yml", text)
    config("environment_yml: same.yml\nrequirements_txt: same.txt\n")(world)


def forget_activation(world: World) -> None:
    (world.project / "activate.fish").unlink(missing_ok=True)


EDITS: dict[str, Callable[[World], Any]] = {
    **{
        f"{how.__name__} {text[-3]}": written(how, text)
        for how in (times_kept, renamed_over)
        for text in (OLD, NEW)
    },
    "comment": lambda world: times_kept(world.yml, OTHER + OLD),
    "delete yml": lambda world: world.yml.unlink(missing_ok=True),
    "old lock": lambda world: times_kept(world.lockfile, world.locks[OLD]),
    "new lock": lambda world: renamed_over(world.lockfile, world.locks[NEW]),
    "delete lock": lambda world: world.lockfile.unlink(missing_ok=True),
    "requirements": lambda world: times_kept(world.project / "requirements.txt", "demo\n"),
    "dangling requirements": lambda world: os.symlink("none", world.project / "requirements.txt"),
    "no requirements": lambda w: (w.project / "requirements.txt").unlink(missing_ok=True),
    "workspace": lambda world: times_kept(world.project / "pixi.toml", WORKSPACE),
    "no workspace": lambda world: (world.project / "pixi.toml").unlink(missing_ok=True),
    "pylock": lambda world: times_kept(world.project / "pylock.toml", PYLOCK),
    "no pylock": lambda world: (world.project / "pylock.toml").unlink(missing_ok=True),
    "uv": lambda world: times_kept(world.project / "uv.lock", "version = 1\n"),
    "pyproject": lambda world: times_kept(world.project / "pyproject.toml", "[project]\n"),
    "base": config("mount_base_directory: /tmp\n"),
    "other base": config("mount_base_directory: /var\n"),
    "name": config("environment_yml: other.yml\n"),
    "same in another file": same_in_another_file,
    "what that includes": lambda world: times_kept(world.project / "extra.txt", "demo\n"),
    "site": config("user_site: true\n"),
    "no config": lambda world: (world.project / "condainer.yml").unlink(missing_ok=True),
    "user": user_config("user_site: true\n"),
    "user's trust": user_config("trust: signed\n"),
    "loose user": loose,
    "cache": variable("CONDAINER_CACHE", "{top}/elsewhere"),
    "relative cache": variable("CONDAINER_CACHE", "cache"),
    "usual cache": variable("CONDAINER_CACHE", "{top}/cache"),
    "variable": variable("CONDAINER_USER_SITE", "true"),
    "home": variable("XDG_CONFIG_HOME", "{top}/elsewhere"),
    "usual home": variable("XDG_CONFIG_HOME", "{top}/home/.config"),
    "personal variable": variable("CONDAINER_TRUST", "anyone"),
    "no variables": no_variables,
    "here": lambda world: os.chdir(world.top),
    "there": lambda world: os.chdir(world.top / "elsewhere"),
    "read-only cache": to_readonly,
    "replaced image": replaced_image,
    "loose image": lambda world: world.image().chmod(0o666),
    "loose entry": lambda world: world.image().parent.chmod(0o777),
    "loose cache": lambda world: world.cache.chmod(0o777),
    "cut off": cut_off,
    "quarantined": quarantined,
    "purged": lambda world: world.image().unlink(),
    "manifest": lambda w: w.image().with_name("manifest.json").chmod(0o644),
    "activation": forget_activation,
    "other activation": lambda world: times_kept(world.project / "activate", "mine\n"),
    "note": lambda world: shutil.rmtree(world.cache / "projects", ignore_errors=True),
    "build": lambda world: world.build(),
}


# What changes nothing in a world where nothing has happened yet.
SAME = {"times_kept 1", "no config", "usual cache", "usual home", "build", "here", "there"}
SAME |= {"workspace", "no workspace", "no pylock", "uv", "pyproject"}
SAME |= {"no requirements", "no variables", "old lock", "renamed_over 1", "what that includes"}


@hypothesis_settings(derandomize=True, max_examples=120)
@given(st.lists(st.sampled_from(sorted(EDITS)), min_size=1, max_size=8))
def test_a_stamp_says_what_the_whole_computation_says(edits: list[str]) -> None:
    with a_world() as world:
        world.build()
        assert world.check()
        for edit in edits:
            try:
                EDITS[edit](world)
            except (CondainerError, StopIteration, FileExistsError):
                # Refused by a build, or there is nothing to be changed.
                continue
            world.check()
            if edit == "build" and stamp.valid(str(world.project)) is None:
                # What cannot have a stamp now: a condition of the policy, or nothing to compare.
                assert world.settings().trust == "signed" or not world.lockfile.exists()


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_each_edit_alone(edit: str) -> None:
    with a_world() as world:
        os.chdir(world.top)
        world.build()
        if edit == "loose user":
            user_config("user_site: true\n")(world)
            world.build()
        EDITS[edit](world)
        # All others leave something otherwise than it was seen.
        assert world.check() == (edit in SAME)


def test_going_back_is_no_change() -> None:
    with a_world() as world:
        world.build()
        for text in (NEW, OLD):
            times_kept(world.yml, text)
            assert world.check() == (text == OLD)


def test_what_another_file_of_the_same_meaning_includes() -> None:
    with a_world() as world:
        same_in_another_file(world)
        world.build()
        assert world.check()
        times_kept(world.project / "extra.txt", "six\n")
        assert not world.check()


def test_what_was_told_is_told_again_but_commands_run(tmp_path: Path) -> None:
    with a_world() as world:
        built = pipeline.ensure(world.settings(), Silent())
        assert remember.remember(world.settings(), built, told=True)
        found = stamp.valid(str(world.project))
        assert found is not None
        assert "text" not in found
        assert found["address"] == built.entry.address


def test_what_has_no_stamp() -> None:
    with a_world() as world:
        built = pipeline.ensure(world.settings(), Silent())
        overridden = load_settings(world.project, ["user_site=true"])
        assert not remember.remember(overridden, built)
        pinned = replace(world.settings(), address=built.entry.address)
        assert not remember.remember(pinned, built)
        assert not remember.remember(replace(world.settings(), trust="signed"), built)
        del os.environ["HOME"], os.environ["XDG_CACHE_HOME"]
        assert stamp.path_of(str(world.project)) is None
        assert not remember.remember(world.settings(), built)
        # `--locked` does not matter for a lock that is current.
        os.environ["HOME"] = str(world.top / "home")
        assert remember.remember(load_settings(world.project, ["locked=true"]), built)


def test_a_stamp_that_is_damaged_or_of_somebody_else() -> None:
    with a_world() as world:
        world.build()
        where = stamp.path_of(str(world.project))
        assert where is not None
        path = Path(where)
        assert path.stat().st_mode & 0o777 == 0o600
        whole = path.read_bytes()
        for size in (*range(0, len(whole), 97), len(whole) - 1):
            path.write_bytes(whole[:size])
            assert stamp.valid(str(world.project)) is None
        path.write_bytes(whole)
        assert world.check()
        path.chmod(0o622)
        assert stamp.valid(str(world.project)) is None
        path.chmod(0o600)
        path.rename(path.with_name("real"))
        path.symlink_to("real")
        assert stamp.valid(str(world.project)) is None
        path.unlink()
        os.mkfifo(path, 0o600)
        assert stamp.valid(str(world.project)) is None


@pytest.mark.parametrize("how", ["a link", "a group's"])
def test_a_directory_in_which_others_can_put_a_stamp(how: str) -> None:
    with a_world() as world:
        world.build()
        assert world.check()
        directory = world.top / "home/.cache" / stamp.DIRECTORY
        if how == "a link":
            directory.rename(directory.with_name("real"))
            directory.symlink_to("real")
        else:
            directory.chmod(0o770)
        assert stamp.valid(str(world.project)) is None
        before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
        world.build()
        assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_another_platform_is_another_project(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        world.build()
        assert world.check()
        uname = os.uname()
        other = os.uname_result((*uname[:4], "i686"))
        monkeypatch.setattr(os, "uname", lambda: other)
        assert stamp.valid(str(world.project)) is None


def test_where_a_group_may_write_its_members_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        accounts = world.top / "passwd"
        accounts.write_text("root\n")
        monkeypatch.setattr(remember, "ACCOUNTS", (str(accounts),))
        for shared in (False, True):
            if shared:
                world.user_file.parent.mkdir(parents=True)
                world.user_file.write_text("linger: 1\n")
                world.user_file.chmod(0o664)
            world.build()
            assert world.check()
            accounts.write_text(f"root and {shared}\n")
            assert world.check() == (not shared)


def test_a_trusted_cache_that_is_a_link() -> None:
    with a_world() as world:
        link = world.top / "named"
        link.symlink_to("cache")
        user_config(f"trusted_caches: [{link}]\n")(world)
        world.build()
        assert world.check()
        link.unlink()
        link.symlink_to("elsewhere")
        assert not world.check()


def test_where_others_own_a_place_their_groups_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        accounts = world.top / "passwd"
        accounts.write_text("root\n")
        monkeypatch.setattr(remember, "ACCOUNTS", (str(accounts),))
        monkeypatch.setattr(ownership, "ours", lambda: frozenset({4711}))
        lock = world.lock(OLD)
        entry, _ = pipeline.current_entry(world.settings())
        plan = list(remember._plan(entry, lock, world.settings(), world.top, ""))
        assert stamp.FILE + os.fsencode(accounts) in plan


def test_no_stamp_of_what_is_not_trusted() -> None:
    with a_world() as world:
        built = pipeline.ensure(world.settings(), Silent())
        world.cache.chmod(0o777)
        assert not remember.remember(world.settings(), built)
        assert not remember.remember(world.settings(), None)


def test_activate_is_made_younger_than_a_configuration() -> None:
    with a_world() as world:
        config("linger: 1\n")(world)
        world.build()
        assert world.check()
        activate = world.project / "activate"
        os.utime(world.project / "condainer.yml")
        assert not world.check()
        world.build()
        assert world.check()
        assert activate.stat().st_mtime > (world.project / "condainer.yml").stat().st_mtime
        os.utime(activate, (1, 1))
        assert not world.check()


@pytest.mark.parametrize("first", ["linger: 1\n", ""])
def test_a_configuration_that_changes_during_a_build_is_younger_than_activate(first: str) -> None:
    with a_world() as world:
        if first:
            config(first)(world)
        settings = world.settings()
        # Between its being read and the end of the build.
        config("linger: 3\n")(world)
        built = pipeline.ensure(settings, Silent())
        remember.remember(settings, built)
        changed, activate = world.project / "condainer.yml", world.project / "activate"
        assert activate.stat().st_mtime < changed.stat().st_mtime
        assert stamp.valid(str(world.project)) is None
        world.build()
        assert world.check()
        assert activate.stat().st_mtime > changed.stat().st_mtime


def test_a_large_file_is_remembered_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        monkeypatch.setattr(remember, "LARGE", 10)
        world.build()
        assert world.check()
        times_kept(world.yml, NEW)
        assert not world.check()
        world.yml.unlink()
        os.mkfifo(world.yml)
        assert not world.check()


def test_no_stamp_where_there_is_no_home(tmp_path: Path) -> None:
    with a_world() as world:
        os.environ["XDG_CACHE_HOME"] = f"{tmp_path}/none/none"
        built = pipeline.ensure(world.settings(), Silent())
        assert not remember.remember(world.settings(), built)
        assert not (tmp_path / "none").exists()


def test_old_stamps_go(tmp_path: Path) -> None:
    with a_world() as world:
        directory = world.top / "home/.cache" / stamp.DIRECTORY
        directory.mkdir(parents=True)
        for name, age in (("old", 1.0), ("young", None)):
            (directory / name).touch()
            if age is not None:
                os.utime(directory / name, (age, age))
        world.build()
        assert sorted(path.name[:5] for path in directory.iterdir()) == ["proje", "young"]


# The program


def uncovered() -> dict[str, str]:
    """Return the environment without what has coverage started in every Python."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "COVERAGE"))}


def cnd(world: World, *arguments: str, trace: str = "") -> subprocess.CompletedProcess[str]:
    start = "import sys; from condainer.__main__ import entry; "
    start += trace + "; entry()" if trace else "entry()"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=world.project,
        env=uncovered(),
        capture_output=True,
        text=True,
        check=True,
    )


def test_what_a_build_imports_runs_and_writes_when_nothing_changed() -> None:
    trace = (
        "before = set(sys.modules); seen = []; "
        "sys.addaudithook(lambda name, given: seen.append((name, given))); "
        "import os; leave = os._exit; "
        "os._exit = lambda status: (print(sorted(set(sys.modules) - before), "
        "[e for e in seen if e[0].startswith(('subprocess', 'os.fork', 'os.posix', 'os.exec'))], "
        "[e[1][0] for e in seen if e[0] == 'open' and e[1][2] & 3], flush=True), leave(status))"
    )
    with a_world() as world:
        world.build()
        before = world.tree()
        done = cnd(world, "build", trace=trace)
        names = ("", ".answer", ".find_project", ".stamp")
        ours = [f"condainer.startup{name}" for name in names]
        assert done.stdout == f"{ours} [] []\n"
        assert done.stderr.startswith(f"Found {world.image()} (8 B) in 0.0")
        assert world.tree() == before
        assert cnd(world, "-q", "build", "--locked").stderr == ""
        report = json.loads(cnd(world, "-d", ".", "build", "--json").stdout)
        expected = json.loads(cnd(world, "--set", "linger=2", "build", "--json").stdout)
        assert {**report, "seconds": 0} == {**expected, "seconds": 0}


def test_what_a_fresh_clone_needs_for_a_hit() -> None:
    trace = (
        "import os; leave = os._exit; os._exit = lambda status: "
        "(print(*sorted(m.partition('.')[0] for m in sys.modules), flush=True), leave(status))"
    )
    with a_world() as world:
        done = cnd(world, "build", "--locked", trace=trace)
        assert done.stderr.startswith(f"Found {world.image()} (8 B) in ")
        heavy = {"click", "yaml", "rattler", "conda_lock", "rich", "filelock", "subprocess"}
        assert not heavy & set(done.stdout.split())
        # It has left a stamp, and all that goes with it.
        assert stamp.valid(str(world.project)) is not None
        assert (world.project / "activate.fish").exists()
        world.image().unlink()
        with pytest.raises(subprocess.CalledProcessError):
            cnd(world, "build", "--locked", trace="sys.modules['condainer.cache.squashfs'] = None")


def test_how_many_system_calls_a_build_makes_when_nothing_changed() -> None:
    needs_program("strace")
    with a_world() as world:
        world.build()
        counts = []
        for code in ("pass", "from condainer.__main__ import entry; entry()"):
            argv = ["strace", "-f", "-qq", "-o", str(world.top / "calls"), sys.executable]
            command = [*argv, "-c", code, "build"]
            subprocess.run(command, cwd=world.project, env=uncovered(), check=True)
            counts.append(len((world.top / "calls").read_text().splitlines()))
        # Measured: 190, most of them to open, read and close the project's own files.
        assert counts[1] - counts[0] < 350


def test_a_name_that_the_encoding_of_the_locale_cannot_say() -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with a_world() as world:
        world.yml.write_text(f"name: 日本\n{OLD}", encoding="utf-8")
        world.lockfile.write_text(
            render_explicit(lock_for(world.yml.read_text(), world.settings()))
        )
        os.environ.update(plain)
        assert cnd(world, "build").stderr.startswith("Found ")
        blocked = "sys.modules['condainer.cli.hit'] = None"
        assert cnd(world, "build", trace=blocked).stderr.startswith("Found ")
        # It is the same in every locale.
        os.environ.update(PYTHONUTF8="1")
        assert cnd(world, "build", trace=blocked).stderr.startswith("Found ")


def test_the_variables_that_hold_paths_are_known() -> None:
    paths = [item for item in KEYS.values() if "Path" in str(item.type)]
    keys = [*paths, KEYS["conda_exe"]]
    named = {item.metadata["variable"] for item in keys if item.metadata.get("variable")}
    assert {name.decode() for name in stamp.PATHS} == {*named, "TMPDIR"}


@pytest.mark.parametrize(
    ("name", "value", "anywhere"),
    [
        ("CONDAINER_LINGER", "1", True),
        ("CONDAINER_MIRRORS", "pypi=https://mirror.example/simple", True),
        ("CONDAINER_PROJECT", "project", True),
        ("CONDAINER_STAGING", "staging", False),
        ("CONDAINER_READONLY_CACHES", "/a:b", False),
        ("TMPDIR", "staging", False),
    ],
)
def test_a_stamp_is_good_in_every_directory_unless_a_variable_has_a_relative_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, anywhere: bool
) -> None:
    monkeypatch.setenv(name, value)
    here = stamp.observed("/project", [])
    monkeypatch.chdir(tmp_path)
    assert (stamp.observed("/project", []) == here) == anywhere


def test_what_names_the_project_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamp.observed("/project", [])
    monkeypatch.setenv("CONDAINER_PROJECT", "/project")
    assert stamp.observed("/project", []) == before


def answered(*arguments: str) -> int | None:
    """Run a command as far as it needs no click; return its exit status, None if it does."""
    from condainer.cli import hit
    from condainer.startup import answer

    call = answer.parsed(list(arguments))
    if call is None:
        return None
    status = answer.run(call, time.perf_counter())
    return hit.answer(call) if status is None else status


def test_a_stamp_lives_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        note = project_note.place_of(world.build().entry, world.settings())
        assert note is not None
        os.chdir(world.project)
        os.utime(note, (1, 1))
        assert answered("-q", "build") == 0
        assert note.stat().st_mtime == 1
        # Then it says in the cache again that the project is still there.
        monkeypatch.setattr(stamp, "LIFE", 0)
        assert answered("-q", "build") == 0
        assert note.stat().st_mtime > 1


def test_a_command_takes_no_old_stamp_either(monkeypatch: pytest.MonkeyPatch) -> None:
    from condainer.cli import hit
    from condainer.startup import command
    from condainer.startup.answer import Call

    def execute(project: Path, call: Call) -> None:
        asked.append(call.stamped is not None)

    asked: list[bool] = []
    monkeypatch.setattr(hit, "_execute", execute)
    monkeypatch.setattr(command, "run", lambda words, found, quiet: None)

    with a_world() as world:
        world.build()
        os.chdir(world.project)
        answered("exec", "true")
        monkeypatch.setattr(stamp, "LIFE", 0)
        answered("exec", "true")
        assert asked == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-y", "build"],
        ["--set", "linger=1", "build"],
        ["build", "--help"],
        ["build", "x"],
        ["lock", "--check"],
        ["--offline", "lock"],
        ["-d", "{absent}", "lock"],
        ["-d"],
        ["-d", "{absent}", "build"],
        ["-d", "//", "build"],
    ],
)
def test_what_is_for_the_long_way(arguments: list[str], tmp_path: Path) -> None:
    arguments = [argument.format(absent=tmp_path / "absent") for argument in arguments]
    with a_world() as world:
        world.build()
        os.chdir(world.project)
        assert answered("-q", "build") == 0
        assert answered(*arguments) is None
