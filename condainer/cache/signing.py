"""Signatures of manifests, made and checked by ssh-keygen with the SSH keys that users have."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, publish
from condainer.cache.entries import Entry
from condainer.settings.config import Settings
from condainer.startup import command_environment
from condainer.system import environments, ownership, process
from condainer.system.errors import CondainerError, ConfigError, StorageError, ToolError
from condainer.system.files import (
    make_directory,
    published_file,
    read_bytes,
    storage_errors,
    user_name,
)
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter

# What the signatures are for: one made for git or for mail does not count.
NAMESPACE = "condainer"
# In the order in which ssh-keygen's own default came first.
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
# A signature has a few hundred bytes; the largest RSA keys give some thousands.
LIMIT = 64 << 10


@dataclass(frozen=True)
class Signature:
    """A signature beside an entry; `signer` is empty unless the manifest is what was signed.

    `allowed` says that the signer is in the file of allowed signers; `problem` what is wrong.
    """

    path: Path
    signer: str
    allowed: bool
    problem: str = ""

    def line(self) -> str:
        """Return it as a line for people."""
        if not self.signer:
            return f"signature {self.path.name}: {self.problem}"
        return f"signed by {self.signer}" + (f" ({self.problem})" if self.problem else "")

    def report(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "file": str(self.path),
            "signer": self.signer or None,
            "allowed": self.allowed,
            "problem": self.problem or None,
        }


def tool() -> str:
    """Return the path of ssh-keygen.

    From PATH alone: `tool_directory` may come from a project. Raises ToolError without it.
    """
    program = process.find_tool("ssh-keygen")
    if program is None:
        raise ToolError(
            "ssh-keygen is not installed",
            "Install OpenSSH's client (package openssh-client, or openssh-clients).",
        )
    return program


def key_of(settings: Settings, named: Path | None = None) -> Path:
    """Return the key to sign with: the one named, the configured one, or the first usual one.

    Raises ConfigError if there is none.
    """
    chosen = named or settings.signing_key
    usual = [Path.home() / ".ssh" / name for name in KEYS]
    key = next((path for path in ([chosen] if chosen else usual) if path.is_file()), None)
    if key is None:
        missing = f"{chosen} is no file" if chosen else f"There is no key in {usual[0].parent}"
        raise ConfigError(
            f"{missing}, and nothing can be signed",
            "Name a key with `--key` or `signing_key:`, or make one with `ssh-keygen -t ed25519`.",
        )
    return key


def sign(text: bytes, key: Path) -> bytes:
    """Return the signature of a text.

    On a terminal, ssh-keygen asks for the passphrase of the key there. Raises CondainerError when
    the key cannot be used, ToolError without a usable ssh-keygen.
    """
    with tempfile.TemporaryDirectory(prefix="condainer-sign-") as private:
        # Not through stdin: what asks for a passphrase wants it to be the terminal.
        message = Path(private, "manifest")
        message.write_bytes(text)
        argv = [tool(), "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(message)]
        try:
            process.run(argv, env=environments.client(), terminal=_has_terminal())
        except CommandFailed as error:
            raise _unusable(key, error) from None
        return read_bytes(message.with_name("manifest.sig"))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return sys.stdin is not None and sys.stdin.isatty()


def _unusable(key: Path, error: CommandFailed) -> CondainerError:
    said = error.reason
    if "passphrase" in said:
        return CondainerError(
            f"{key}: the passphrase was wrong, or there is no terminal to ask for it",
            "Run it on a terminal, or give the key to your agent first: `ssh-add`.",
        )
    if "No private key found" in said:
        return CondainerError(
            f"{key} is a public key, and neither your agent nor the file beside it has the private "
            "key",
            "Start an agent and `ssh-add` the key, or name the private key.",
        )
    if "unknown option" in said or "illegal option" in said:
        return ToolError("ssh-keygen is too old to sign", "It needs OpenSSH 8.2 or newer.")
    return ConfigError(f"{key} cannot be used to sign: {said}", "Name another key.")


def add(entry: Entry, text: bytes, key: Path) -> Path:
    """Sign the manifest of an entry, put the signature into its cache, and return where.

    Parameters: `text` is the manifest as the caller has checked it. Raises what sign() raises,
    StorageError when the cache cannot be written.
    """
    signature = sign(text, key)
    path = entry.root / publish.SIGNATURES / f"{entry.address}.{os.geteuid()}.sig"
    keep(path, signature)
    return path


def place_of(entry: Entry, signature: bytes) -> Path:
    """Return where another user's signature of an entry is put."""
    # A number as that of a user, but none that there is.
    number = int.from_bytes(hashlib.sha256(signature).digest()[:8], "big") + (1 << 64)
    return entry.root / publish.SIGNATURES / f"{entry.address}.{number}.sig"


def keep(path: Path, signature: bytes) -> None:
    """Put a signature into the cache of its entry; raises StorageError."""
    root = path.parent.parent
    with storage_errors(f"put the signature into {path.parent}"):
        make_directory(path.parent, stat.S_IMODE(root.stat().st_mode))
        _refuse_squatted(path)
        with published_file(path, 0o444, follow=False) as stream:
            stream.write(signature)


def _refuse_squatted(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        owner = path.lstat().st_uid
        if owner not in ownership.ours():
            raise StorageError(
                f"{path} belongs to {user_name(owner)}, who has no business there",
                f"Ask {user_name(owner)}, or the cache's administrator, to delete it.",
            )


def add_to_ours(entry: Entry, settings: Settings, reporter: Reporter) -> None:
    """Sign what this user has just put into a cache, if a key is configured for that.

    A failure is a warning, because the image is there.
    """
    if settings.signing_key is None:
        return
    try:
        with storage_errors(f"read {entry.directory}"):
            owner = entry.directory.lstat().st_uid
            text = entries.read_papers(entry.directory)[0]
        if owner == os.geteuid():
            # Otherwise another builder was faster, and signs it.
            add(entry, text, key_of(settings))
    except CondainerError as error:
        reporter.warn(f"The image is not signed: {error.message}")


def signatures(entry: Entry, text: bytes, allowed: Path | None) -> Iterator[Signature]:
    """Yield what the signatures of an entry are worth, the likeliest first.

    Parameters: `text` is the manifest; `allowed` the file of allowed signers, None to tell by which
    key each was made. Raises ToolError without ssh-keygen, ConfigError for a file of allowed
    signers that others could change.
    """
    files = paths(entry)
    if allowed is not None:
        check_allowed(allowed)
    for path in files:
        yield check_file(path, text, allowed)


def paths(entry: Entry) -> list[Path]:
    """Return where the signatures of an entry are, the likeliest first."""
    place = entry.root / publish.SIGNATURES
    names = []
    with contextlib.suppress(OSError), os.scandir(place) as items:
        for item in items:
            if re.fullmatch(rf"{entry.address}\.[0-9]+\.sig", item.name):
                owner = item.stat(follow_symlinks=False).st_uid
                # Ours and root's first, for others may have left any number.
                names.append((owner not in ownership.ours(), item.name))
    return [place / name for _, name in sorted(names)]


def check_allowed(allowed: Path) -> None:
    """Refuse a file of allowed signers that others could change; raises ConfigError."""
    try:
        status = allowed.stat()
    except OSError as error:
        raise ConfigError(
            f"allowed_signers: {allowed} cannot be read: {error.strerror}",
            "ssh-keygen(1) describes the file: a line `NAME KEYTYPE KEY` for each signer.",
        ) from None
    if not ownership.is_guarded(status):
        raise ConfigError(
            f"allowed_signers: others can write {allowed}, or own it",
            "It decides whose code you run: make it your own, and `chmod go-w` it.",
        )


def check_file(path: Path, text: bytes, allowed: Path | None) -> Signature:
    """Tell what a signature in a file is worth; parameters and errors are those of signatures()."""
    try:
        signature = read_bytes(path, follow=False, limit=LIMIT)
    except OSError as error:
        return Signature(path, "", False, f"it cannot be read: {error.strerror}")
    return check(path, signature, text, allowed)


def check(path: Path, signature: bytes, text: bytes, allowed: Path | None) -> Signature:
    """Tell what a signature of a manifest is worth; `path` is its name.

    Parameters and what it raises are those of signatures().
    """
    with _memory(signature) as held:
        named = ["-s", f"/proc/self/fd/{held}"]
        if allowed is None:
            said = _verify(["check-novalidate", "-n", NAMESPACE, *named], text, held)
            signer = said.partition(" with ")[2].strip()
            return Signature(path, signer, False, "" if signer else "it is not of this manifest")
        file = ["-f", str(allowed)]
        # A pattern in that file stands for itself here.
        for principal in _verify(["find-principals", *named, *file], text, held).splitlines():
            asked = ["verify", *file, "-I", principal, "-n", NAMESPACE, *named]
            if _verify(asked, text, held):
                return Signature(path, principal, True)
    return Signature(path, "", False, "not of this manifest by a key that is allowed and valid now")


def _verify(arguments: Sequence[str], text: bytes, held: int) -> str:
    """Return what ssh-keygen says of a good signature; nothing of a bad one."""
    with _memory(text) as message:
        try:
            argv = [tool(), "-Y", *arguments]
            return process.run(argv, stdin=message, pass_fds=(held,)).stdout
        except CommandFailed as error:
            if "unknown option" in error.stderr or "illegal option" in error.stderr:
                raise ToolError(
                    "ssh-keygen is too old to check signatures", "It needs OpenSSH 8.2 or newer."
                ) from None
            return ""


@contextlib.contextmanager
def _memory(content: bytes) -> Iterator[int]:
    """Give a text to a command as a descriptor, without a file that others could change."""
    descriptor = command_environment.unnamed_file()
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
