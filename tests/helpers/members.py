"""Members of a group that share a cache, as accounts of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CND = (sys.executable, "-m", "condainer")
# The accounts may look into any directory, because the interpreter of the tests may stand in one
# that is closed to them; what they may write and replace is that of ordinary users.
SEARCH = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@dataclass(frozen=True)
class Member:
    """A member of the group, with a home directory, a umask and the group's cache."""

    name: str
    home: Path
    umask: int
    environment: dict[str, str]

    def cnd(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        account = (f"--reuid={self.name}", f"--regid={self.name}", "--init-groups")
        done = subprocess.run(
            ["setpriv", *account, *SEARCH, *CND, *arguments],
            cwd=self.home,
            env={**self.environment, "HOME": str(self.home), "USER": self.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=self.umask,
        )
        assert done.returncode == status, done.stderr
        return done

    def build(self, packages: str) -> Any:
        (self.home / "environment.yml").write_text(f"dependencies: [{packages}]\n")
        return json.loads(self.cnd("build", "--json").stdout)
