"""Requirement files: their lines, joined and with absolute paths, for uv to interpret.

The syntax is pip's; what it accepts is passed on unchanged. Only what cannot be in a shared,
immutable image (editable installs, local paths), or not be locked, is refused here.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path

from condainer.inputs import pip_options
from condainer.system.errors import InputError
from condainer.system.files import Read, read_bytes
from condainer.system.urls import has_user, without_user

MAX_DEPTH = 20
# The files that were read, and whether as constraints, in their order.
Included = dict[tuple[Path, bool], None]
# A path can have blanks, but no other option follows.
PATH = r"(?P<path>(?:(?!\s-).)+)"
INCLUDE = re.compile(rf"(?P<option>-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc])){PATH}")
FIND_LINKS = re.compile(rf"(?P<option>-f|--find-links)(?:\s+|=){PATH}")
# Beside these, pip ignores all other options of a line.
ALONE = {"--requirement", "--constraint", "--editable"}
EDITABLE = re.compile(r"(-e|--editable(?=\s|=|$))\s*=?\s*(?P<target>.*)")
# pip splits options as a shell does.
QUOTED = re.compile(r"(?P<mark>[\"'])(?P<inner>[^\"']*)(?P=mark)")
# An option after a requirement, of which uv takes none but --hash.
OPTION = re.compile(r"\s(?P<option>--(?!hash[\s=])[a-z][a-z-]*|-[A-Za-z])(?=[\s=]|$)")
COMMENT = re.compile(r"(^|\s)#.*$")
# `name @ target` or `name[extra]@target`.
DIRECT = re.compile(r"[\w.-]+\s*(\[[^\]]*\])?\s*@\s*(?P<target>.*)")
LOCAL = re.compile(r"\.{1,2}([\[\s;]|$)|~|file:", re.IGNORECASE)
ARCHIVE = re.compile(r"[^\s;]+\.(whl|zip|tgz|tbz|tbz2|txz|tar(\.\w+)?)([\s;\[]|$)", re.IGNORECASE)
VCS = re.compile(r"(^|@\s*)(?P<kind>git|hg|svn|bzr)\+(?P<url>\S+)", re.IGNORECASE)
GIT_SCHEMES = ("https://", "http://", "ssh://", "file:///")
# pip replaces it by the value of the environment variable, and so does uv.
LOGIN = re.compile(r"https?://[^/\s?#]*@[^/\s?#]+", re.IGNORECASE)
PASSWORD = re.compile(r"://[^/\s?#@]*[:$][^/\s?#]*@")
VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
REMEDY = (
    "An image is shared and never changes: build a wheel and put it on an index or a web server, "
    "or install the package into a virtual environment on top of the image."
)


@dataclass(frozen=True)
class Line:
    """One logical line of a requirements file, and the place it stands at.

    `note` says what became of it, if that is not what it says itself.
    """

    text: str
    where: str
    constraint: bool = False
    note: str = ""

    @property
    def is_option(self) -> bool:
        """Whether the line is an option of the whole file rather than a requirement."""
        return self.text.startswith("-")

    @property
    def is_wanted(self) -> bool:
        """Whether the line asks for a package, rather than say something of others."""
        return not (self.is_option or self.constraint)


def read(path: Path, read: Read = read_bytes) -> tuple[list[Line], list[Path]]:
    """Return the lines of a requirements file and the files that it includes.

    Raises InputError with file and line for what is missing or cannot be locked.
    """
    included: Included = {}
    lines = _read(path, str(path), (path,), included, False, read)
    return lines, [item for item, _ in included]


def from_lines(
    lines: list[tuple[str, str]], base: Path, read: Read = read_bytes
) -> tuple[list[Line], list[Path]]:
    """Return the same for the lines below `pip:`; paths in them are relative to `base`."""
    result: list[Line] = []
    included: Included = {}
    for item, where in lines:
        for _, text in _logical_lines(item):
            result += _line(text, where, base, (), included, False, read)
    return result, [path for path, _ in included]


def read_text(path: Path, read: Read = read_bytes) -> str:
    """Return the text of an input file with plain line ends; raises OSError, UnicodeDecodeError.

    A file is UTF-8, or UTF-16 as Windows PowerShell writes what is redirected into a file.
    """
    data = read(path)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf16 else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(
    path: Path,
    where: str,
    chain: tuple[Path, ...],
    included: Included,
    constraint: bool,
    read: Read,
) -> list[Line]:
    if len(chain) > MAX_DEPTH or path in chain[:-1]:
        raise InputError(
            f"{where}: requirements files include each other: {path}",
            "Remove one of the `-r` or `-c` lines.",
        )
    try:
        text = read_text(path, read)
    except FileNotFoundError:
        raise InputError(
            f"{where}: no such file: {path}",
            "A path is relative to the directory of the file that names it.",
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text", "Save the file as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"{where}: {path} cannot be read: {error.strerror}", "Name a text file."
        ) from None
    lines: list[Line] = []
    for number, line in _logical_lines(text):
        lines += _line(line, f"{path}:{number}", path.parent, chain, included, constraint, read)
    return lines


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Join lines that end in a backslash and drop comments, as pip does."""
    result: list[tuple[int, str]] = []
    pending, start = "", 0
    rows = text.splitlines()
    for number, row in enumerate(rows, 1):
        start = start if pending else number
        continued = row.rstrip().endswith("\\") and not row.lstrip().startswith("#")
        pending += row.rstrip()[:-1] if continued else row
        if continued and number < len(rows):
            continue
        if line := COMMENT.sub("", pending).strip():
            result.append((start, line))
        pending = ""
    return result


def _line(
    text: str,
    where: str,
    base: Path,
    chain: tuple[Path, ...],
    included: Included,
    constraint: bool,
    read: Read,
) -> list[Line]:
    if not text:
        return []
    _refuse_variables(text, where)
    if match := INCLUDE.fullmatch(text):
        if "://" in match["path"]:
            raise InputError(
                f"{where}: a requirements file on a web server can change at any time: {text}",
                "Save it beside environment.yml and name that file.",
            )
        path = _absolute(match["path"], base, where)
        inner = constraint or match["option"] in ("-c", "--constraint")
        if (path, inner) in included and path not in chain:
            # Its lines are there already; files that all include each other twice stay cheap.
            return []
        included[path, inner] = None
        return _read(path, where, (*chain, path), included, inner, read)
    note = ""
    if match := EDITABLE.fullmatch(text):
        quoted = QUOTED.fullmatch(match["target"])
        target = quoted["inner"] if quoted else match["target"]
        if not VCS.match(target):
            raise InputError(f"{where}: an editable install cannot be locked: {text}", REMEDY)
        text = target
        note = f"{where}: an image cannot be edited: installed as any other package: {text}"
    if match := FIND_LINKS.fullmatch(text):
        return [_find_links(match["path"].strip(), where, base, constraint)]
    if text.startswith("-"):
        options = pip_options.parsed(text, where)
        _refuse_ignored([option.name for option in options], text, where)
        if any(_is_relative(option) for option in options):
            lines = []
            for option in options:
                if option.name == "--find-links":
                    lines.append(_find_links(option.value, where, base, constraint))
                else:
                    lines += _line(option.text, where, base, chain, included, constraint, read)
            return lines
    else:
        if match := OPTION.search(text):
            raise InputError(
                f"{where}: {match['option']} after a requirement cannot be locked: {text}",
                "Only --hash can be: leave it out, write -f and -i on lines of their own, or build "
                "a wheel with it, and name its URL.",
            )
        if match := VCS.search(text):
            _check_vcs(match, text, where)
            # A user without a password, as GitHub's pages write it, says nothing to git.
            text = without_user(text)
        else:
            _refuse_local(text, where)
        text = re.sub(r"\s+", " ", text)
    return [Line(text, where, constraint, note)]


def _is_relative(option: pip_options.Option) -> bool:
    """Tell whether an option names something that is looked for from the file it stands in."""
    if option.name == "--find-links":
        return "://" not in option.value and not os.path.isabs(option.value)
    return option.name in ALONE


def _refuse_ignored(names: list[str], text: str, where: str) -> None:
    """Refuse a line of which pip would ignore a part."""
    if names.count("--find-links") > 1 or (len(names) > 1 and ALONE.intersection(names)):
        raise InputError(
            f"{where}: pip would ignore a part of this line: {text}",
            "Write each option on a line of its own.",
        )


def _find_links(place: str, where: str, base: Path, constraint: bool) -> Line:
    if "://" not in place:
        place = str(_absolute(place, base, where))
    return Line(f"--find-links {place}", where, constraint)


def login(text: str) -> str:
    """Return the option by which uv learns who logs in at the server that a line names.

    uv does not ask an additional index for what has a URL of its own.
    """
    match = LOGIN.search(text)
    return f"--extra-index-url {match[0]}/" if match else ""


def _refuse_variables(text: str, where: str) -> None:
    """Refuse `${VARIABLE}` except in a login at a server, which no lock shows."""
    if VARIABLE.search(without_user(text)):
        raise InputError(
            f"{where}: what a variable of the environment holds cannot be locked: {text}",
            "Write its value. Only user and password of a URL can be variables: "
            "`https://${USER}:${PASSWORD}@host/simple`.",
        )


def _check_vcs(match: re.Match[str], text: str, where: str) -> None:
    """Refuse a version control reference that cannot be pinned to a commit."""
    if match["kind"].lower() != "git":
        raise InputError(
            f"{where}: a reference to {match['kind']} cannot be locked, only one to git: {text}",
            "Name a release, or the URL of a wheel or of an archive with its hash.",
        )
    if not match["url"].lower().startswith(GIT_SCHEMES):
        raise InputError(
            f"{where}: not the URL of a git repository: {text}",
            "Write `git+https://host/path` or `git+ssh://git@host/path`.",
        )
    if has_user(match["url"]) and PASSWORD.search(match["url"]):
        raise InputError(
            f"{where}: a password in the URL of a git repository: {text}",
            "git takes them from ~/.netrc (mode 0600) or its credential helper; or use an SSH key, "
            "`git+ssh://git@host/path`.",
        )


def _refuse_local(text: str, where: str) -> None:
    """Refuse a requirement that uv would take for a path, in all the spellings it knows."""
    direct = DIRECT.fullmatch(text)
    target = direct["target"] if direct else text
    path = "://" not in target and (
        direct or "/" in re.split(r"[\s;]", target, maxsplit=1)[0] or ARCHIVE.match(target)
    )
    if path or LOCAL.match(target):
        raise InputError(f"{where}: a local path cannot be locked: {text}", REMEDY)


def _absolute(path: str, base: Path, where: str) -> Path:
    if "\0" in path:
        raise InputError(f"{where}: {path!r} is not a path", "Remove the NUL character.")
    try:
        expanded = Path(path.strip().strip("\"'")).expanduser()
    except RuntimeError as error:
        raise InputError(f"{where}: {path}: {error}", "Write the path in full.") from None
    return Path(os.path.normpath(base / expanded))
