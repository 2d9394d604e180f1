"""Project directories, and `cnd` run in them as users do."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers import forked

TOP = Path(__file__).resolve().parents[2]
SMALL = "dependencies: [probe-prefix, probe-activate, probe-files]\nvariables: {GREETING: hello}\n"
PYTHON = "dependencies: [python, click]\n"
# What ends where the long way would begin.
LONG = 70
SHORT_WAY = f"""
from condainer import __main__ as main
main._run_again = lambda call: None
main._run = lambda given: {LONG}
main.entry()
"""


def unmeasured(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which the coverage of what is interrupted is not measured.

    An exception that a signal raises within its lock is never let out of that again.
    """
    return {k: v for k, v in environment.items() if not k.startswith(("COV_", "COVERAGE"))}


@dataclass
class Project:
    """A project directory, and `cnd` run in it as a user would."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, text: str, name: str = "environment.yml") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def cnd(
        self, *arguments: str, status: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run cnd; a status other than the expected one fails the test (None: any)."""
        done = forked.run(arguments, self.path, {**self.environment, **environment})
        assert "Traceback" not in done.stderr
        if status is not None:
            assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def on_terminal(self, *arguments: str, **environment: str) -> tuple[int, bytes]:
        """Run cnd where a person sees it; return its status and all that it prints."""
        parent, child = pty.openpty()
        wait = forked.start(arguments, self.path, {**self.environment, **environment}, child, child)
        os.close(child)
        said = b""
        # The end of a terminal is an error.
        with contextlib.suppress(OSError):
            while part := os.read(parent, 10_000):
                said += part
        os.close(parent)
        return wait(), said

    def json(self, *arguments: str, **environment: str) -> Any:
        """Run cnd with --json and return what it prints."""
        return json.loads(self.cnd(*arguments, "--json", status=0, **environment).stdout)

    def bash(self, script: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
        """Run a shell script in the project directory, with `cnd` in PATH."""
        shims = self.path.parent / "shims"
        shims.mkdir(exist_ok=True)
        if not (shims / "cnd").exists():
            (shims / "cnd").symlink_to(Path(sys.executable).with_name("cnd"))
        return subprocess.run(
            [shell, "-c", script],
            cwd=self.path,
            env={**self.environment, "PATH": f"{shims}:/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
        )

    @property
    def cache(self) -> Path:
        return Path(self.environment["CONDAINER_CACHE"])

    @property
    def lockfile(self) -> Path:
        return next(self.path.glob("conda-*-*.lock"))


def build_at_once(projects: Sequence[Project]) -> list[Any]:
    """Build projects side by side and return what `cnd build --json` prints of each."""
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda p=project: results.append(p.json("build")))
        for project in projects
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def prefix_of(project: Project) -> Path:
    return Path(project.json("status")["prefix"])


def mounted(prefix: Path) -> bool:
    return f" {prefix} " in Path("/proc/self/mounts").read_text()


def quick(
    project: Project, *arguments: str, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run cnd without its long way."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_WAY, *arguments],
        cwd=project.path,
        env={**project.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    return done


CLEAN = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
    *(
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ),
    *("CONDARC", "MAMBARC", "CONDA_EXE", "CONDA_ROOT"),
)


def fresh(make_project: Any, tmp_path: Path, name: str = "project", **environment: str) -> Project:
    """Make a project that knows no mirror, proxy or authority."""
    made: Project = make_project(name, SMALL, **environment)
    for variable in (*CLEAN, "CONDAINER_MIRRORS"):
        made.environment.pop(variable, None)
    made.environment |= environment
    made.environment["CONDAINER_PACKAGE_CACHE"] = str(tmp_path / f"packages of {name}")
    made.environment["UV_CACHE_DIR"] = str(tmp_path / f"uv of {name}")
    return made


def runner(project: Project, name: str, **environment: str) -> Project:
    """The same project on another machine: a cache of its own, and no channel."""
    path = project.path.parent / name / "project"
    path.mkdir(parents=True)
    for file in project.path.iterdir():
        if file.name != "activate" and file.is_file():
            (path / file.name).write_bytes(file.read_bytes())
    own = {
        "CONDAINER_CACHE": str(path.parent / "cache"),
        "CONDAINER_PACKAGE_CACHE": str(path.parent / "packages"),
        "CONDAINER_MIRRORS": "conda-forge=http://127.0.0.1:9",
        "XDG_CACHE_HOME": str(path.parent / "xdg"),
    }
    return Project(path, {**project.environment, **own, **environment})


def left(project: Project) -> list[str]:
    """What is in a cache but entries."""
    cache = Path(project.environment["CONDAINER_CACHE"])
    return [path.name for path in (cache / "tmp").glob("*")] if cache.exists() else []
