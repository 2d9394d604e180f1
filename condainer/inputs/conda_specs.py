"""The `dependencies:` of an environment file: conda specs, and the lines below `pip:`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.system.errors import InputError
from condainer.system.urls import NETRC, has_secret
from condainer.system.yaml_file import Document

LIST = "Write each item on a line of its own that begins with `- `."
PACKAGE_URL = re.compile(r"\w+://\S*\.(conda|tar\.bz2)(#|$)")
PACKAGE_PATH = re.compile(r"(~|\.{0,2}/)\S*\.(conda|tar\.bz2)")
# Where the name of a conda spec, or of a requirement, ends.
END = re.compile(r"[\s=<>!~\[;|@(]")
SPEC = "Write it as `name`, `name=1.2`, `name>=1,<2` (with a comma) or `channel::name`."
# What conda takes for something else than it says.
DOUBTFUL = (
    (re.compile(r"=\s*[<>]"), "Write `>=` or `<=`: conda takes `=>1.2` for `>1.2`."),
    (re.compile(r"\[.*\bfeatures\s*="), "No channel has features: name a build, `[build=mkl*]`."),
    (re.compile(r"\[.*\bname\s*="), "The name before the brackets is another one: write one."),
    (re.compile(r"\w\("), "conda ignores what stands in parentheses: write `name=1.2`."),
    (re.compile(r"\w\^"), "Write `name>=1.2,<2`: `^` means nothing to conda."),
)
SELECTOR = re.compile(r"sel\((?P<word>[\w-]+)\)")
EMPTY_VERSION = re.compile(r"(?P<name>[^\s=]+)\s*=\s*")
BUILD = re.compile(r"(?P<head>\S+?\s*(?:[<>=!~]=?|\s)\s*[^\s=]+)\s*=\s*(?P<build>[\w*.]+)\s*")


@dataclass(frozen=True)
class Spec:
    """A conda MatchSpec as the user wrote it, and the place it stands at."""

    text: str
    where: str


def parsed(document: Document, platform: str) -> tuple[tuple[Spec, ...], list[tuple[str, str]]]:
    """Return the conda specs of an environment file, and the lines below `pip:` with their places.

    Parameters: `platform` is the one that mamba's selectors are for. Raises InputError with the
    place of what is neither.
    """
    value = document.value.get("dependencies")
    if value is None:
        return (), []
    if not isinstance(value, list):
        raise InputError(
            f"{document.where('dependencies')}: `dependencies` must be a list",
            LIST,
        )
    specs: list[Spec] = []
    pip: list[tuple[str, str]] = []
    for index, given in enumerate(value):
        where = document.where("dependencies", index)
        item = given
        if word := _selector(given):
            # mamba looks for it in the name of the platform.
            if word not in platform and (word != "unix" or platform.startswith("win")):
                continue
            (item,) = given.values()
            if not isinstance(item, str):
                raise InputError(
                    f"{where}: a selector must have one package", "Write `sel(linux): name`."
                )
        if isinstance(item, str) and has_secret(item):
            raise InputError(f"{where}: a URL with user, password or token: {item}", NETRC)
        if isinstance(item, str) and item.strip():
            specs.append(Spec(_spec(item.strip(), document.path.parent), where))
        elif isinstance(item, dict) and list(item) == ["pip"]:
            pip += _pip(document, index, item["pip"])
        else:
            raise InputError(
                f"{where}: a dependency must be a text such as `numpy>=1.26`, not {item!r}",
                "Put quotation marks around it, or write pip packages below `- pip:`.",
            )
    return tuple(specs), pip


def _selector(item: Any) -> str:
    """Return the word of mamba's selector, as in `sel(linux): name`; empty without one."""
    key = next(iter(item)) if isinstance(item, dict) and len(item) == 1 else None
    match = SELECTOR.fullmatch(key) if isinstance(key, str) else None
    return match["word"] if match else ""


def _spec(text: str, base: Path) -> str:
    """Return a spec as a URL if it is the path of a package, as conda does."""
    if PACKAGE_PATH.fullmatch(text):
        return Path(os.path.normpath(base.absolute() / Path(text).expanduser())).as_uri()
    return text


def _pip(document: Document, index: int, lines: Any) -> list[tuple[str, str]]:
    where = document.where("dependencies", index, "pip")
    if lines is None:
        return []
    if not isinstance(lines, list):
        raise InputError(f"{where}: `pip:` must be a list of requirements", LIST)
    result = []
    for number, line in enumerate(lines):
        place = document.where("dependencies", index, "pip", number)
        if not isinstance(line, str):
            raise InputError(
                f"{place}: a requirement must be a text, not {line!r}",
                "Put quotation marks around it.",
            )
        result.append((line, place))
    return result


def name_of(spec: str) -> str:
    """Return the name of the package that a spec asks for, in small letters."""
    if PACKAGE_URL.match(spec):
        return spec.partition("#")[0].rpartition("/")[2].rsplit("-", 2)[0].lower()
    return END.split(spec.rpartition("::")[2].strip(), maxsplit=1)[0].lower()


def with_python(specs: tuple[Spec, ...], where: str, version: str) -> tuple[Spec, ...]:
    """Return specs with one of python, which pip packages need, if none is among them.

    Parameters: `version` is what a lock of pip packages requires of it, if anything.
    """
    if any(name_of(spec.text) == "python" for spec in specs):
        return specs
    return (*specs, python_spec(version, f"{where} (added because of the pip requirements)"))


def python_spec(version: str, where: str) -> Spec:
    """Return a spec of python with the versions that are required, or any.

    Parameters: `version` is as PEP 440 has it: conda takes no blank behind an operator, and writes
    `==3.11.*` as `3.11.*`.
    """
    text = re.sub(r"([<>=!~])\s+", r"\1", version).replace("===", "==")
    text = re.sub(r"==([^,]+\.\*)", r"\1", text)
    return Spec(f"python[version='{text}']" if text else "python", where)


def requires_python(value: Any, where: str) -> str:
    """Return a `requires-python` for python_spec(), an empty text if there is none.

    Raises InputError, with its place, for what no spec can say.
    """
    # A quotation mark would end the version there.
    if value is not None and (not isinstance(value, str) or set(value) & set("'\"[]")):
        raise InputError(
            f"{where}: `requires-python` is not a version specifier: {value!r}",
            'Write it as `">=3.10,<4"`.',
        )
    return str(value or "").strip()


def spelled_out(text: str) -> str:
    """Return a spec in the form that rattler takes, where what conda takes it for is clear.

    That is an empty version (`name=`), blanks around the build (`name = 1.2 = build`), and the name
    once more in brackets.
    """
    bare, bracket, rest = text.partition("[")
    if match := EMPTY_VERSION.fullmatch(bare):
        bare = match["name"]
    elif match := BUILD.fullmatch(bare):
        bare = f"{match['head']}={match['build']}"
    if not bracket:
        return bare
    name = re.split(r"[\s=<>!~]", bare.rpartition("::")[2].strip(), maxsplit=1)[0]
    again = rf"\bname\s*=\s*([\"']?){re.escape(name)}\1\s*(,\s*|(?=\]))"
    rest = re.sub(again, "", rest, flags=re.IGNORECASE)
    return bare if rest == "]" else f"{bare}{bracket}{rest}"


def remedy_of(text: str) -> str:
    """Return what to write in place of a spec that is refused."""
    return next((hint for form, hint in DOUBTFUL if form.search(text)), SPEC)
