"""`-y` says what would be done from wherever a project stands, and touches nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from condainer.cli.main import cli
from tests.helpers.keys import make_key
from tests.helpers.projects import SMALL, Project

# What every command is called with, by what the project has: nothing, a lock, an image.
ALWAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "init": ((),),
    "build": ((), ("--json",), ("--all",)),
    "exec": (("--", "python3"), ("--verify", "true")),
    "shell": ((), ("--verify",)),
    "mount": ((), ("-p",), ("--verify",)),
    "umount": ((), ("--force",), ("--all",)),
    "cache": ((), ("--all",), ("--record",)),
    "lock": ((), ("--upgrade",), ("--update",), ("--json",), ("--all",)),
    "fetch": ((), ("--json",)),
    "bundle": (("bundled",),),
    "verify": ((), ("--all",), ("--rebuild",), ("--keep",), ("--json",)),
    "add": (("probe-old",),),
    "remove": (("probe-files",),),
    "shell-hook": ((), ("fish",)),
    "kernel": (("remove", "any"),),
    "tag": (("named",), ("named", "--delete")),
    "sign": (("--key", "KEY"), ("--all", "--key", "KEY"), ("--rebuild", "--key", "KEY")),
    "clean": ((), ("--all",)),
    "completion": (("bash",), ("fish",)),
    "gc": ((), ("--older-than", "1d")),
    "help": ((), ("build",)),
    "share": (("shared",), ("CACHE",)),
    "list": ((), ("--json",), ("--html", "report.html")),
    "status": ((), ("--json",)),
    "prereq": ((), ("--install",)),
    "version": ((),),
}
# These need an image, or a file that holds one.
BUILT: dict[str, tuple[tuple[str, ...], ...]] = {
    "export": (("ADDRESS", "exported"),),
    "import": (("FILE",),),
    "rm": (("ADDRESS",), ("--force", "ADDRESS")),
    "show": (("ADDRESS",),),
    "tree": (("--address", "ADDRESS"),),
    "licenses": (("ADDRESS",), ("--check", "ADDRESS")),
    "audit": (("FILE", "ADDRESS"),),
    "sbom": (("ADDRESS",), ("ADDRESS", "-o", "materials.json")),
    "module": (("tools/1.0", "--dir", "modules", "--address", "ADDRESS"),),
    "wrap": (("wrapped", "--address", "ADDRESS"),),
    "why": (("probe-prefix", "--address", "ADDRESS"),),
    "diff": (("ADDRESS", "FILE"),),
    "push": ((), ("ADDRESS",)),
    "pull": ((), ("ADDRESS",)),
}


def states(roots: list[Path]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield what is below directories, and when each was last written."""
    for root in roots:
        for path in (root, *sorted(root.rglob("*"))):
            state = path.lstat()
            yield (str(path), state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns)


@pytest.mark.parametrize("stage", ["new", "locked", "built", "stale"])
def test_every_command(project: Project, tmp_path: Path, stage: str) -> None:
    (project.path / "environment.yml").unlink()
    project.cnd("init")
    project.write(SMALL)
    key, file = make_key(tmp_path / "key").path, tmp_path / "exported"
    words = {"KEY": str(key), "FILE": str(file), "CACHE": str(project.cache), "ADDRESS": ""}
    commands = dict(ALWAYS)
    if stage == "locked":
        project.cnd("lock")
    if stage in ("built", "stale"):
        words["ADDRESS"] = project.json("build")["address"]
        project.cnd("export", words["ADDRESS"], str(file))
        commands |= BUILT
        project.write("share/probe/data.txt\n", "condainer.profile")
    if stage == "stale":
        project.write("dependencies: [probe-files]\n")
    project.environment["TMPDIR"] = tempfile.mkdtemp(dir=tmp_path)
    project.cache.mkdir(exist_ok=True)
    # What it may write into: project, caches, mount points, temporary files, the user's own.
    before = list(states([tmp_path]))
    for name, calls in commands.items():
        for options in calls:
            command = ["-y", name, *(words.get(word, word) for word in options)]
            done = project.cnd(*command)
            assert list(states([tmp_path])) == before, command
            told = done.stdout + done.stderr
            assert "Run `cnd build` first" not in told
            if name not in (
                "help",
                "list",
                "status",
                "prereq",
                "version",
                "show",
                "diff",
                "tree",
                "why",
                "init",
            ):
                assert "ould" in told or (name == "lock" and "current" in told), (command, told)


def test_every_command_is_tried() -> None:
    assert set(cli.list_commands(None)) == {*ALWAYS, *BUILT}  # type: ignore[arg-type]


def test_what_is_told_before_the_first_build(project: Project) -> None:
    (mounted, ran) = project.cnd("-y", "exec", "--", "python3", "-c", "1").stderr.splitlines()[-2:]
    assert mounted == "Would mount the image at its prefix"
    assert ran == "Would run python3 -c 1"
    told = project.cnd("-y", "mount").stderr
    assert told.startswith("Would solve, because the lock is missing")
    assert "Would build the image" in told
    assert "Would unmount nothing" in project.cnd("-y", "umount").stderr
    project.cnd("lock")
    address = project.json("status")["address"]
    told = project.cnd("-y", "mount").stderr
    assert "Would install 3 conda and 0 pip packages" in told
    assert f"Would mount {project.cache}/images/{address[:2]}/{address}/image.squashfs at " in told
    assert address in project.cnd("-y", "mount", "-p").stdout


def test_a_pin_that_no_cache_has_cannot_be_planned(project: Project) -> None:
    assert "No image" in project.cnd("-y", "--set", "address=abcd", "mount", status=15).stderr
