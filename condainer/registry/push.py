"""Images of the cache into registries, which get only the blobs that they lack."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from condainer.cache import entries, signing, trust
from condainer.cache.entries import Entry
from condainer.cache.papers import disagreements, read_papers
from condainer.oci import image_manifest
from condainer.oci.attachments import Attachment, attach
from condainer.oci.client import Client
from condainer.oci.errors import NotThere, Refused, WrongContent
from condainer.oci.image_manifest import EMPTY, EMPTY_CONTENT, ImageManifest
from condainer.registry import signatures, tags
from condainer.registry.progress import progress
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError
from condainer.system.files import open_regular, sha256_of, storage_errors
from condainer.system.reporter import Reporter


@dataclass(frozen=True)
class Pushed:
    """An image in a registry: the digest of its manifest there, and how many bytes were sent."""

    entry: Entry
    registry: str
    digest: str
    sent: int
    names: tuple[str, ...]
    signatures: int
    seconds: float

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {
            "address": self.entry.address,
            "registry": self.registry,
            "digest": self.digest,
            "names": list(self.names),
            "signatures": self.signatures,
            "sent": self.sent,
            "seconds": round(self.seconds, 3),
        }


def push(
    entry: Entry,
    names: Sequence[str],
    client: Client,
    settings: Settings,
    reporter: Reporter,
    attachments: Sequence[Attachment] = (),
) -> Pushed:
    """Push an image to a registry, under its address and some names, with its signatures.

    A complete image of the same address stays, even if another user has pushed it. Parameters:
    `attachments` are other files to attach. Raises TrustError for a cache that is not trusted,
    IntegrityError for a damaged entry, ConfigError for a name that no registry takes,
    RegistryError, StorageError.
    """
    trust.check_cache(entry.root, settings)
    start = time.monotonic()
    wanted = [tags.of_name(name) for name in names]
    reporter.step(f"Pushing to {client.repository.host}")
    with storage_errors(f"read {entry.directory}"):
        texts = entries.read_papers(entry.directory)
        papers = read_papers(*texts, str(entry.directory))
        if problems := disagreements(papers):
            raise _damaged(entry, f"does not fit its papers: {'; '.join(problems)}")
        manifest, lock = ((hashlib.sha256(text).hexdigest(), len(text)) for text in texts)
        squashfs = papers.manifest.sha256, papers.manifest.size
        ours = image_manifest.of_files(squashfs, manifest, lock)
        content, sent = _there(client, entry.address), 0
        if content is None:
            content = image_manifest.write(ours)
            sent = _send(client, entry, ours, texts, reporter)
            client.put_manifest(entry.address, content, image_manifest.MANIFEST_TYPE)
        subject = image_manifest.describe(content, image_manifest.IMAGE_TYPE, papers.lock.platform)
        for tag in wanted:
            client.add_to_index(tag, subject, lambda other: other.subdir != subject.subdir)
        for attachment in attachments:
            attach(client, attachment, subject)
        # The signatures here are not those of another build.
        same = content == image_manifest.write(ours)
        signed = signatures.write(client, entry, texts[0], subject) if same else 0
    reporter.finish()
    if not same and signing.paths(entry):
        reporter.warn(
            f"{client.repository} has another build of {entry.address}, to which the signatures "
            "here do not belong: delete it there and push again, or pull and sign it"
        )
    seconds = time.monotonic() - start
    return Pushed(
        entry, str(client.repository), subject.digest, sent, tuple(names), signed, seconds
    )


def _damaged(entry: Entry, what: str) -> IntegrityError:
    return IntegrityError(
        f"{entry.image} {what}",
        f"`cnd verify {entry.address}` moves it away; `cnd build` builds it again.",
    )


def _there(client: Client, address: str) -> bytes | None:
    """Return the manifest of an image of which a registry has all blobs; None without one."""
    with suppress(NotThere, WrongContent):
        content = client.manifest(address).content
        image = image_manifest.read(content, f"{client.repository}:{address}")
        if all(client.exists(part.digest) for part in (image.squashfs, image.manifest, image.lock)):
            return content
    return None


def _send(
    client: Client,
    entry: Entry,
    image: ImageManifest,
    texts: tuple[bytes, bytes],
    reporter: Reporter,
) -> int:
    """Send the files of an image, the small ones last, and return how many bytes were sent."""
    layer, sent = image.squashfs, 0
    with open_regular(entry.image, follow=False) as stream:
        if os.fstat(stream.fileno()).st_size != layer.size:
            raise _damaged(entry, "does not have the size that its manifest says")
        tell = progress(reporter, layer.size)
        try:
            sent += layer.size * client.upload(layer.digest, layer.size, stream, tell)
        except Refused:
            if sha256_of(entry.image) == layer.digest.removeprefix("sha256:"):
                raise
            raise _damaged(entry, "does not have the sha256 that its manifest says") from None
    pairs = zip((image.manifest, image.lock, EMPTY), (*texts, EMPTY_CONTENT), strict=True)
    for part, text in pairs:
        sent += part.size * client.upload(part.digest, part.size, io.BytesIO(text))
    return sent
