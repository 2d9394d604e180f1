"""A real git repository that holds a Python package, which builds without any other package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os
import zipfile

NAME = "{name}"
STEM = NAME.replace("-", "_")


def build_wheel(directory, config_settings=None, metadata_directory=None):
    version = open("VERSION").read().strip()
    info = f"{{STEM}}-{{version}}.dist-info"
    files = {{
        f"{{STEM}}.py": f"version = {{version!r}}\\n",
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{version}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[f"{{info}}/RECORD"] = "".join(f"{{path}},,\\n" for path in [*files, f"{{info}}/RECORD"])
    wheel = f"{{STEM}}-{{version}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
"""


class Repository:
    """A repository with one package, at its top or in a subdirectory.

    Args:
        path: where it is made.
        name: the package's name.
        inside: the subdirectory, empty for the top.
    """

    def __init__(self, path: Path, name: str, inside: str = "") -> None:
        self.path = path
        self.package = path / inside
        self.package.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        (self.package / "pyproject.toml").write_text(PROJECT)
        (self.package / "backend.py").write_text(BACKEND.format(name=name))

    def commit(self, version: str, tag: str = "") -> str:
        """Commit a version of the package, and return the commit."""
        (self.package / "VERSION").write_text(f"{version}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", version)
        if tag:
            self.git("tag", "--force", tag)
        # What plain web servers need.
        self.git("update-server-info")
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        """Run git in the repository, whatever the user has configured."""
        user = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
        user |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
        return subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**os.environ, **user, "GIT_CONFIG_GLOBAL": "/dev/null"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
