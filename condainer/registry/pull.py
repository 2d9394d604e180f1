"""Images from registries into the cache: checked as they come, published by one rename."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import xxhash

from condainer.cache import entries, names, publish, signing, trust
from condainer.cache.entries import Entry
from condainer.cache.papers import recipe_problems
from condainer.cache.squashfs import unsquashfs
from condainer.lock.address import DIGITS as WHOLE
from condainer.lock.address import Address
from condainer.oci import image_manifest
from condainer.oci.client import Client
from condainer.oci.errors import NotThere, RegistryError, Unreachable, WrongContent
from condainer.registry import configured, signatures, tags, web_cache
from condainer.registry.offer import Offer, checked, promised, refuse
from condainer.registry.progress import progress
from condainer.settings.config import Settings
from condainer.system.errors import (
    CondainerError,
    ConfigError,
    IntegrityError,
    NotBuiltError,
    ToolError,
    TrustError,
)
from condainer.system.files import storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter

# The errors of one registry; the next one, or a build, may give the image.
OTHERS = (RegistryError, IntegrityError, TrustError, ConfigError, NotBuiltError)
# How many bytes of an image are synced at a time while more of it comes.
SYNCED = 64 << 20


@dataclass(frozen=True)
class Pulled:
    """An image that was pulled or was there already, with its registry and its name here."""

    entry: Entry
    registry: str
    name: str
    present: bool
    seconds: float

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {
            "address": self.entry.address,
            "name": self.name or None,
            "image": str(self.entry.image),
            "size": self.entry.manifest.size,
            "sha256": self.entry.manifest.sha256,
            "registry": self.registry or None,
            "present": self.present,
            "seconds": round(self.seconds, 3),
        }


def for_build(address: Address, settings: Settings, reporter: Reporter) -> Entry | None:
    """Return the image of an address, from the first place that has it; None if none has.

    Web caches are asked before registries. It warns of a place that does not answer, or gives
    something else. With `pull_only` it raises that error instead, and NotBuiltError for a miss.
    Raises StorageError, ToolError.
    """
    problem: CondainerError | None = None
    for place in configured.places(settings, reporter):
        try:
            if isinstance(place, str):
                offer = web_cache.offer(place, address.digest)
            else:
                offer = _offer(place, address.digest)
            if offer.papers.address.sha256 != address.sha256:
                refuse(offer.where, ["it is another environment with the same address"])
            entry = _take(offer, settings, reporter)
            reporter.note(f"Pulled {offer.where}")
            return entry
        except NotThere:
            continue
        except OTHERS as error:
            problem = error
            if isinstance(error, Unreachable):
                configured.away.add(place)
            reporter.close()
            if not settings.pull_only:
                reporter.warn(f"{error.message}: the image is not pulled from there")
    if settings.pull_only:
        asked = (*map(str, entries.roots(settings)), *settings.web_caches, *settings.registries)
        raise problem or NotBuiltError(
            f"The image {address.digest} is not in {', '.join(asked)}, and `pull_only` forbids to "
            "build it",
            "Push it from where it was built (`cnd push`), or build it here.",
        )
    return None


def pull(what: str, settings: Settings, reporter: Reporter) -> Pulled:
    """Pull the image of an address, or of a name, from the first registry that has it.

    It gets the name here, too. Parameters: an address may be shortened if a registry lists its
    tags. Raises NotBuiltError if no registry has it, RegistryError, and the errors of the image
    there and of the cache here.
    """
    start = time.monotonic()
    trust.check_cache(settings.cache_directory, settings)
    name = "" if names.DIGITS.fullmatch(what) else names.check(what)
    problem: CondainerError | None = None
    for client in configured.clients(settings, reporter):
        try:
            offer = _offer(client, _reference(client, what, name, settings))
            present = entries.look_up(offer.papers.address, settings)
            entry = present or _take(offer, settings, reporter)
            if present is not None and present.manifest == offer.papers.manifest:
                _keep_signature(present, _signature(offer, settings))
        except NotThere:
            continue
        except OTHERS as error:
            problem = error
            reporter.close()
            continue
        trust.demand(entry, settings)
        given = name if name and _is_named(name, entry, settings, reporter) else ""
        registry = str(client.repository)
        return Pulled(entry, registry, given, present is not None, time.monotonic() - start)
    raise problem or NotBuiltError(
        f"{what} is not in {', '.join(settings.registries)}",
        "`cnd pull --list` shows what a registry has.",
    )


@dataclass(frozen=True)
class Listed:
    """An image in a registry: its name or its address."""

    registry: str
    name: str
    address: str

    @property
    def tag(self) -> str:
        """The argument for `cnd pull`."""
        return self.name or self.address

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {
            "registry": self.registry,
            "name": self.name or None,
            "address": self.address or None,
        }


def listed(settings: Settings, reporter: Reporter) -> list[Listed]:
    """Return the names, and then the addresses, of each registry's images.

    Raises RegistryError if no registry lists its tags, and as configured.clients().
    """
    images: list[Listed] = []
    problems: list[CondainerError] = []
    clients = configured.clients(settings, reporter)
    for client in clients:
        place = str(client.repository)
        try:
            there = sorted(client.tags())
            named = [Listed(place, name, "") for tag in there if (name := tags.name_of(tag))]
            images += [*named, *(Listed(place, "", t) for t in there if tags.ADDRESS.fullmatch(t))]
        except NotThere:
            continue
        except OTHERS as error:
            problems.append(error)
            if len(problems) == len(clients):
                raise problems[0] from None
            reporter.warn(error.message)
    return images


def _reference(client: Client, what: str, name: str, settings: Settings) -> str:
    """Return the tag or digest of a wanted image; raises NotThere, NotBuiltError."""
    if not name:
        return what.lower() if len(what) == WHOLE else _whole(client, what, settings)
    tag = tags.of_name(name)
    manifest = client.manifest(tag)
    if manifest.media_type == image_manifest.MANIFEST_TYPE:
        return manifest.digest
    listed = image_manifest.read_index(manifest.content, f"{client.repository}:{tag}")
    ours = next((item.digest for item in listed if item.subdir == this_platform()), "")
    if not ours:
        others = ", ".join(item.subdir or "no platform" for item in listed)
        raise NotBuiltError(
            f"{client.repository} has {name} for {others}, but this machine is {this_platform()}",
            f"Build it on a {this_platform()} machine, and push it with that name.",
        )
    return ours


def _whole(client: Client, digits: str, settings: Settings) -> str:
    begun = [tag for tag in client.tags() if tag.startswith(digits.lower())]
    addresses = [tag for tag in begun if tags.ADDRESS.fullmatch(tag)]
    if not addresses:
        raise NotThere(f"{client.repository} has no image {digits}")
    entries.demand_one(digits, addresses, settings)
    return addresses[0]


def _offer(client: Client, reference: str) -> Offer:
    """Return a registry's image with a tag or digest; raises as web_cache.offer()."""
    manifest = client.manifest(reference)
    where = f"{client.repository}:{reference}"
    image = image_manifest.read(manifest.content, where)
    if image.manifest.size > entries.LARGEST or image.lock.size > entries.LARGEST_LOCK:
        raise WrongContent(
            f"{where}: manifest and lock are too large to be what `cnd` wrote",
            "It is not used. Ask who pushed it.",
        )
    with promised(where):
        manifest_text, lock_text = (
            client.content(part.digest, part.size) for part in (image.manifest, image.lock)
        )
    address = reference if tags.ADDRESS.fullmatch(reference) else ""
    papers = checked(manifest_text, lock_text, where, address)
    told, layer = papers.manifest, image.squashfs
    if (layer.digest, layer.size) != (f"sha256:{told.sha256}", told.size):
        refuse(where, ["manifest.json tells of another image.squashfs than the one there"])
    return Offer(
        where,
        client.repository.host,
        papers,
        partial(client.blob, layer.digest, layer.size),
        partial(signatures.read, client, manifest.digest),
    )


def _take(offer: Offer, settings: Settings, reporter: Reporter) -> Entry:
    """Get the bytes of an image and publish it, unless another process was faster.

    Raises TrustError for one without a signature that the policy demands, IntegrityError for wrong
    bytes, RegistryError, StorageError, ToolError.
    """
    signature = _signature(offer, settings)
    papers = offer.papers
    with publish.building(papers.address, settings, reporter, publish.PULL) as directory:
        present = entries.look_up(papers.address, settings)
        if present is not None:
            return present
        # A missing tool is told before anything is downloaded.
        unsquashfs(settings)
        image = directory / entries.IMAGE
        reporter.step(f"Pulling from {offer.host}")
        with (
            storage_errors(f"write {image}"),
            image.open("w+b") as stream,
            promised(offer.where),
            _Written(stream) as written,
        ):
            tell = progress(reporter, papers.manifest.size)
            offer.image(written, tell)  # type: ignore[arg-type]
            written.check()
        reporter.finish()
        problems = recipe_problems(image, papers.address, settings)
        if written.xxh3.hexdigest() != papers.manifest.xxh3:
            problems.append("the XXH3 of the image is not the one in the manifest")
        refuse(offer.where, problems)
        entry = publish.publish(
            directory, papers.address, papers.manifest_text, papers.lock_text, settings
        )
    _keep_signature(entry, signature)
    return entry


def _keep_signature(entry: Entry, signature: bytes) -> None:
    if signature:
        signing.keep(signing.place_of(entry, signature), signature)


class _Written:
    """A file that is written from its beginning, and the XXH3 of its content.

    Another thread syncs it on the way, so that little is left to sync at the end. The file must
    stay open until the end of the context.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._syncer = ThreadPoolExecutor(1)
        self._synced = self._syncer.submit(lambda: None)
        self._waiting = 0
        self.xxh3 = xxhash.xxh3_128()

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *problem: object) -> None:
        self._syncer.shutdown()

    def seek(self, offset: int) -> int:
        self.check()
        return self._stream.seek(offset)

    def truncate(self) -> int:
        self.xxh3.reset()
        return self._stream.truncate()

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.xxh3.update(data)
        self._waiting += len(data)
        if self._waiting >= SYNCED and self._synced.done():
            self._synced.result()
            self._synced = self._syncer.submit(os.fdatasync, self._stream.fileno())
            self._waiting = 0
        return len(data)

    def check(self) -> None:
        """Wait for the last sync, and raise its OSError, which the system reports only once."""
        self._synced.result()


def _signature(offer: Offer, settings: Settings) -> bytes:
    """Return a signature of an image, by an allowed signer if the policy demands one.

    Raises TrustError if there is no such signature, ConfigError without a list of signers.
    """
    signed = settings.trust == "signed"
    signers = trust.allowed_signers(settings) if signed else None
    text = offer.papers.manifest_text
    try:
        signature = signatures.allowed(offer.signatures(), text, signers)
    except (RegistryError, ToolError):
        if signed:
            raise
        signature = b""
    if signed and not signature:
        raise TrustError(
            f"{offer.where} is not signed by anybody whom {signers} names",
            "Ask a signer to `cnd sign` and `cnd push` it.",
        )
    return signature


def _is_named(name: str, entry: Entry, settings: Settings, reporter: Reporter) -> bool:
    """Give a name to an image that does not have it, and tell whether it has it now."""
    with suppress(NotBuiltError):
        if names.find(name, settings).address == entry.address:
            return True
    try:
        names.give(name, entry.address, settings)
    except CondainerError as error:
        reporter.warn(f"{entry.address} does not get the name {name} here: {error.message}")
        return False
    return True
