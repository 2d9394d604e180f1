"""Conda specs to exact packages by an external executable, through conda-lock."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage
from condainer.packages.indices import not_kept, unreadable
from condainer.settings import virtual
from condainer.settings.config import STAGE, Settings
from condainer.solve.conda_solver import no_solution
from condainer.solve.external import local_channel
from condainer.solve.external.conda_exe import OVERRIDES, SAID, Executable, environment, numbers
from condainer.solve.external.plan import completed, planned, unusable
from condainer.solve.request import Request
from condainer.system import process
from condainer.system.errors import CondainerError, ConfigError, SolveError, ToolError
from condainer.system.private_directory import working_directory
from condainer.system.urls import NETRC, has_secret, redacted

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord

SCRIPT = Path(__file__).with_name("ask_conda_lock.py")
# What an executable says when it is the packages, or the network, that it cannot get.
UNSOLVABLE = re.compile(
    r"Unsatisfiable|PackagesNotFound|ResolvePackageNotFound|NoPackagesFound|SpecsConfiguration"
    r"|could not solve|nothing provides|not installable|does not exist \(perhaps|conflicting req",
    re.IGNORECASE,
)
UNREACHABLE = re.compile(
    r"HTTPError|UnavailableInvalidChannel|ConnectionFailed|ProxyError|SSLError|OfflineError"
    r"|ChannelNotFound|ChannelDenied|HTTP 000|download error|could not resolve host"
    r"|failed to connect|transfer finalized|no such file or directory.*repodata",
    re.IGNORECASE,
)
BLAMED = re.compile(r"Package (\S+) conflicts for:")
KEYWORD = re.compile(r'\w+="[^"]*"')
# How often it is tried to let go of more packages of an older lock.
ROUNDS = 4


def solve(executable: Executable, request: Request) -> list[RepoDataRecord]:
    """Solve as an Engine does; raises ToolError when the executable does not do its work."""
    sources, specs, inputs = request.sources, request.specs, request.inputs
    settings = request.settings
    if not specs:
        return []
    _admit(sources, settings)
    archives = local_channel.archives_named(inputs)
    texts = [_text(spec) for spec, archive in zip(specs, archives, strict=True) if archive is None]
    named = [archive for archive in archives if archive is not None]
    with working_directory(settings.staging_directory, STAGE) as scratch:
        if named:
            channel, exact = local_channel.make_channel(named, scratch)
            sources, texts = [channel, *sources], [*exact, *texts]
        asked = Question(executable, tuple(sources), tuple(texts), inputs, scratch, settings)
        by_url = {archive.name.rsplit("-", 2)[0] for archive in named}
        fixed = {n: text for n, text in _exact(request.held, specs).items() if n not in by_url}
        return _solve(asked, fixed, by_url.union(map(_name, specs)))


@dataclass(frozen=True)
class Question:
    """What an executable is asked: with `sources` for channels, and the texts of specs."""

    executable: Executable
    sources: tuple[str, ...]
    specs: tuple[str, ...]
    inputs: Inputs
    scratch: Path
    settings: Settings


def _solve(question: Question, fixed: dict[str, str], names: set[str]) -> list[RepoDataRecord]:
    """Ask with packages of an older lock fixed, and let go of those that stand in the way.

    Parameters: `fixed` are exact specs by name; `names` are those that were asked for.
    """
    executable, sources, inputs = question.executable, question.sources, question.inputs
    for attempt in range(ROUNDS + 1):
        answer = _ask(replace(question, specs=(*question.specs, *fixed.values())), attempt)
        if "packages" in answer:
            break
        refusal = _refusal(executable, answer, sources, inputs)
        if not fixed or not isinstance(refusal, SolveError):
            raise refusal
        in_the_way = _in_the_way(set(fixed), refusal.message)
        last = attempt == ROUNDS - 1 or not in_the_way
        fixed = {} if last else {n: fixed[n] for n in fixed if n not in in_the_way}
    records = planned(executable, answer["packages"], sources)
    if fixed:
        records = _needed(records, names)
    return completed(records, sources, inputs.platform, question.settings)


def _admit(sources: Sequence[str], settings: Settings) -> None:
    """Refuse channels that an executable may not be asked for, or cannot read.

    Raises ConfigError for a URL with a login, OfflineError for a remote one without a network.
    """
    if any(has_secret(source) for source in sources):
        raise ConfigError(
            f"{redacted(' or '.join(sources))}: an external engine is told the URLs of channels on "
            "its command line, where everybody on this machine can read a password or token",
            NETRC,
        )
    if settings.offline and not all(source.startswith("file://") for source in sources):
        # What the embedded engine keeps of indices is not for others to read.
        raise not_kept(sources)


def _virtual_packages(inputs: Inputs) -> dict[str, str]:
    """Return the variables by which an executable takes the machine for what we take it for."""
    there = {p.name: p for p in virtual.in_force(inputs.virtual_packages, inputs.platform)}
    variables = {}
    for name in virtual.NAMES:
        package = there.get(f"__{name}")
        said = package.build if package and name == "archspec" else package and package.version
        if package and name == "cuda_arch" and package.build != "0":
            said = f"{package.version}={package.build}"
        variables[f"{OVERRIDES}{name.upper()}"] = said or ""
    return variables


def _exact(held: Sequence[CondaPackage], specs: Sequence[MatchSpec]) -> dict[str, str]:
    """Return specs, by name, for the packages of an older lock that fit what is asked for."""
    import rattler
    from rattler.package import BuildString

    exact = {}
    for package in held:
        name, version, build = package.parts
        record = rattler.PackageRecord(
            name,
            rattler.VersionWithSource(version),
            BuildString.new_unchecked(build),
            0,
            package.subdir,
        )
        if all(spec.matches(record) for spec in specs if _name(spec) == name):
            exact[name] = f"{name} =={version} {build}"
    return exact


def _in_the_way(fixed: set[str], text: str) -> set[str]:
    """Return which of the packages a solver's explanation blames, or names at all."""
    blamed = fixed.intersection(BLAMED.findall(text))
    return blamed or fixed.intersection(re.findall(r"[\w.-]+", text))


def _needed(records: Sequence[RepoDataRecord], names: set[str]) -> list[RepoDataRecord]:
    """Leave out what none of these names needs any more, and is there only as it was before."""
    by_name = {str(record.name.normalized): record for record in records}
    needed: set[str] = set()
    while names:
        needed |= names
        depends = [str(d) for name in names if name in by_name for d in by_name[name].depends]
        names = {re.split(r"[\s=<>!~\[]", depend)[0].lower() for depend in depends} - needed
    return [record for name, record in by_name.items() if name in needed]


def _name(spec: MatchSpec) -> str:
    return str(spec.name.normalized) if spec.name is not None else ""


def _text(spec: MatchSpec) -> str:
    """Return a spec as every executable takes it, with its channel before the name."""
    if spec.channel is None:
        return str(spec)
    # rattler writes a channel behind, with the rest that has no short form, or before.
    bare, _, brackets = str(spec).rpartition("::")[2].partition("[")
    rest = [item for item in KEYWORD.findall(brackets) if not item.startswith("channel=")]
    listed = f"[{','.join(rest)}]" if rest else ""
    return f"{str(spec.channel.base_url).rstrip('/')}::{bare}{listed}"


def _ask(question: Question, attempt: int) -> dict[str, Any]:
    """Let conda-lock ask the executable, in a process of its own, and return its answer."""
    executable = question.executable
    place = question.scratch / str(attempt)
    place.mkdir()
    named = _forgets_hosts(executable) and any("::" in spec for spec in question.specs)
    text = {
        "path": sys.path,
        "executable": str(executable.path),
        "platform": question.inputs.platform,
        "channels": question.sources,
        "specs": question.specs,
        "condarc": str(place / "condarc") if named else "",
    }
    (place / "question.json").write_text(json.dumps(text), "utf-8")
    variables = {**environment(executable.path, place), **_virtual_packages(question.inputs)}
    if "NETRC" in variables:
        # Some look for it in their home directory only.
        (place / ".netrc").symlink_to(variables["NETRC"])
    if executable.name == "conda":
        # A configuration may name packages for every new environment; a lock is of these.
        variables["CONDA_FLAGS"] = "--no-default-packages"
    try:
        process.run([sys.executable, "-I", str(SCRIPT), str(place)], env=variables, cwd=place)
    except process.CommandFailed as error:
        raise ToolError(
            f"conda-lock could not ask {executable.path}: {error.reason[-SAID:]}",
            "Install conda-lock again, or remove `conda_exe:` from the configuration.",
        ) from None
    answer: dict[str, Any] = json.loads((place / "answer.json").read_text("utf-8"))
    return answer


def _forgets_hosts(executable: Executable) -> bool:
    """Tell whether it takes the URL in `URL::name` for the name of a channel, as conda does."""
    old = executable.name == "mamba" and numbers(executable.version) < (2,)
    return old or executable.name == "conda"


def _refusal(
    executable: Executable, answer: Mapping[str, Any], sources: Sequence[str], inputs: Inputs
) -> CondainerError:
    """Return the error for an executable that gave no plan: its words, and whose fault it is."""
    if "unusable" in answer:
        return unusable(executable, str(answer["unusable"]))
    failed = process.CommandFailed([str(executable.path)], int(answer["status"]), "")
    name, text = _said(str(answer["stdout"] or ""), str(answer["stderr"] or ""))
    if answer["status"] < 0:
        return ToolError(f"{failed.message}\n{text}".strip(), "Try again, with more memory.")
    if UNREACHABLE.search(f"{name} {text}"):
        return unreadable(sources, text)
    if UNSOLVABLE.search(f"{name} {text}"):
        return no_solution(inputs, text)
    return ToolError(
        f"{executable.path} could not solve for {inputs.platform}: {failed.message}\n{text}",
        "`cnd prereq` shows the engine in force; without `conda_exe:` it is the embedded one.",
    )


def _said(stdout: str, stderr: str) -> tuple[str, str]:
    """Return the name of the error that an executable told of in JSON, and its explanation."""
    try:
        told = json.loads(stdout[stdout.index("{") : stdout.rindex("}") + 1])
        problems = told.get("solver_problems") or ()
        text = str(told.get("message") or told.get("error") or "")
        text = "\n".join([text, *(str(problem) for problem in problems)]).strip()
        name = str(told.get("exception_name") or ("Unsatisfiable" if problems else ""))
    except (ValueError, AttributeError):
        name, text = "", ""
    return name, redacted((text or stderr.strip() or stdout.strip())[-SAID:])
