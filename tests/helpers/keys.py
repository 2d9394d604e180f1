"""SSH keys, real ones, for the tests of signatures."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.needed import needs_program


@dataclass(frozen=True)
class Key:
    """A key pair; `path` is the private part."""

    path: Path

    @property
    def public(self) -> str:
        """The public part, as a line of allowed signers has it."""
        return " ".join(self.path.with_suffix(".pub").read_text().split()[:2])


def make_key(path: Path, passphrase: str = "") -> Key:
    """Make a key pair with ssh-keygen."""
    needs_program("ssh-keygen")
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return Key(path)


def allow(path: Path, *lines: str) -> Path:
    """Write a file of allowed signers."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o644)
    return path
