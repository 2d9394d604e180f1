"""A place for a campaign: a locked project, a cache, a staging directory, and cnd run in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CND = (sys.executable, "-m", "condainer")
SMALL = "dependencies: [probe-prefix, probe-activate, probe-files]\n"
PYTHON = "dependencies: [python, click]\n"
# Exit codes that a fault may end in: a build or a place of ours failed, with a message.
INTEGRITY, BUILD, STORAGE = 9, 11, 12


@dataclass(frozen=True)
class Ended:
    """How a run of cnd ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def step(self) -> str:
        """The last step that it began, or `before` if it began none."""
        begun = [line.split()[0] for line in self.stderr.splitlines() if line.endswith(" ...")]
        return begun[-1] if begun else "before"

    @property
    def message(self) -> str:
        """Its error message, with the remedy that stands below it."""
        return self.stderr[self.stderr.rfind("cnd: ") :] if "cnd: " in self.stderr else ""


@dataclass(frozen=True)
class Figures:
    """What a campaign has to say, and which promises it saw broken."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass
class Bench:
    """A project whose lock and downloaded packages are there, so that a build is all that runs."""

    root: Path
    channel: Path
    text: str = SMALL
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Nothing of the user's own configuration reaches a campaign.
        home = self.root / "home"
        plain = {k: v for k, v in os.environ.items() if not k.startswith("CONDAINER_")}
        self.environment = {
            **plain,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "CONDAINER_CACHE": str(self.root / "cache"),
            "CONDAINER_STAGING": str(self.root.with_name(f"{self.root.name}-staging")),
            "CONDAINER_PACKAGE_CACHE": str(self.root / "packages"),
            "CONDAINER_MOUNT_BASE": str(self.root / "m"),
            "CONDAINER_MIRRORS": f"conda-forge={self.channel.as_uri()}",
            "CONDAINER_LINGER": "0",
            **self.environment,
        }
        self.project = self.root / "project"
        self.cache = Path(self.environment["CONDAINER_CACHE"])
        self.staging = Path(self.environment["CONDAINER_STAGING"])
        self.packages = Path(self.environment["CONDAINER_PACKAGE_CACHE"])
        self.project.mkdir(parents=True)
        (self.project / "environment.yml").write_text(self.text, encoding="utf-8")
        self.reference = self.build()
        self.discard()

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start cnd as the leader of a process group of its own."""
        return self._start(arguments, subprocess.DEVNULL, more)

    def talk(self, *arguments: str) -> subprocess.Popen[str]:
        """Start cnd with a pipe to its stdin."""
        return self._start(arguments, subprocess.PIPE, {})

    def _start(
        self, arguments: Sequence[str], stdin: int, more: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CND, *arguments],
            cwd=self.project,
            env={**self.environment, **more},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> Ended:
        """Run cnd to its end, whatever that is."""
        child = self.start(*arguments, **more)
        stdout, stderr = child.communicate(timeout=300)
        return Ended(child.returncode, stdout, stderr)

    def build(self, **more: str) -> Mapping[str, Any]:
        """Build, or hit, and return what `cnd build --json` prints."""
        ended = self.run("build", "--json", **more)
        if ended.status:
            raise AssertionError(f"cnd build: status {ended.status}\n{ended.stderr}")
        result: Mapping[str, Any] = json.loads(ended.stdout)
        return result

    def entries(self) -> list[Path]:
        """Return the directories of published entries."""
        return sorted((self.cache / "images").glob("*/*"))

    def discard(self) -> None:
        """Take the published entries out of the cache, so that the next build is a miss."""
        for entry in self.entries():
            for item in entry.iterdir():
                item.unlink()
            entry.rmdir()

    def torn(self) -> list[str]:
        """Return what is wrong with the published entries: each must be whole and the right one."""
        problems = []
        for entry in self.entries():
            names = sorted(path.name for path in entry.iterdir())
            if names != ["explicit.lock", "image.squashfs", "manifest.json"]:
                problems.append(f"{entry}: {names}")
                continue
            digest = hashlib.sha256((entry / "image.squashfs").read_bytes()).hexdigest()
            manifest = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
            if not digest == manifest["sha256"] == self.reference["sha256"]:
                problems.append(f"{entry}: sha256 {digest}")
        return problems

    def leftovers(self) -> list[str]:
        """Return what builds left in the staging directory and in the cache's own."""
        places = (self.staging, self.cache / "tmp")
        return [str(path) for path in places if path.is_dir() for path in path.iterdir()]

    def broken_promises(self, ended: Ended, codes: tuple[int, ...]) -> list[str]:
        """Return what a run under a fault did that it must not.

        It may succeed, or end in one of `codes` with a message; entries are absent or whole, and
        nothing is left in private directories.
        """
        problems = [*self.torn(), *(f"left: {path}" for path in self.leftovers())]
        # A message that a user can act on has its remedy below it.
        if ended.status not in (0, *codes) or (ended.status and "\n     " not in ended.message):
            problems.append(f"status {ended.status} in {ended.step}: {ended.stderr.strip()}")
        if "Traceback" in ended.stderr:
            problems.append(f"a traceback in {ended.step}: {ended.stderr.strip()}")
        return problems

    def recovery(self) -> list[str]:
        """Build once more without a fault, and return what is wrong with that."""
        try:
            built = self.build()
        except AssertionError as error:
            return [f"the next build: {error}"]
        if built["sha256"] != self.reference["sha256"]:
            return [f"the next build has sha256 {built['sha256']}"]
        return [*self.torn(), *(f"left after the next build: {path}" for path in self.leftovers())]
