"""A place for a campaign: a locked project, a cache, a staging directory, and cnd run in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CND = (sys.executable, "-m", "condainer")
SMALL = "dependencies: [probe-prefix, probe-activate, probe-files]\n"
PYTHON = "dependencies: [python, click]\n"


@dataclass
class Bench:
    """A project whose lock and downloaded packages are there, so that a build is all that runs."""

    root: Path
    channel: Path
    text: str = SMALL
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project = self.root / "project"
        self.cache = self.root / "cache"
        self.staging = self.root.with_name(f"{self.root.name}-staging")
        self.project.mkdir(parents=True)
        (self.project / "environment.yml").write_text(self.text, encoding="utf-8")
        self.environment = {
            **os.environ,
            "CONDAINER_CACHE": str(self.cache),
            "CONDAINER_STAGING": str(self.staging),
            "CONDAINER_PACKAGE_CACHE": str(self.root / "packages"),
            "CONDAINER_MOUNT_BASE": str(self.root / "m"),
            "CONDAINER_MIRRORS": f"conda-forge={self.channel.as_uri()}",
            **self.environment,
        }
        self.reference = self.build()
        self.discard()

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start cnd as the leader of a process group of its own."""
        return subprocess.Popen(
            [*CND, *arguments],
            cwd=self.project,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def build(self, **more: str) -> Mapping[str, Any]:
        """Build, or hit, and return what `cnd build --json` prints."""
        child = self.start("build", "--json", **more)
        stdout, stderr = child.communicate(timeout=300)
        if child.returncode:
            raise AssertionError(f"cnd build: status {child.returncode}\n{stderr}")
        result: Mapping[str, Any] = json.loads(stdout)
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
        return [str(path) for place in places if place.is_dir() for path in place.iterdir()]
