"""Signatures of an image in a registry: manifests that refer to the image's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from condainer.cache import signing
from condainer.cache.entries import Entry
from condainer.oci import image_manifest
from condainer.oci.attachments import Attachment, attach
from condainer.oci.client import Client
from condainer.oci.image_manifest import Descriptor
from condainer.system.files import read_bytes

# How many signatures of an image are read: others may have pushed any number.
MOST = 100
MEDIA_TYPE = "application/vnd.condainer.signature.v1+ssh"
TITLE = "manifest.json.sig"


def read(client: Client, image: str) -> Iterator[bytes]:
    """Yield the unchecked signatures of the image whose manifest has a digest.

    Raises RegistryError.
    """
    referrers = (
        item
        for item in client.referrers(image)
        if item.artifact_type == image_manifest.SIGNATURE_TYPE
    )
    for item in islice(referrers, MOST):
        content = client.manifest(item.digest).content
        where = f"{client.repository}@{item.digest}"
        for layer in image_manifest.read_referrer(content, where):
            if layer.media_type == MEDIA_TYPE and layer.size <= signing.LIMIT:
                yield client.content(layer.digest, layer.size)


def write(client: Client, entry: Entry, manifest_text: bytes, subject: Descriptor) -> int:
    """Send the signatures of an entry that fit its manifest, and return how many.

    Parameters: `subject` describes the manifest of the image in the registry. Raises RegistryError,
    ToolError without ssh-keygen, OSError.
    """
    count = 0
    for path in signing.paths(entry):
        if not signing.check_file(path, manifest_text, None).signer:
            continue
        signature = read_bytes(path, follow=False, limit=signing.LIMIT)
        file = Attachment(image_manifest.SIGNATURE_TYPE, MEDIA_TYPE, TITLE, signature)
        attach(client, file, subject)
        count += 1
    return count


def allowed(signatures: Iterator[bytes], manifest_text: bytes, signers: Path | None) -> bytes:
    """Return the first signature of a manifest by an allowed signer; empty if there is none.

    Parameters: without `signers`, any signer is allowed. Raises as signing.check().
    """
    if signers is not None:
        signing.check_allowed(signers)
    for signature in signatures:
        told = signing.check(Path(TITLE), signature, manifest_text, signers)
        if told.allowed if signers else told.signer:
            return signature
    return b""
