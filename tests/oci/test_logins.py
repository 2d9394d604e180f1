"""Files of logins, as podman, skopeo and docker write them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condainer.oci import logins, repository
from condainer.system.errors import ConfigError

SECRET = "s3cret-word"


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
