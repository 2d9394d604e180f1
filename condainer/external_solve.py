"""Conda specs to exact packages by an external executable, through conda-lock."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condainer import process
from condainer.claims import claimed_directory
from condainer.conda_exe import Executable, environment, numbers
from condainer.config import STAGE, Settings
from condainer.errors import CondainerError, IntegrityError, ToolError
from condainer.files import storage_errors
from condainer.inputs import Inputs
from condainer.solver import no_solution, unreadable

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
# What comes of taking an answer for what it should be.
UNFIT: tuple[type[Exception], ...] = (KeyError, TypeError, ValueError, AttributeError)
KEYWORD = re.compile(r'\w+="[^"]*"')
# Enough of what an executable said to see what went wrong.
SAID = 4000


def solve(
    executable: Executable,
    sources: Sequence[str],
    specs: Sequence[MatchSpec],
    inputs: Inputs,
    settings: Settings,
) -> list[RepoDataRecord]:
    """Solve as Engine.solve() has it; raises ToolError when the executable does not do its work."""
    if not specs:
        return []
    texts = [_text(spec) for spec in specs]
    answer = _ask(executable, sources, texts, inputs.platform, settings)
    if "packages" not in answer:
        raise _refusal(executable, answer, sources, inputs)
    records = planned(executable, answer["packages"], sources)
    lacking = [record for record in records if record.sha256 is None]
    return _completed(records, lacking, sources, inputs.platform) if lacking else records


def planned(executable: Executable, items: Any, sources: Sequence[str]) -> list[RepoDataRecord]:
    """Return the packages of a plan; raises ToolError when it is not what was asked for."""
    try:
        return [_Package(item, sources).record() for item in items]
    except UNFIT + _rattler_errors() as error:
        raise _unusable(executable, f"{type(error).__name__}: {error}") from None


def _text(spec: MatchSpec) -> str:
    """Return a spec as every executable takes it, with its channel before the name."""
    if spec.channel is None:
        return str(spec)
    # rattler writes a channel behind, with the rest that has no short form, or before.
    bare, _, brackets = str(spec).rpartition("::")[2].partition("[")
    rest = [item for item in KEYWORD.findall(brackets) if not item.startswith("channel=")]
    listed = f"[{','.join(rest)}]" if rest else ""
    return f"{str(spec.channel.base_url).rstrip('/')}::{bare}{listed}"


def _ask(
    executable: Executable,
    sources: Sequence[str],
    specs: Sequence[str],
    platform: str,
    settings: Settings,
) -> dict[str, Any]:
    """Let conda-lock ask the executable, in a process of its own, and return its answer."""
    question = {
        "path": sys.path,
        "executable": str(executable.path),
        "platform": platform,
        "channels": list(sources),
        "specs": list(specs),
        "condarc": "",
    }
    with storage_errors(f"work in {settings.staging_directory}"):
        settings.staging_directory.mkdir(parents=True, exist_ok=True)
        with claimed_directory(settings.staging_directory, STAGE) as scratch:
            if _forgets_hosts(executable) and any("::" in spec for spec in specs):
                question["condarc"] = str(scratch / "condarc")
            (scratch / "question.json").write_text(json.dumps(question), "utf-8")
            variables = environment(executable.path, scratch)
            if executable.name == "conda":
                # A configuration may name packages for every new environment; a lock is of these.
                variables["CONDA_FLAGS"] = "--no-default-packages"
            command = [sys.executable, "-I", str(SCRIPT), str(scratch)]
            try:
                process.run(command, env=variables, cwd=scratch)
            except process.CommandFailed as error:
                raise ToolError(
                    f"conda-lock could not ask {executable.path}: {error.reason[-SAID:]}",
                    "Install conda-lock anew, or remove `conda_exe:` from the configuration.",
                ) from None
            answer: dict[str, Any] = json.loads((scratch / "answer.json").read_text("utf-8"))
            return answer


def _forgets_hosts(executable: Executable) -> bool:
    """Tell whether it takes the URL in `URL::name` for the name of a channel, as conda does."""
    return executable.name in ("conda", "mamba") and (
        executable.name == "conda" or numbers(executable.version) < (2,)
    )


def _refusal(
    executable: Executable, answer: Mapping[str, Any], sources: Sequence[str], inputs: Inputs
) -> CondainerError:
    """Return the error for an executable that gave no plan: its words, and whose fault it is."""
    if "unusable" in answer:
        return _unusable(executable, str(answer["unusable"]))
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
    return name, (text or stderr.strip() or stdout.strip())[-SAID:]


def _unusable(executable: Executable, reason: str) -> ToolError:
    return ToolError(
        f"{executable.path} gave an answer that cannot be used: {reason[:SAID]}",
        "Is it a conda, mamba or micromamba, and does `conda create --dry-run --json` work with "
        "it? Without `conda_exe:` the embedded engine is used.",
    )


class _Package:
    """A package of a plan, held to what was asked for."""

    def __init__(self, item: Mapping[str, Any], sources: Sequence[str]) -> None:
        self.item = item
        self.name = str(item["name"])
        self.url = str(item["url"])
        self.md5 = str(item.get("md5") or "")
        self.sha256 = str(item.get("sha256") or "")
        self.source = next((url for url in sources if self.url.startswith(f"{url}/")), "")
        if not self.source:
            raise ValueError(f"{self.url} is in none of the channels asked for")
        self.subdir, _, self.filename = self.url.removeprefix(f"{self.source}/").rpartition("/")
        if not self.filename or "/" in self.subdir:
            raise ValueError(f"{self.url} is no package of {self.source}")

    def record(self) -> RepoDataRecord:
        """Return the package as solver.solve() wants it."""
        import rattler
        from rattler.package import BuildString

        build = str(self.item.get("build_string") or self.item.get("build") or "")
        package = rattler.PackageRecord(
            self.name,
            rattler.VersionWithSource(str(self.item["version"])),
            BuildString.new_unchecked(build),
            int(self.item.get("build_number") or 0),
            self.subdir,
            depends=[str(spec) for spec in self.item.get("depends") or ()],
            sha256=bytes.fromhex(self.sha256) if self.sha256 else None,
            md5=bytes.fromhex(self.md5) if self.md5 else None,
        )
        return rattler.RepoDataRecord(package, self.filename, self.url, self.source)


def _completed(
    records: Sequence[RepoDataRecord],
    lacking: Sequence[RepoDataRecord],
    sources: Sequence[str],
    platform: str,
) -> list[RepoDataRecord]:
    """Take from the channel's index what an executable gave without a sha256.

    Raises IntegrityError if the index speaks of another package at the same URL.
    """
    known = asyncio.run(_indexed([str(r.name.normalized) for r in lacking], sources, platform))
    for record in lacking:
        listed = known.get(str(record.url))
        digests = {listed.md5, record.md5} - {None} if listed is not None else set()
        if len(digests) > 1:
            raise IntegrityError(
                f"{record.url} has another md5 for the engine than in the channel's index",
                "Lock again: perhaps the channel has just changed.",
            )
    return [known.get(str(r.url), r) if r.sha256 is None else r for r in records]


async def _indexed(
    names: Sequence[str], sources: Sequence[str], platform: str
) -> dict[str, RepoDataRecord]:
    """Return what the indices of the channels say of packages, by URL."""
    import rattler
    from rattler import exceptions

    gateway = rattler.Gateway(client=rattler.Client.default_client())
    try:
        found = await gateway.query(
            sources=[rattler.Channel(source) for source in sources],
            platforms=[platform, "noarch"],  # type: ignore[list-item]
            specs=list(names),
            recursive=False,
        )
    except (exceptions.GatewayError, exceptions.FetchRepoDataError, exceptions.IoError) as error:
        raise unreadable(sources, str(error)) from None
    return {str(record.url): record for records in found for record in records}


def _rattler_errors() -> tuple[type[Exception], ...]:
    """Return what rattler raises for a name or a version that is none."""
    from rattler import exceptions

    return (exceptions.InvalidPackageNameError, exceptions.InvalidVersionError)
