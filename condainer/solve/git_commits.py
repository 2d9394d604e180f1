"""At which commit a requirement from a git repository was locked, so that it stays there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from condainer.inputs.requirements import Line
from condainer.lock.locks import PipPackage, pip_name
from condainer.pypi.wheels import name_of_url
from condainer.system.urls import redacted

# After the path of a repository comes a branch, tag or commit, which can have slashes.
REPOSITORY = re.compile(r"(?P<base>git\+[a-z]+://[^/\s]*/[^@#\s]*)(@[^#\s]*)?(?=[#\s]|$)")


def noted(lines: Sequence[Line], packages: Sequence[PipPackage]) -> tuple[tuple[str, str], ...]:
    """Return of each package from a repository the digest of the requirement that asked for it.

    By it a later lock sees whether the same is still asked for; it can hold no password.
    """
    asked = {name: line for line, name in _names(lines, packages).items()}
    return tuple(
        (package.name, _digest(asked[pip_name(package.name)]))
        for package in packages
        if package.is_vcs and pip_name(package.name) in asked
    )


def held(
    lines: Sequence[Line],
    packages: Sequence[PipPackage],
    references: Sequence[tuple[str, str]],
) -> tuple[Line, ...]:
    """Return the requirements with the commits of an older lock where the same is still asked for.

    Parameters: `packages` are those of the lock that should stay; `references` is what noted()
    returned for it.
    """
    digests = {pip_name(name): digest for name, digest in references}
    commits = {pip_name(p.name): p.commit for p in packages if p.is_vcs}
    asked = _names(lines, packages)
    return tuple(
        _at(line, commits[name])
        if (name := asked.get(line, "")) in commits and digests.get(name) == _digest(line)
        else line
        for line in lines
    )


def released(
    lines: Sequence[Line],
    original: Sequence[Line],
    packages: Sequence[PipPackage],
    problem: str,
) -> tuple[Line, ...]:
    """Return the requirements without the held commits that a failed resolution is about.

    Nothing if it is about none. Parameters: `lines` is what held() returned for `original`;
    `problem` is what the resolver says.
    """
    # Before it stand places.
    problem = problem.partition("\n")[2] or problem
    words = {pip_name(word) for word in re.findall(r"[\w-]+(?:\.[\w-]+)*", problem)}
    commits = {pip_name(p.name): p.commit for p in packages if p.is_vcs}
    names = _names(lines, packages)

    def freed(line: Line, before: Line) -> Line:
        name = names.get(line, "")
        return before if name in words or commits.get(name, "\0") in problem else line

    result = tuple(map(freed, lines, original))
    return () if result == tuple(lines) else result


def _names(lines: Sequence[Line], packages: Sequence[PipPackage]) -> dict[Line, str]:
    """Return the requirements from repositories with the names of what they ask for.

    One that is a URL alone asks for what was locked from there.
    """
    asked = [line for line in lines if not line.is_option and REPOSITORY.search(line.text)]
    commits = [package for package in packages if package.is_vcs]
    return {
        line: next(
            (pip_name(p.name) for p in commits if _at(line, p.commit).text.split()[0] == p.url),
            name_of_url(line.text),
        )
        for line in asked
    }


def _at(line: Line, commit: str) -> Line:
    return replace(line, text=REPOSITORY.sub(rf"\g<base>@{commit}", line.text, count=1))


def _digest(line: Line) -> str:
    return hashlib.sha256(redacted(line.text).encode()).hexdigest()[:16]
