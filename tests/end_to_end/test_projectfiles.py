"""The files of a project are read once per command, whatever becomes of them meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from condainer.lock.address import address_of
from condainer.lock.explicit import read_explicit
from condainer.system.machine import this_platform
from tests.helpers.projects import Project

NAMES = ("environment.yml", "requirements.txt", "condainer.yml", "more.txt")
LOCKS = (f"conda-{this_platform()}.lock", "conda-lock.yml")
OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"(?P<path>[^"]+)", (?P<flags>[A-Z_|]+)')
OLD = "dependencies: [probe-files]\nvariables: {PROBE: old}\n"
NEW = "dependencies: [probe-files, probe-prefix]\nvariables: {PROBE: new}\n"


def opened(project: Project, *arguments: str) -> Counter[str]:
    """Run cnd, and return how often it opened each file of the project for reading."""
    trace = project.path.parent / "opened"
    watched = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(trace)]
    command = [*watched, sys.executable, "-m", "condainer", *arguments]
    subprocess.run(command, cwd=project.path, env=project.environment, check=True)
    found: Counter[str] = Counter()
    for match in OPENED.finditer(trace.read_text(errors="replace")):
        path = Path(os.path.normpath(project.path / match["path"]))
        if path.parent == project.path and path.name in NAMES + LOCKS:
            found[path.name] += 1
    return found


def test_a_command_opens_each_file_once(project: Project) -> None:
    project.write("channels: [conda-forge]\n" + OLD)
    project.write("-c more.txt\n", "requirements.txt")
    project.write("# nothing\n", "more.txt")
    project.write("linger: 1\n", "condainer.yml")
    assert opened(project, "-q", "build") == dict.fromkeys(NAMES + LOCKS, 1)
    # What a stamp names is compared with it first.
    twice = dict.fromkeys((*NAMES, *LOCKS), 2)
    project.write(f"channels: [conda-forge]\n{NEW}")
    assert opened(project, "-q", "build") == twice
    project.write(f"# a comment\nchannels: [conda-forge]\n{NEW}")
    assert opened(project, "-q", "build") == twice
    assert opened(project, "-q", "build") == dict.fromkeys(NAMES + LOCKS, 1)
    project.write("channels: [conda-forge]\n" + OLD)
    for more in ([], ["--check"]):
        assert opened(project, "-q", "lock", *more) == dict.fromkeys(NAMES + LOCKS, 1)
    for command in ("status", "fetch", "bundle"):
        more = [str(project.path.parent / "bundle")] if command == "bundle" else []
        assert max(opened(project, command, *more).values()) == 1


EDITOR = """
import os, sys
from condainer import __main__ as main
project, count, busy = os.getcwd() + "/", [0], []
def look(name, given):
    place = os.fsdecode(given[0]) if name == "open" and isinstance(given[0], (str, bytes)) else ""
    if busy or not (place.startswith(project) or name in ("subprocess.Popen", "os.rename")):
        return
    count[0] += 1
    if count[0] == int(os.environ["EDIT_AT"]):
        busy.append(1)
        os.replace(os.environ["EDIT_FROM"], os.environ["EDIT_TO"])
        busy.clear()
leave = os._exit
def leaving(status):
    with open(os.environ["EDIT_COUNT"], "w") as stream:
        stream.write(str(count[0]))
    leave(status)
os._exit = leaving
sys.addaudithook(look)
main.entry()
"""


def edited(project: Project, at: int, name: str, text: str) -> tuple[Any, int]:
    """Build while a file gets another text at a point; return what was said, and the points."""
    top = project.path.parent
    (top / "edit").write_text(text)
    more = {
        "EDIT_AT": str(at),
        "EDIT_FROM": str(top / "edit"),
        "EDIT_TO": str(project.path / name),
        "EDIT_COUNT": str(top / "count"),
    }
    done = subprocess.run(
        [sys.executable, "-c", EDITOR, "-q", "build", "--json"],
        cwd=project.path,
        env={**project.environment, **more},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), int((top / "count").read_text())


def settled(project: Project, texts: dict[str, str], cold: bool) -> None:
    """Put a project back to where it was before a build."""
    for name, text in texts.items():
        project.write(text, name)
    if cold:
        shutil.rmtree(project.cache)


@pytest.mark.long
@pytest.mark.parametrize("what", ["environment.yml", "condainer.yml", "lock"])
def test_an_edit_at_any_point_gives_the_old_or_the_new(
    project: Project, tmp_path: Path, what: str
) -> None:
    other = str(tmp_path / "n")
    base = {"": project.environment.pop("CONDAINER_MOUNT_BASE"), other: other}
    plain = f"mount_base_directory: {base['']}\n"
    before: dict[str, dict[str, str]] = {}
    addresses = {}
    for text, config in ((NEW, plain), (OLD, f"mount_base_directory: {other}\n"), (OLD, plain)):
        project.write(text)
        project.write(config, "condainer.yml")
        project.cnd("-q", "build")
        addresses[text, config] = project.json("build")["address"]
        before[text] = {name: (project.path / name).read_text() for name in LOCKS}
    name, text, files = {
        # The lock is stale: it is solved, and the image built.
        "environment.yml": ("environment.yml", NEW, {"environment.yml": OLD, **before[NEW]}),
        "condainer.yml": ("condainer.yml", f"mount_base_directory: {other}\n", before[OLD]),
        "lock": (LOCKS[0], before[NEW][LOCKS[0]], before[OLD]),
    }[what]
    start = {"environment.yml": OLD, "condainer.yml": plain, **files}
    last = (NEW, plain) if what == "environment.yml" else (OLD, text if what != "lock" else plain)
    cold = what == "environment.yml"
    settled(project, {**start, "environment.yml": f"# edited\n{OLD}"}, cold)
    count = edited(project, 0, name, text)[1]
    points = range(1, count + 1) if not cold else sorted({*range(1, count, 4), *range(1, 12)})
    seen = set()
    for at in points:
        # No stamp knows of this.
        changed = {} if cold else {"environment.yml": f"# {at}\n{OLD}"}
        settled(project, {**start, **changed}, cold)
        said, _ = edited(project, at, name, text)
        seen.add(said["address"])
        lock = read_explicit(project.lockfile, this_platform())
        of_new = len(lock.conda) == 2
        assert dict(lock.variables)["PROBE"] == ("new" if of_new else "old")
        if what == "environment.yml":
            assert said["address"] == address_of(lock, Path(base[""])).digest
            written = {source.path: source.sha256 for source in lock.sources}
            read = NEW if of_new else OLD
            assert written["environment.yml"] == hashlib.sha256(read.encode()).hexdigest()
        # Whatever the first one saw, the next one sees what is there.
        again = project.json("build")
        assert again["address"] == addresses[last], at
    # Another lock than that of environment.yml is stale: both times, the image is the old one.
    assert seen == {addresses[OLD, plain], addresses[last]}
