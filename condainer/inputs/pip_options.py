"""The options that pip takes in a requirements file, one by one, whichever way they are written."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from optparse import OptionError, OptionParser
from typing import NoReturn

from condainer.system.errors import InputError

FLAGS = ("--no-index", "--prefer-binary", "--require-hashes", "--pre")
# The long name comes first; the others mean the same to pip.
WITH_VALUE = (
    "--index-url -i --pypi-url",
    "--extra-index-url",
    "--requirement -r",
    "--constraint -c",
    "--editable -e",
    "--find-links -f",
    "--no-binary",
    "--only-binary",
    "--all-releases",
    "--only-final",
    "--trusted-host",
    "--use-feature",
)


@dataclass(frozen=True)
class Option:
    """One option by its long name; the value of a flag is empty."""

    name: str
    value: str

    @property
    def text(self) -> str:
        """The option as a line of its own."""
        return f"{self.name} {self.value}".strip()


class _Parser(OptionParser):
    """pip's own parser is of this kind: it takes abbreviations, `-iURL` and `--name=value`."""

    def __init__(self) -> None:
        super().__init__(add_help_option=False)
        for name in FLAGS:
            self.add_option(name, dest=name, action="append_const", const="")
        for names in map(str.split, WITH_VALUE):
            self.add_option(*names, dest=names[0], action="append")

    def error(self, msg: str) -> NoReturn:
        raise ValueError(msg)


def parsed(text: str, where: str) -> list[Option]:
    """Return the options of a line; raises InputError for one that pip does not know.

    Parameters: `where` is the place of the line.
    """
    try:
        values, others = _Parser().parse_args(shlex.split(text))
        if others:
            raise ValueError(f"unexpected {others[0]!r}")
    except (ValueError, OptionError) as error:
        raise InputError(
            f"{where}: not an option that pip takes in a requirements file: {text} ({error})",
            "Correct it, or leave it out; docs/explanation/locking.md has the list.",
        ) from None
    by_name = vars(values)
    return [Option(name, value) for name in by_name for value in by_name[name] or ()]
