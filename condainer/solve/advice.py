"""What is said of specs that nothing in the channels fits: near names, and the newest versions."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from condainer.inputs.conda_specs import Spec
from condainer.network import silence
from condainer.packages.channels import rattler_channel
from condainer.packages.indices import gateway_to, query, unread
from condainer.solve.request import Request
from condainer.system.errors import CondainerError
from condainer.system.urls import redacted

if TYPE_CHECKING:
    import rattler
    from rattler import RepoDataRecord

# How many names or versions are told, and how near a name has to be.
TOLD = 3
NEAR = 0.7


def advice(request: Request) -> str:
    """Return what to do about each spec that nothing fits, a line for each.

    Nothing where a channel cannot be read: what the solver said is told anyway.
    """
    sources = request.sources
    with suppress(CondainerError, *unread()), gateway_to(sources, request.settings) as gateway:
        lines = silence.watched(_lines(gateway, request), sources, request.reporter)
        return "\n     ".join(asyncio.run(lines))
    return ""


async def _lines(gateway: rattler.Gateway, request: Request) -> list[str]:
    lines = []
    sources, inputs = request.sources, request.inputs
    for wanted, spec in zip(inputs.specs, request.specs, strict=True):
        name = "" if spec.name is None else str(spec.name.normalized)
        if not name or name.startswith("__") or "://" in wanted.text:
            # A virtual package is of this machine, and an archive of its own place.
            continue
        own = None if spec.channel is None else str(spec.channel.base_url).rstrip("/")
        asked_urls = [own] if own else sources
        channels = [rattler_channel(source, request.settings) for source in asked_urls]
        platforms = [inputs.platform, "noarch"]
        records = await query(gateway, channels, platforms, [name])
        asked = ", ".join(inputs.channels) if own is None else wanted.text.partition("::")[0]
        if not records:
            names = await gateway.names(channels, platforms)  # type: ignore[arg-type]
            lines.append(_no_name(wanted, name, [str(n.normalized) for n in names], asked))
        elif not any(spec.matches(record) for record in records):
            lines.append(_no_version(wanted, records, asked))
    return lines


def _no_name(wanted: Spec, name: str, names: Sequence[str], asked: str) -> str:
    near = difflib.get_close_matches(name, names, TOLD, NEAR)
    meant = " or ".join(f"`{item}`" for item in near)
    remedy = f"Did you mean {meant}?" if near else "A package that only PyPI has goes below `pip:`."
    return redacted(
        f"{wanted.where}: no package `{name}` in the channels asked ({asked}). {remedy}"
    )


def _no_version(wanted: Spec, records: Sequence[RepoDataRecord], asked: str) -> str:
    newest = sorted(records, key=lambda record: record.version, reverse=True)
    versions = list(dict.fromkeys(str(record.version) for record in newest))
    return redacted(
        f"{wanted.where}: nothing in the channels asked ({asked}) fits `{wanted.text}`. The newest "
        f"there: {', '.join(versions[:TOLD])}"
    )
