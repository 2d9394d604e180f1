"""Registries without one: names of repositories, files of logins, manifests."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.network import http
from condainer.oci import access, image_manifest, logins, repository
from condainer.oci.errors import RegistryError, WrongContent
from condainer.oci.image_manifest import Descriptor, ImageManifest
from condainer.oci.repository import Repository
from condainer.registry import pull
from condainer.system.errors import ConfigError

SECRET = "s3cret-word"

# Repositories


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("oci://ghcr.io/group/images", Repository("ghcr.io", None, "group/images")),
        ("oci://GHCR.io/a.b/c__d/e---f/", Repository("ghcr.io", None, "a.b/c__d/e---f")),
        ("oci://127.0.0.1:5000/images", Repository("127.0.0.1", 5000, "images")),
        ("oci://[::1]:5000/images", Repository("[::1]", 5000, "images")),
        ("oci://[0:0:0::1]/images", Repository("[::1]", None, "images")),
        ("oci+http://old.example.org/a", Repository("old.example.org", None, "a", "http")),
    ],
)
def test_a_repository_is_read_and_written(text: str, found: Repository) -> None:
    assert repository.parse(text, "here") == found
    assert repository.parse(str(found), "here") == found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://ghcr.io/images", "form"),
        ("oci:ghcr.io/images", "form"),
        ("oci://ghcr.io", "form"),
        ("oci://ghcr.io/", "form"),
        ("oci://ghcr.io//images", "path"),
        ("oci:///images", "form"),
        ("oci://-x/images", "form"),
        ("oci://a..b/images", "host"),
        ("oci://ghcr.io:0/images", "port"),
        ("oci://ghcr.io:99999/images", "port"),
        ("oci://ghcr.io:x/images", "form"),
        ("oci://[::1/images", "form"),
        ("oci://[1::2::3]/images", "IPv6"),
        ("oci://ghcr.io/Images", "capital"),
        ("oci://ghcr.io/images:latest", "tag"),
        (f"oci://ghcr.io/images@sha256:{64 * '0'}", "tag or a digest"),
        ("oci://ghcr.io/images?x=1", "query"),
        ("oci://ghcr.io/images#x", "fragment"),
        ("oci://ghcr.io/a/../b", "path"),
        ("oci://ghcr.io/a%2fb", "path"),
        (f"oci://ghcr.io/{300 * 'a'}", "path"),
        ("oci://ghcr.io/im ages", "path"),
        ("oci://ghcr.io/images\nx", "form"),
        (f"oci://someone:{SECRET}@ghcr.io/images", "user"),
        (f"oci+http://{SECRET}@ghcr.io/images", "user"),
    ],
)
def test_what_is_no_repository_is_refused(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        repository.parse(text, "condainer.yml: registries")
    assert caught.value.message.startswith("condainer.yml: registries")
    assert caught.value.hint
    assert SECRET not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("x.localhost", True),
        ("127.1.2.3", True),
        ("[::1]", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("10.0.0.1", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, loopback: bool) -> None:
    assert repository.parse(f"oci://{host}/images", "here").is_loopback is loopback


# Logins


@pytest.fixture
def home(isolated_user: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, where files of logins are written."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(isolated_user / "run"))
    return isolated_user


def auth(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def note(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def user_for(text: str) -> str:
    """Return who logs in at a repository, or an empty text."""
    login = logins.find(repository.parse(text, "here"))
    if login is None:
        return ""
    assert SECRET not in repr(login)
    assert SECRET in (login.password, login.identity_token)
    return login.user


def test_files_of_logins_are_read_in_the_order_of_the_ecosystem(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_for("oci://a.org/x") == ""
    note(home / ".docker/config.json", auths={"a.org": auth("docker"), "b.org": auth("docker")})
    assert user_for("oci://a.org/x") == "docker"
    note(home / ".config/containers/auth.json", auths={"a.org": auth("config")})
    assert user_for("oci://a.org/x") == "config"
    note(home / "run/containers/auth.json", auths={"a.org": auth("runtime")})
    assert user_for("oci://a.org/x") == "runtime"
    assert user_for("oci://b.org/x") == "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "elsewhere"))
    assert user_for("oci://b.org/x") == ""
    # Who names a file wants no other.
    named = note(home / "named.json", auths={"c.org": auth("named")})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert [user_for(f"oci://{host}.org/x") for host in "abc"] == ["", "", "named"]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    assert logins.files()[0] == Path(f"/run/containers/{os.getuid()}/auth.json")


def test_the_most_specific_entry_counts(home: Path) -> None:
    entries = {
        "a.org": auth("all"),
        "a.org/group": auth("group"),
        "a.org/group/images": auth("images"),
        "a.org:5000": auth("port"),
        "https://b.org/v1/": auth("url"),
        "https://index.docker.io/v1/": auth("hub"),
    }
    note(home / ".docker/config.json", auths=entries)
    found = {
        "oci://a.org/x": "all",
        "oci://a.org/group/other": "group",
        "oci://a.org/groups/images": "all",
        "oci://a.org/group/images": "images",
        "oci://a.org/group/images/deep": "images",
        "oci://a.org:5000/group": "port",
        "oci://a.org:5001/group": "",
        "oci://b.org/x": "url",
        "oci://org/x": "",
        "oci://docker.io/x/y": "hub",
        "oci://registry-1.docker.io/x/y": "hub",
    }
    assert {text: user_for(text) for text in found} == found


def test_an_identity_token_is_a_login(home: Path) -> None:
    entry = {**auth("who", ""), "identitytoken": SECRET}
    note(home / ".docker/config.json", auths={"a.org": entry})
    login = logins.find(repository.parse("oci://a.org/x", "here"))
    assert login is not None
    assert (login.identity_token, login.password) == (SECRET, "")
    assert login.where == str(home / ".docker/config.json")


HELPER = """#!/bin/sh
read -r server
echo "$1 $server" >> "$HOME/asked"
case $server in
    a.org) echo '{"ServerURL": "a.org", "Username": "helped", "Secret": "s3cret-word"}' ;;
    t.org) echo '{"ServerURL": "t.org", "Username": "<token>", "Secret": "s3cret-word"}' ;;
    bad.org) echo 's3cret-word' ;;
    slow.org) sleep 60 ;;
    broken.org) echo s3cret-word; exit 3 ;;
    *) echo 'credentials not found in native keychain'; echo warning >&2; exit 1 ;;
esac
"""


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A credential helper in PATH; return its name."""
    program = home / "bin" / "docker-credential-probe"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return "probe"


def test_credential_helpers_are_asked(home: Path, helper: str) -> None:
    note(
        home / ".docker/config.json",
        auths={"a.org": {}, "b.org": auth("noted"), "c.org": {}},
        credHelpers={"t.org": helper},
        credsStore=helper,
    )
    assert user_for("oci://a.org/x") == "helped"
    assert user_for("oci://t.org/x") == "<token>"
    assert user_for("oci://b.org/x") == "noted"
    assert user_for("oci://c.org/x") == ""
    assert user_for("oci://docker.io/x") == ""
    assert (home / "asked").read_text().splitlines() == [
        "get a.org",
        "get t.org",
        "get c.org",
        "get https://index.docker.io/v1/",
    ]


@pytest.mark.parametrize("host", ["bad.org", "broken.org", "slow.org"])
def test_a_helper_that_fails_is_named(
    home: Path, helper: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "PATIENCE", 0.3)
    path = note(home / ".docker/config.json", credsStore=helper)
    with pytest.raises(ConfigError, match="docker-credential-probe") as caught:
        user_for(f"oci://{host}/x")
    told = f"{caught.value} {caught.value.hint}"
    assert str(path) in told
    assert SECRET not in told


@pytest.mark.parametrize("name", ["absent", "../probe", "a b"])
def test_a_helper_that_is_none_is_named(home: Path, name: str) -> None:
    path = note(home / ".docker/config.json", credsStore=name)
    with pytest.raises(ConfigError, match="helper") as caught:
        user_for("oci://a.org/x")
    assert str(path) in caught.value.message


def damaged(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


@pytest.mark.parametrize(
    "make",
    [
        damaged('{"auths": {"a.org": {"auth": "s3cret-word'),
        damaged("[]"),
        damaged('{"auths": ["s3cret-word"]}'),
        damaged('{"auths": {"a.org": {"auth": "s3cret-word!"}}}'),
        damaged('{"auths": {"a.org": {"auth": "c2VjcmV0"}}}'),
        damaged('{"auths": {"a.org": {"auth": 7}}}'),
        damaged('{"auths": {"a.org": {"identitytoken": [1]}}}'),
        damaged('{"credsStore": 7}'),
        damaged('{"credHelpers": {"a.org": ["x"]}}'),
        damaged(b"\xff\xfe"),
        damaged(100_000 * "["),
        damaged(" " * (logins.LARGEST + 1)),
        Path.mkdir,
        os.mkfifo,
    ],
)
def test_a_damaged_file_of_logins_is_named(home: Path, make: Callable[[Path], object]) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir()
    make(path)
    with pytest.raises(ConfigError, match="damaged") as caught:
        user_for("oci://a.org/x")
    told = f"{caught.value} {caught.value.hint}"
    assert str(path) in told
    assert "skopeo login" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("root", "realm", "fine"),
    [
        ("https://a.org/", "https://a.org/token", True),
        ("https://a.org/", "https://auth.other.org/token", True),
        ("https://a.org/", "http://a.org/token", False),
        ("https://a.org/", "http://127.0.0.1/token", False),
        ("https://a.org/", "https://127.0.0.1/token", False),
        ("https://a.org/", "https://2130706433/token", False),
        ("https://a.org/", "https://169.254.169.254/latest", False),
        ("https://a.org/", "https://metadata.google.internal/", False),
        ("https://a.org/", "https://x:y@b.org/token", False),
        ("https://a.org/", "https://b.org/\x1b[2J", False),
        ("https://a.org/", "file:///etc/passwd", False),
        ("https://a.org/", "", False),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/token", True),
        ("http://127.0.0.1:5000/", "http://169.254.169.254/token", False),
        ("http://127.0.0.1:5000/", "http://a.org/token", False),
        ("http://old.org/", "http://old.org/token", True),
        ("http://old.org/", "http://other.org/token", False),
        ("http://old.org/", "https://other.org/token", True),
    ],
)
def test_where_a_login_may_be_sent(root: str, realm: str, fine: bool) -> None:
    asked = access.Access(repository.parse("oci://a.org/x", "here"), root)
    if fine:
        assert asked._realm(realm) == realm
    else:
        with pytest.raises(RegistryError, match="wants a login"):
            asked._realm(realm)


# Manifests

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
    content = image_manifest.write_referrer(subject, [layer])
    found = image_manifest.read_referrer(content, "here")
    assert found.artifact_type == "application/vnd.condainer.signature.v1"
    assert (found.subject, found.layers) == (subject.digest, (layer,))
    with pytest.raises(WrongContent, match="artifactType"):
        image_manifest.read(content, "here")
    with pytest.raises(WrongContent, match="subject"):
        image_manifest.read_referrer(image_manifest.write(IMAGE), "here")


def test_sessions_of_registries_leave_netrc_alone() -> None:
    assert http.session(netrc=False) is not http.session()
    assert http.session(netrc=False) is http.session(netrc=False)


# What comes of an image


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """A file that takes bytes, but cannot bring them to a disk: a pipe."""
    monkeypatch.setattr(pull, "SYNCED", 4)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as stream:
        yield stream


def test_what_the_disk_refuses_meanwhile_is_told_at_the_end(refusing: BinaryIO) -> None:
    with pull._Written(refusing) as written:
        written.write(b"123")
        written.check()
    with pull._Written(refusing) as written:
        written.write(b"1234")
        with pytest.raises(OSError, match="Invalid argument"):
            written.check()


def test_what_the_disk_refuses_meanwhile_is_told_by_a_later_write(refusing: BinaryIO) -> None:
    with pull._Written(refusing) as written:
        written.write(b"1234")
        futures.wait([written._synced])
        with pytest.raises(OSError, match="Invalid argument"):
            written.write(b"5678")


def test_what_the_disk_refuses_at_once_is_told_at_once() -> None:
    with (
        open("/dev/full", "wb", buffering=0) as stream,
        pull._Written(stream) as written,
        pytest.raises(OSError, match="No space left"),
    ):
        written.write(b"1")
