"""Conda specs to exact packages, by the embedded engine (rattler)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from condainer.inputs.conda_specs import Spec, name_of, remedy_of, spelled_out
from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage, Solved, is_named
from condainer.network import client_settings, silence
from condainer.packages import forbidden, installed
from condainer.packages.channels import Channel, channel_of, expanded, rattler_channel
from condainer.packages.conda_packages import ordered
from condainer.packages.indices import gateway_to, not_kept, unread, unreadable
from condainer.packages.installed import Licensed
from condainer.settings import condarc, virtual
from condainer.settings.condarc import Condarc
from condainer.settings.config import Settings
from condainer.solve.advice import advice
from condainer.solve.conda_held import Problem, solve_holding
from condainer.solve.request import Engine, Request
from condainer.system.errors import InputError, NetworkError, SolveError
from condainer.system.files import digest_of, sha256_of
from condainer.system.reporter import Reporter
from condainer.system.text import reason

if TYPE_CHECKING:
    import rattler
    from rattler import MatchSpec, RepoDataRecord


def solve(
    inputs: Inputs,
    settings: Settings,
    reporter: Reporter,
    engine: Engine | None = None,
    held: Sequence[CondaPackage] = (),
) -> tuple[Solved, ...]:
    """Return the packages that satisfy the specs, sorted so that dependencies come first.

    Parameters: `engine` is the embedded one by default; `held` are packages of an older lock, which
    stay where that is possible. Raises InputError for a spec that is not valid, SolveError with the
    solver's explanation, NetworkError when a channel cannot be reached, PolicyError for a forbidden
    channel or license.
    """
    specs = match_specs(inputs.specs)
    channels = asked_channels(inputs, specs, settings)
    if unused := condarc.in_force().unused(inputs.channels):
        client_settings.warn_once(unused, reporter)
    reporter.step(f"Solving for {inputs.platform}")
    request = Request(inputs, settings, reporter, held, (), specs)
    records = _solve_from_mirrors(channels, request, engine or solve_embedded)
    reporter.finish()
    solved = tuple(_solved(record, channels) for record in _sorted(records))
    licenses = [Licensed("conda", item.name, item.version, item.license) for item in solved]
    forbidden.demand_licenses(licenses, str(settings.environment_yml), settings)
    return solved


def asked_channels(inputs: Inputs, specs: Sequence[MatchSpec], settings: Settings) -> list[Channel]:
    """Return the channels that the inputs ask for, by themselves or before `::`.

    Parameters: `specs` are those of the inputs. Raises PolicyError for a forbidden channel,
    InputError for one that is not valid.
    """
    places = dict(inputs.places)
    asked = [
        (channel_of(part, settings), places.get(name, str(settings.environment_yml)))
        for name in inputs.channels
        for part in expanded([name])
    ]
    for spec, matched in zip(inputs.specs, specs, strict=True):
        own = matched.channel
        url = str(own.base_url).rstrip("/") if own is not None else ""
        if url and url not in [known.url for known, _ in asked]:
            asked.append((channel_of(url, settings), spec.where))
    forbidden.demand_channels(((channel.url, where) for channel, where in asked), settings)
    return [channel for channel, _ in asked]


def match_specs(specs: Sequence[Spec]) -> list[MatchSpec]:
    """Return specs in the engine's terms; raises InputError for one that is not valid."""
    # Once: to look for its files takes a millisecond.
    site = condarc.in_force()
    return [_match_spec(spec, site) for spec in specs]


def _match_spec(spec: Spec, site: Condarc) -> MatchSpec:
    import rattler
    from rattler import exceptions

    try:
        text = site.spec(spelled_out(spec.text))
        matched = rattler.MatchSpec(_on_a_channel(text), strict=False)
        if re.search(r"[<>=!~;\s]", str(matched.build or "")):
            # `python>3 <4`: the engine would look for a build of that name, and find none.
            raise exceptions.InvalidMatchSpecError(f"{matched.build} is not the name of a build")
        return matched
    except exceptions.InvalidMatchSpecError as error:
        raise InputError(
            f"{spec.where}: not a valid conda package spec: {spec.text!r}: {reason(error)}",
            remedy_of(spec.text),
        ) from None


def _on_a_channel(text: str) -> str:
    """Name the one of the channels behind `defaults` that a spec asks for.

    conda has a package of R in the one, and all others in the other.
    """
    match = re.fullmatch(
        r"(?P<name>defaults|pkgs/\w+)(?P<rest>(/[\w-]+)?::\s*(?P<package>.+))", text
    )
    if match is None:
        return text
    of_r = re.match(r"r(-|\W|$)", match["package"])
    wanted = ("pkgs/r" if of_r else "pkgs/main") if match["name"] == "defaults" else match["name"]
    return f"{expanded([wanted])[0]}{match['rest']}"


def _solve_from_mirrors(
    channels: Sequence[Channel], request: Request, engine: Engine
) -> list[RepoDataRecord]:
    """Solve against the first mirrors, and against the next ones while they cannot be reached."""
    places = [channel.mirrors or (channel.url,) for channel in channels]
    problem: Exception | None = None
    for attempt in range(max(map(len, places), default=1)):
        sources = [urls[min(attempt, len(urls) - 1)] for urls in places]
        specs = _on_mirrors(request.specs, channels, sources)
        there = replace(request, sources=sources, specs=specs)
        try:
            return engine(there)
        except NetworkError as error:
            problem = error
        except SolveError as error:
            error.hint = advice(there) or error.hint
            raise
    assert problem is not None
    raise problem


def _on_mirrors(
    specs: Sequence[MatchSpec], channels: Sequence[Channel], sources: Sequence[str]
) -> list[MatchSpec]:
    """Let specs of the form `channel::name` mean the mirror that stands for the channel."""
    import rattler

    stand_in = {channel.url: source for channel, source in zip(channels, sources, strict=True)}
    result = []
    for spec in specs:
        if spec.channel is None:
            result.append(spec)
            continue
        mirror = stand_in[str(spec.channel.base_url).rstrip("/")]
        # A channel in brackets would win over the one before the colons.
        bare = re.sub(r"^[^\[]*?::|\b(channel|subdir)=\"[^\"]*\"(, )?", "", str(spec))
        place = f"{mirror}/{spec.subdir}" if spec.subdir else mirror
        text = f"{place}::{re.sub(r'(, )?]$', ']', bare).removesuffix('[]')}"
        result.append(rattler.MatchSpec(text, strict=False))
    return result


def solve_embedded(request: Request) -> list[RepoDataRecord]:
    """Solve with rattler, in this process, as an Engine does."""
    return asyncio.run(_solve_embedded(request))


async def _solve_embedded(request: Request) -> list[RepoDataRecord]:
    from rattler import exceptions

    sources, inputs, settings = request.sources, request.inputs, request.settings
    try:
        with gateway_to(sources, settings) as gateway:
            problem = Problem(
                gateway,
                [rattler_channel(source, settings) for source in sources],
                list(request.specs),
                inputs.platform,
                _virtual_packages(inputs),
            )
            solving = solve_holding(problem, request.held)
            return await silence.watched(solving, sources, request.reporter)
    except exceptions.SolverError as error:
        raise no_solution(inputs, _explanation(error)) from None
    except unread() as error:
        if settings.offline:
            raise not_kept(sources) from None
        raise unreadable(sources, _explanation(error)) from None


def no_solution(inputs: Inputs, text: str) -> SolveError:
    """Return the error that shows a solver's explanation, with the places of the specs in it."""
    named = [spec.where for spec in inputs.specs if is_named(name_of(spec.text), text)]
    places = ", ".join(dict.fromkeys(named or [spec.where for spec in inputs.specs]))
    return SolveError(
        f"{places}: no solution on {inputs.platform}:\n{text}",
        "Change the specs or add a channel in the environment file.",
    )


def _virtual_packages(inputs: Inputs) -> list[rattler.GenericVirtualPackage]:
    import rattler
    from rattler.package import BuildString

    return [
        rattler.GenericVirtualPackage(
            rattler.PackageName(package.name),
            rattler.Version(package.version),
            BuildString(package.build),
        )
        for package in virtual.in_force(inputs.virtual_packages, inputs.platform)
    ]


def _explanation(error: Exception) -> str:
    return re.sub(r"^Cannot solve the request because of:\s*", "", str(error)).strip()


def _sorted(records: list[RepoDataRecord]) -> list[RepoDataRecord]:
    by_name = {str(record.name.normalized): record for record in records}
    return [by_name[name] for name in ordered(records)]


def _solved(record: RepoDataRecord, channels: Sequence[Channel]) -> Solved:
    url = str(record.url)
    for channel in channels:
        for mirror in channel.mirrors:
            if url.startswith(mirror + "/"):
                url = channel.url + url.removeprefix(mirror)
    if record.sha256 is None and url.startswith("file:"):
        # An archive that was named by its URL: no index knows it.
        archive = unquote(urlsplit(url).path)
        sha256, md5 = sha256_of(archive), digest_of(archive, "md5")
    elif record.sha256 is None:
        raise SolveError(
            f"The channel gives no sha256 of {record.file_name}, so that it cannot be locked",
            "Use another channel, or ask this one's maintainers to index it with sha256.",
        )
    else:
        sha256, md5 = record.sha256.hex(), record.md5.hex() if record.md5 else ""
    return Solved(
        package=CondaPackage(url, sha256),
        name=str(record.name.normalized),
        version=str(record.version),
        build=str(record.build),
        md5=md5,
        depends=tuple(record.depends),
        license=installed.known(record.license),
    )
