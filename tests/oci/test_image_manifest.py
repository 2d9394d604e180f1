"""Manifests and indexes of images, written and read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.oci import image_manifest
from condainer.oci.errors import WrongContent
from condainer.oci.image_manifest import Descriptor, ImageManifest

FILES = (("a" * 64, 4096), ("b" * 64, 100), ("c" * 64, 200))
IMAGE = image_manifest.of_files(*FILES)


def test_a_manifest_is_always_the_same() -> None:
    content = image_manifest.write(IMAGE)
    assert image_manifest.read(content, "here") == IMAGE
    assert image_manifest.write(image_manifest.read(content, "here")) == content
    assert json.loads(content) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.condainer.image.v1",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": media_type,
                "digest": f"sha256:{sha256}",
                "size": size,
                "annotations": {"org.opencontainers.image.title": title},
            }
            for (media_type, title), (sha256, size) in zip(
                [
                    ("application/vnd.condainer.image.v1.squashfs", "image.squashfs"),
                    ("application/vnd.condainer.manifest.v1+json", "manifest.json"),
                    ("application/vnd.condainer.lock.v1+text", "explicit.lock"),
                ],
                FILES,
                strict=True,
            )
        ],
    }


def changed(**changes: Any) -> bytes:
    """Return the manifest with other values at places such as `layers.0.size`; None removes."""
    content = json.loads(image_manifest.write(IMAGE))
    for place, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in place.split("__")]
        item = content
        for parent in parents:
            item = item[parent]
        if value is None:
            del item[last]
        else:
            item[last] = value
    return json.dumps(content).encode()


LAYER = json.loads(image_manifest.write(IMAGE))["layers"][0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "Expecting value"),
        (b"[]", "schemaVersion"),
        (b"\xff", "decode"),
        (b"[" * 200_000, "nested"),
        (b" " * (image_manifest.LARGEST + 1), "larger"),
        (b'{"schemaVersion": ' + 100_000 * b"9" + b"}", "too large"),
        (b'{"schemaVersion": NaN}', "too large"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', "twice"),
        (changed(schemaVersion=1), "schemaVersion"),
        (changed(mediaType=image_manifest.INDEX_TYPE), "mediaType"),
        (changed(artifactType="application/vnd.other"), "artifactType"),
        (changed(artifactType=None), "artifactType"),
        (changed(artifactType=7), "artifactType"),
        (changed(config=None), "config"),
        (changed(config__digest="sha512:00"), "digest"),
        (changed(layers=None), "layers"),
        (changed(layers={}), "layers"),
        (changed(layers=[]), "layers"),
        (changed(layers=[LAYER] * 3), "layers"),
        (changed(layers=[{}] * 20_000), "list of up to"),
        (changed(layers__1="x"), r"layers\[1\]"),
        (changed(layers__0__size=-1), r"layers\[0\]\.size"),
        (changed(layers__0__size=1.5), r"layers\[0\]\.size"),
        (changed(layers__0__size=True), r"layers\[0\]\.size"),
        (changed(layers__0__size="4096"), r"layers\[0\]\.size"),
        (changed(layers__0__size=10**30), "too large"),
        (changed(layers__0__digest="sha256:" + 64 * "A"), r"layers\[0\]\.digest"),
        (changed(layers__0__digest="sha256:" + 63 * "a"), r"layers\[0\]\.digest"),
        (changed(layers__0__digest="sha256:" + 64 * "a" + "\n"), r"layers\[0\]\.digest"),
        (changed(layers__0__digest=["a"]), r"layers\[0\]\.digest"),
        (changed(layers__0__annotations=None), "layers"),
        (changed(layers__0__annotations=[1]), "annotations"),
        (changed(layers__1__annotations__org="x", layers__1__mediaType="text/plain"), "layers"),
        (changed(layers__0__annotations={image_manifest.TITLE: "manifest.json"}), "layers"),
        (changed(layers__0__annotations={image_manifest.TITLE: "\x1b[2J"}), "annotations"),
    ],
)
def test_what_is_no_manifest_of_an_image_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(WrongContent, match=what) as caught:
        image_manifest.read(content, "oci://a.org/x:tag")
    assert caught.value.message.startswith("oci://a.org/x:tag")
    assert caught.value.message.isprintable()
    assert caught.value.exit_code == 9


def test_fields_that_others_add_do_no_harm() -> None:
    content = changed(annotations={"org.example": "x"}, layers__0__urls=["https://x"])
    assert image_manifest.read(content, "here") == IMAGE


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
FILE = st.tuples(DIGESTS, st.integers(0, 10**15))


@given(st.tuples(FILE, FILE, FILE))
def test_every_manifest_is_read_back(files: Any) -> None:
    image: ImageManifest = image_manifest.of_files(*files)
    assert image_manifest.read(image_manifest.write(image), "here") == image


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
PLACES = st.sampled_from(
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "layers__0", "layers__2"]
    + [f"layers__1__{name}" for name in ("mediaType", "digest", "size", "annotations", "platform")]
    + ["subject"]
)


@given(PLACES, JSON)
def test_whatever_stands_in_a_field_is_read_or_refused(place: str, value: Any) -> None:
    content = changed(**{place: value if value is not None else []})
    for read in (image_manifest.read, image_manifest.read_referrer, image_manifest.read_index):
        try:
            read(content, "here")
        except WrongContent as refused:
            assert refused.message.startswith("here")  # noqa: PT017


def test_an_index_names_images_by_platform() -> None:
    subdirs = {
        "linux-64": {"os": "linux", "architecture": "amd64"},
        "linux-aarch64": {"os": "linux", "architecture": "arm64"},
        "linux-ppc64le": {"os": "linux", "architecture": "ppc64le"},
        "linux-s390x": {"os": "linux", "architecture": "s390x"},
    }
    manifest = image_manifest.write(IMAGE)
    items = [image_manifest.describe(manifest, subdir=subdir) for subdir in subdirs]
    content = image_manifest.write_index(items)
    assert image_manifest.write_index(items[::-1]) == content
    assert list(image_manifest.read_index(content, "here")) == items
    document = json.loads(content)
    assert document["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [item["platform"] for item in document["manifests"]] == list(subdirs.values())
    assert document["manifests"][0]["digest"] == image_manifest.digest_of(manifest)


def test_a_signature_refers_to_an_image() -> None:
    subject = image_manifest.describe(image_manifest.write(IMAGE))
    layer = Descriptor("text/plain", f"sha256:{64 * 'd'}", 7, "manifest.json.sig")
    content = image_manifest.write_referrer(subject, layer, image_manifest.SIGNATURE_TYPE)
    document = json.loads(content)
    assert document["artifactType"] == "application/vnd.condainer.signature.v1"
    assert document["subject"]["digest"] == subject.digest
    assert image_manifest.read_referrer(content, "here") == (layer,)
    with pytest.raises(WrongContent, match="artifactType"):
        image_manifest.read(content, "here")
    with pytest.raises(WrongContent, match="subject"):
        image_manifest.read_referrer(image_manifest.write(IMAGE), "here")
