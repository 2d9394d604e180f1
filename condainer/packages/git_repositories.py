"""Git repositories that a lock names, mirrored into the package cache and used from there."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from condainer.lock.locks import GIT, PipPackage
from condainer.network import silence
from condainer.package_cache.archives import note_use, partials, private_root, publish_directory
from condainer.packages.downloads import offline_error
from condainer.settings.config import Settings
from condainer.system import environments, process
from condainer.system.errors import (
    ConfigError,
    InputError,
    IntegrityError,
    LockfileError,
    NetworkError,
    StorageError,
    ToolError,
)
from condainer.system.files import remove_tree, storage_error_told, storage_errors
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter
from condainer.system.urls import redacted

# Not `ext`, which runs what a URL says.
PROTOCOLS = "https:http:ssh:git:file"
# ssh waits for ever otherwise; what it asks a server in between is answered while that works.
SSH = "ssh -o ConnectTimeout={limit} -o ServerAliveInterval={third} -o ServerAliveCountMax=3"
# The mode of an entry of a tree that is a commit of another repository.
SUBMODULE = "160000"
# What git says of a configuration file; its lines can have been broken elsewhere.
DAMAGED = re.compile(
    r"bad\s+config\s+line\s+\d+\s+in\s.+|bad\s+\w+\s+config\s+value\s.+|unable\s+to\s+access\s+'[^']*':"
    r"[^':]*fatal:\s+unknown\s+error\s+occurred\s+while\s+reading",
    re.DOTALL,
)


def fetch(packages: Sequence[PipPackage], settings: Settings, reporter: Reporter) -> list[str]:
    """Mirror the repositories of packages; return the URLs by which uv installs from the mirrors.

    The commit's own hash is what vouches for its content. Raises NetworkError when a repository
    cannot be read or has lost the commit, OfflineError when it must not be asked, InputError for
    one with submodules.
    """
    lacking = missing(packages, settings)
    if settings.offline and (lines := remote(lacking)):
        raise offline_error(lines)
    if lacking:
        reporter.step("Downloading repositories", "repositories")
        with storage_errors(f"keep repositories in {private_root(settings)}"):
            for number, package in enumerate(lacking, 1):
                _mirror(package, settings)
                reporter.progress(number, len(lacking))
    for package in packages:
        note_use(mirror_path(package, settings))
        _refuse_submodules(package, settings)
    return [_local_url(package, settings) for package in packages]


def _refuse_submodules(package: PipPackage, settings: Settings) -> None:
    """Refuse a commit that leads to other repositories, which neither lock nor mirror holds."""
    mirror = str(mirror_path(package, settings))
    listed = _git("--git-dir", mirror, "ls-tree", "-r", "-z", _parts(package)["commit"])
    lines = [line.partition("\t") for line in listed.split("\0")]
    if modules := [path for info, _, path in lines if info.startswith(f"{SUBMODULE} ")]:
        raise InputError(
            f"{package.name}: {redacted(package.url)} has Git submodules, whose repositories are "
            f"not locked: {', '.join(modules[:5])}",
            "Require a wheel or an sdist of it, or a commit of a copy that has these files itself.",
        )


def missing(packages: Sequence[PipPackage], settings: Settings) -> list[PipPackage]:
    """Return the packages whose commit is not in the package cache."""
    return [p for p in packages if not _has(mirror_path(p, settings), _parts(p)["commit"])]


def remote(packages: Sequence[PipPackage]) -> list[str]:
    """Return a line for each package whose repository only a connection can bring."""
    return [
        f"{package.name} from {redacted(package.url)}"
        for package in packages
        if not package.url.startswith("git+file://")
    ]


def mirror_path(package: PipPackage, settings: Settings) -> Path:
    """Return where the mirror with the commit of a package stands.

    Git refuses repositories of other users, so it is in the user's own package cache.
    """
    parts = _parts(package)
    digest = hashlib.sha256(f"{parts['url']}@{parts['commit']}".encode()).hexdigest()
    return private_root(settings) / "git" / digest[:2] / digest


def check(package: PipPackage) -> None:
    """Raise LockfileError for a URL that is not a commit of a Git repository."""
    _parts(package)


def _parts(package: PipPackage) -> dict[str, str]:
    match = GIT.fullmatch(package.url)
    if match is None:
        raise LockfileError(f"{redacted(package.url)}: not a Git URL that ends in @COMMIT")
    return match.groupdict(default="")


def _local_url(package: PipPackage, settings: Settings) -> str:
    parts = _parts(package)
    place = mirror_path(package, settings).as_uri()
    return f"git+{place}@{parts['commit']}{parts['rest']}"


def read(package: PipPackage, name: str, settings: Settings) -> str | None:
    """Return the text of a file in the package's directory, from its mirror; None without it."""
    parts = _parts(package)
    below = parts["subdirectory"].strip("/")
    path = f"{below}/{name}" if below else name
    mirror = str(mirror_path(package, settings))
    try:
        return _git("--git-dir", mirror, "show", f"{parts['commit']}:{path}")
    except CommandFailed:
        return None


def bundle(package: PipPackage, path: Path, settings: Settings) -> None:
    """Write the mirror of a package's repository into one file, as `git bundle` has it."""
    mirror = mirror_path(package, settings)
    commit = _parts(package)["commit"]
    # A commit that no branch has any more would stay behind otherwise.
    _git("--git-dir", str(mirror), "update-ref", "refs/condainer/locked", commit)
    _git("--git-dir", str(mirror), "bundle", "create", "--quiet", str(path), "--all")


def unbundle(package: PipPackage, path: Path, settings: Settings) -> None:
    """Take in what bundle() wrote; raises IntegrityError if it does not have the commit."""
    if not missing([package], settings):
        return
    try:
        _mirror(package, settings, str(path))
    except NetworkError as error:
        raise IntegrityError(
            f"The bundle does not have the commit of {redacted(package.url)}: {error.message}"
        ) from None


def _mirror(package: PipPackage, settings: Settings, source: str = "") -> None:
    parts = _parts(package)
    target = mirror_path(package, settings)
    if not source:
        limit_ssh()
    with partials(private_root(settings)) as directory:
        draft = directory / "repository"
        try:
            _git("clone", "--quiet", "--mirror", "--", source or parts["url"], str(draft))
        except CommandFailed as error:
            raise NetworkError(
                f"{redacted(parts['url'])} cannot be mirrored: {redacted(error.reason)}",
                "Check the network, and whether `git clone` of that URL works without a question.",
            ) from None
        if not _has(draft, parts["commit"]):
            raise NetworkError(
                f"{redacted(parts['url'])} does not have the commit {parts['commit']} any more",
                "Ask the repository's maintainers, or lock again with `cnd lock`.",
            )
        if _has(target, parts["commit"]):
            # Another process was faster, and may be building from it.
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # What stands there without the commit is of no use.
        remove_tree(target)
        for hook in (draft / "hooks").glob("*"):
            hook.unlink()
        publish_directory(draft, target)


def _has(repository: Path, commit: str) -> bool:
    if not repository.is_dir():
        return False
    try:
        _git("--git-dir", str(repository), "cat-file", "-e", f"{commit}^{{commit}}")
    except CommandFailed:
        return False
    return True


def damaged_configuration(told: str) -> ConfigError | None:
    """Return the error of a damaged configuration file that git tells of; None without one."""
    match = DAMAGED.search(told)
    if match is None:
        return None
    return ConfigError(
        f"The configuration of git cannot be read: {' '.join(match[0].split())}",
        "Correct it: `git config --list --show-origin`.",
    )


def limit_ssh() -> None:
    """Let ssh give up on silent servers where git starts it, unless the user says how it does.

    To be called before git, or uv for a requirement that may lead it to git, asks a server.
    """
    if not _has_own_ssh():
        os.environ["GIT_SSH_COMMAND"] = SSH.format(
            limit=math.ceil(silence.limit()), third=math.ceil(silence.limit() / 3)
        )


def _has_own_ssh() -> bool:
    if os.environ.get("GIT_SSH") or os.environ.get("GIT_SSH_COMMAND"):
        return True
    try:
        # Not a project's own configuration, which clones do not follow either.
        return bool(_git("--git-dir=/dev/null", "config", "core.sshCommand").strip())
    except (CommandFailed, ToolError, ConfigError, StorageError):
        return False


def _git(*arguments: str) -> str:
    tool = process.find_tool("git")
    if tool is None:
        raise ToolError("git is not installed", "The lock names a Git repository: install git.")
    variables = {**environments.client(), "GIT_ALLOW_PROTOCOL": PROTOCOLS}
    try:
        return process.run([tool, *arguments], env=variables).stdout
    except CommandFailed as error:
        command = redacted(shlex.join(("git", *arguments)))
        full = storage_error_told(f"run `{command}`", error.reason)
        raise damaged_configuration(error.stderr) or full or error from None
