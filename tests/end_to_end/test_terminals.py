"""Every command, whatever the variables of terminals, colours and encodings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import reference
from tests.helpers import registry
from tests.helpers.advisories import advisory, dump
from tests.helpers.keys import make_key
from tests.helpers.projects import Project

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
NARROW = {"COLUMNS": "1", "LINES": "1"}
COLOUR = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "CLICOLOR": "1", "TERM": "xterm-256color"}
# Whether there is a terminal, and what the variables are; None is for one that is not set.
WORLDS: dict[str, tuple[bool, dict[str, str | None]]] = {
    "pipe without colour": (False, {**ASCII, **NARROW, "NO_COLOR": "1", "TERM": None}),
    "pipe with colour": (False, {**NARROW, **COLOUR, "PYTHONIOENCODING": "latin-1"}),
    "dumb terminal": (True, {**ASCII, **NARROW, "TERM": "dumb"}),
    "unknown terminal": (True, {**NARROW, "TERM": None}),
}
# In an order in which each finds what it needs, with the status that it ends with.
CALLS: dict[str, tuple[int, tuple[str, ...]]] = {
    "build": (0, ()),
    "lock": (0, ()),
    "exec": (0, ("--", "probe-prefix")),
    "shell": (0, ()),
    "mount": (0, ()),
    "status": (0, ()),
    "prereq": (0, ()),
    "tag": (0, ("named",)),
    "list": (0, ()),
    "show": (0, ("ADDRESS",)),
    "diff": (0, ("ADDRESS", "ADDRESS")),
    "tree": (0, ()),
    "why": (0, ("probe-prefix",)),
    "licenses": (0, ()),
    "sbom": (0, ()),
    "audit": (0, ("osv.zip",)),
    "sign": (0, ("--key", "KEY")),
    "verify": (0, ()),
    "wrap": (0, ("wrapped",)),
    "module": (0, ("tools/1.0", "--dir", "modules")),
    "kernel install": (4, ()),
    "kernel list": (0, ()),
    "kernel remove": (3, ("none",)),
    "shell-hook": (0, ()),
    "push": (0, ()),
    "pull": (0, ()),
    "export": (0, ("ADDRESS", "out.cnd")),
    "import": (0, ("out.cnd",)),
    "fetch": (0, ()),
    "bundle": (0, ("lock.bundle",)),
    "completion": (0, ("bash",)),
    "version": (0, ()),
    # By the hook, this process uses it.
    "umount": (0, ("--force",)),
    "cache": (0, ()),
    "share": (0, ("shared",)),
    "clean": (0, ()),
    "gc": (0, ()),
    "add": (0, ("probe-old",)),
    "remove": (0, ("probe-old",)),
    "rm": (0, ("--force", "ADDRESS")),
    "init": (0, ()),
}


def test_every_command_is_called() -> None:
    wanted = {" ".join(path) for path in reference.commands()} - {"kernel"}
    assert wanted == set(CALLS)


@pytest.mark.long
@pytest.mark.parametrize("world", WORLDS)
def test_every_command(make_project: Any, tmp_path: Path, empty_packages: Path, world: str) -> None:
    terminal, variables = WORLDS[world]
    # Of its own, for `cnd clean`: others build from the one that tests share.
    project: Project = make_project(
        text="dependencies: [probe-prefix, probe-files]\n",
        CONDAINER_PACKAGE_CACHE=str(empty_packages),
    )
    dump(project.path / "osv.zip", advisory("GHSA-1", versions=["1"]))
    here = {k: v for k, v in project.environment.items() if k not in variables}
    here |= {name: value for name, value in variables.items() if value is not None}
    with registry.serve(tmp_path / "registry") as served:
        here["CONDAINER_REGISTRIES"] = f"oci://{served.authority}/images"
        here["JUPYTER_DATA_DIR"] = str(tmp_path / "jupyter")
        words = {"KEY": str(make_key(tmp_path / "key").path), "ADDRESS": ""}
        project.environment = here
        for name, (status, options) in CALLS.items():
            arguments = [*name.split(), *(words.get(word, word) for word in options)]
            if terminal:
                found, shown = project.on_terminal(*arguments)
                said = shown.decode(errors="replace")
            else:
                done = project.cnd(*arguments, status=None)
                found, said = done.returncode, done.stdout + done.stderr
            assert found == status, f"{name}: {said}"
            assert "\033" not in said, f"{name}: {said!r}"
            assert "Traceback" not in said, name
            if name == "build":
                words["ADDRESS"] = project.json("status")["address"]
