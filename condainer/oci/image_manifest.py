"""Images as OCI 1.1 manifests and indexes, written and read.

The same files always give the same bytes, so that each push of an image has the same digest.
https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md says what the fields mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from condainer.oci.errors import WrongContent
from condainer.oci.repository import DIGEST

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
IMAGE_TYPE = "application/vnd.condainer.image.v1"
SIGNATURE_TYPE = "application/vnd.condainer.signature.v1"
TITLE = "org.opencontainers.image.title"
# The layers of an image, in this order: media type and name of the file.
LAYERS = (
    ("application/vnd.condainer.image.v1.squashfs", "image.squashfs"),
    ("application/vnd.condainer.manifest.v1+json", "manifest.json"),
    ("application/vnd.condainer.lock.v1+text", "explicit.lock"),
)
# In bytes: registries need not take more, https://github.com/opencontainers/distribution-spec.
LARGEST = 4 << 20
# The digits of a number: no disk has as many bytes.
DIGITS = 18
# Descriptors in an index, layers in a manifest.
MOST = 10_000
# Go's names for what conda calls linux-64 and so on; the others are the same.
ARCHITECTURES = {"64": "amd64", "32": "386", "aarch64": "arm64"}


@dataclass(frozen=True)
class Descriptor:
    """Content in a registry: `size` in bytes; `subdir` is the platform as conda names it."""

    media_type: str
    digest: str
    size: int
    title: str = ""
    artifact_type: str = ""
    subdir: str = ""


@dataclass(frozen=True)
class ImageManifest:
    """The three files of an entry."""

    squashfs: Descriptor
    manifest: Descriptor
    lock: Descriptor


EMPTY_CONTENT = b"{}"
EMPTY = Descriptor(EMPTY_TYPE, f"sha256:{hashlib.sha256(EMPTY_CONTENT).hexdigest()}", 2)


def digest_of(content: bytes) -> str:
    """Return the digest of content in a registry."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def describe(manifest: bytes, artifact_type: str = "", subdir: str = "") -> Descriptor:
    """Return the descriptor of the text of a manifest."""
    return Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest), "", artifact_type, subdir)


def of_files(
    squashfs: tuple[str, int], manifest: tuple[str, int], lock: tuple[str, int]
) -> ImageManifest:
    """Return the manifest of an entry from sha256 (hexadecimal) and size of each of its files."""
    described = (
        Descriptor(media_type, f"sha256:{sha256}", size, title)
        for (media_type, title), (sha256, size) in zip(
            LAYERS, (squashfs, manifest, lock), strict=True
        )
    )
    return ImageManifest(*described)


def write(image: ImageManifest) -> bytes:
    """Return the text of the manifest of an image."""
    return _manifest(IMAGE_TYPE, (image.squashfs, image.manifest, image.lock))


def write_referrer(subject: Descriptor, layer: Descriptor, artifact_type: str) -> bytes:
    """Return the text of a manifest that refers to another one, and holds a file."""
    return _manifest(artifact_type, (layer,), subject)


def write_index(descriptors: Sequence[Descriptor]) -> bytes:
    """Return the text of an index of manifests, sorted."""
    ordered = sorted(descriptors, key=lambda item: (item.subdir, item.digest))
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [_written(item) for item in ordered],
        }
    )


def read(content: bytes, where: str) -> ImageManifest:
    """Read the manifest of an image.

    Parameters: `where` names it in messages. Raises WrongContent for anything else.
    """
    with _refused(where):
        artifact_type, layers, _ = _parts(content)
        if artifact_type != IMAGE_TYPE:
            raise ValueError(f"its artifactType is not {IMAGE_TYPE}")
        if tuple((layer.media_type, layer.title) for layer in layers) != LAYERS:
            names = ", ".join(title for _, title in LAYERS)
            raise ValueError(f"its layers are not {names}, in this order")
    return ImageManifest(*layers)


def read_referrer(content: bytes, where: str) -> tuple[Descriptor, ...]:
    """Read what files a manifest holds that refers to another one.

    Parameters and errors are those of read().
    """
    with _refused(where):
        _, layers, subject = _parts(content)
        if not subject:
            raise ValueError("it has no subject")
    return layers


def read_index(content: bytes, where: str) -> tuple[Descriptor, ...]:
    """Read an index; parameters and errors are those of read()."""
    with _refused(where):
        return _descriptors(_document(content, INDEX_TYPE).get("manifests"), "manifests")


def _manifest(
    artifact_type: str, layers: Sequence[Descriptor], subject: Descriptor | None = None
) -> bytes:
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": _written(EMPTY),
        "layers": [_written(layer) for layer in layers],
    }
    if subject is not None:
        content["subject"] = _written(subject)
    return _canonical(content)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _written(item: Descriptor) -> dict[str, Any]:
    content: dict[str, Any] = {
        "mediaType": item.media_type,
        "digest": item.digest,
        "size": item.size,
    }
    if item.title:
        content["annotations"] = {TITLE: item.title}
    if item.artifact_type:
        content["artifactType"] = item.artifact_type
    if item.subdir:
        system, _, machine = item.subdir.partition("-")
        architecture = ARCHITECTURES.get(machine, machine)
        content["platform"] = {"os": system, "architecture": architecture}
    return content


# What follows reads what any user may have pushed, and ignores unknown fields.


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """Turn what reading raises into WrongContent that names what is read."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise WrongContent(
            f"{where} is not what it should be: {reason}",
            "It is not used. Push the image again.",
        ) from None


def _document(content: bytes, media_type: str) -> Mapping[str, Any]:
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    document = json.loads(
        content.decode("utf-8"),
        object_pairs_hook=_unique,
        parse_int=_number,
        parse_constant=_number,
    )
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise ValueError("it has not the schemaVersion 2")
    if document.get("mediaType", media_type) != media_type:
        raise ValueError(f"its mediaType is not {media_type}")
    return document


def _parts(content: bytes) -> tuple[str, tuple[Descriptor, ...], str]:
    """Return the artifact type, the layers and the digest of the subject of a manifest."""
    document = _document(content, MANIFEST_TYPE)
    config = _descriptor(document.get("config"), "config")
    # OCI 1.0 has the media type of the configuration in the place of artifactType.
    artifact_type = _text(document.get("artifactType", config.media_type), "artifactType")
    layers = _descriptors(document.get("layers"), "layers")
    subject = document.get("subject")
    digest = _descriptor(subject, "subject").digest if "subject" in document else ""
    return artifact_type, layers, digest


def _descriptors(value: Any, name: str) -> tuple[Descriptor, ...]:
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError(f"{name} is no list of up to {MOST}")
    return tuple(_descriptor(item, f"{name}[{n}]") for n, item in enumerate(value))


def _descriptor(value: Any, name: str) -> Descriptor:
    item = _mapping(value, name)
    digest = _text(item.get("digest"), f"{name}.digest")
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{name}.digest is no sha256 digest")
    size = item.get("size")
    if type(size) is not int or size < 0:
        raise ValueError(f"{name}.size is no number of bytes")
    annotations = _mapping(item.get("annotations") or {}, f"{name}.annotations")
    platform = _mapping(item.get("platform") or {}, f"{name}.platform")
    return Descriptor(
        _text(item.get("mediaType"), f"{name}.mediaType"),
        digest,
        size,
        _text(annotations.get(TITLE, ""), f"{name}.annotations.{TITLE}"),
        _text(item.get("artifactType", ""), f"{name}.artifactType"),
        _subdir(platform, f"{name}.platform"),
    )


def _subdir(platform: Mapping[str, Any], name: str) -> str:
    system = _text(platform.get("os", ""), f"{name}.os")
    architecture = _text(platform.get("architecture", ""), f"{name}.architecture")
    machines = {go: conda for conda, go in ARCHITECTURES.items()}
    return f"{system}-{machines.get(architecture, architecture)}" if system else ""


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no mapping")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} is no text")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        # Readers differ in which of the two they take.
        raise ValueError("it has a key twice")
    return mapping


def _number(text: str) -> int:
    if len(text) > DIGITS or not text.lstrip("-").isdecimal():
        raise ValueError("a number in it is too large")
    return int(text)
