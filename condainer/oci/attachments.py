"""Files that are attached to an image in a registry, in manifests that refer to the image's."""

from __future__ import annotations

import io
from dataclasses import dataclass

from condainer.oci import image_manifest
from condainer.oci.client import Client
from condainer.oci.image_manifest import EMPTY, EMPTY_CONTENT, Descriptor


@dataclass(frozen=True)
class Attachment:
    """A file, its media type, and its kind, such as a signature."""

    artifact_type: str
    media_type: str
    title: str
    content: bytes


def attach(client: Client, attachment: Attachment, subject: Descriptor) -> None:
    """Attach a file to the image whose manifest is described; raises RegistryError."""
    content = attachment.content
    digest = image_manifest.digest_of(content)
    client.upload(digest, len(content), io.BytesIO(content))
    client.upload(EMPTY.digest, EMPTY.size, io.BytesIO(EMPTY_CONTENT))
    layer = Descriptor(attachment.media_type, digest, len(content), attachment.title)
    client.put_referrer(subject, layer, attachment.artifact_type)
