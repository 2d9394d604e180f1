"""pip's options as uv takes them: some in a file, some on the command line, some not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from condainer.inputs import pip_options
from condainer.inputs.requirements import Line
from condainer.system.errors import InputError
from condainer.system.urls import INDEX_VARIABLES, origin

# One name to a line.
LISTS = ("--no-binary", "--only-binary")
ALL = ":all:"
ARGUMENTS = {
    "--pre": ("--prerelease", "allow"),
    f"--all-releases {ALL}": ("--prerelease", "allow"),
    f"--only-final {ALL}": ("--prerelease", "disallow"),
}
# The name of an index before its URL, in uv's variables.
NAMED = re.compile(r"^[\w.-]+=")
# Options that uv does not have, and would ignore with a warning that is not shown.
REFUSED = {
    "--prefer-binary": "Leave it out: the newest version that fits is taken. `--only-binary :all:` "
    "or `--only-binary NAME` takes wheels only.",
    "--use-feature": "Leave it out: it is about pip itself, which is not used here.",
    "--all-releases": f"Write `--all-releases {ALL}`, or a pre-release into the requirement: "
    "`NAME>=2.0a0`.",
    "--only-final": f"Write `--only-final {ALL}`: without it, pre-releases are taken only where a "
    "requirement names one or nothing else fits.",
    "--trusted-host": "Leave it out: certificates are always checked. Name the file of your site's "
    "authority by SSL_CERT_FILE.",
}


def check(lines: Sequence[Line], environ: Mapping[str, str] = os.environ) -> None:
    """Raise InputError for an option that pip honours, and uv cannot."""
    options = [(line, option) for line in lines for option in _options(line)]
    indexes = [option.value for _, option in options if "://" in option.value]
    words = [word for name in INDEX_VARIABLES for word in environ.get(name, "").split()]
    indexes += [NAMED.sub("", word) for word in words]
    for line, option in options:
        if option.name not in REFUSED or option.text in ARGUMENTS:
            continue
        if option.name == "--trusted-host" and _is_plain(option.value, indexes):
            # To pip, a server without a certificate needs it; to uv it does not.
            continue
        raise InputError(
            f"{line.where}: {option.name} is not possible here: {line.text}", REFUSED[option.name]
        )


def spelled(lines: Sequence[Line]) -> tuple[tuple[Line, ...], list[str]]:
    """Return requirements as uv takes them in a file, and the options of its command line.

    check() has passed them.
    """
    kept: list[Line] = []
    arguments: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if not line.is_option or line.text.startswith("--find-links "):
            kept.append(line)
            continue
        for option in _options(line):
            if option.text in ARGUMENTS:
                name, value = ARGUMENTS[option.text]
                arguments[name] = (name, value)
            elif option.name in LISTS:
                names = option.value.split(",")
                kept += [replace(line, text=f"{option.name} {name}") for name in names]
            elif option.name not in REFUSED:
                kept.append(replace(line, text=option.text))
    return tuple(kept), [word for words in arguments.values() for word in words]


def _options(line: Line) -> list[pip_options.Option]:
    if not line.is_option:
        return []
    name, _, value = line.text.partition(" ")
    if name == "--find-links":
        # As the line was read: a path with blanks in it.
        return [pip_options.Option(name, value)]
    return pip_options.parsed(line.text, line.where)


def _is_plain(host: str, indexes: Sequence[str]) -> bool:
    """Tell whether a host, or host and port, is asked without encryption only."""
    asked = set()
    for index in indexes:
        scheme, name, port = origin(index)
        if host in (name, f"{name}:{port}"):
            asked.add(scheme)
    return asked == {"http"}
