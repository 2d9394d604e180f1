"""Names of repositories, and which of them are on this machine."""

from __future__ import annotations

import pytest

from condainer.oci import repository
from condainer.oci.repository import Repository
from condainer.system.errors import ConfigError

SECRET = "s3cret-word"


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
