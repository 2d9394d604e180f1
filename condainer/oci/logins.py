"""Logins at registries, from the files of podman, skopeo and docker; they are never shown.

The files are those of containers-auth.json(5), in its order, with the same meaning. The credential
helpers of docker's file are asked, too. netrc and keyrings are not: no client of registries uses
them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condainer.oci.repository import Repository
from condainer.system import environments, process
from condainer.system.errors import CondainerError, ConfigError
from condainer.system.files import read_text

# The size of a file in bytes, and the seconds of a credential helper, which may ask a cloud.
LARGEST = 1 << 20
PATIENCE = 20.0
HELPER = re.compile(r"[A-Za-z0-9._-]+")
# The user that a helper gives with a token.
TOKEN_USER = "<token>"
# All names of one registry; files have the last one, as a URL.
DOCKER_HUB = ("docker.io", "registry-1.docker.io", "index.docker.io")


@dataclass(frozen=True)
class Login:
    """User and password, or an identity token in their place; `where` is the file with it."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(repr=False)
    where: str


def files() -> list[Path]:
    """Return the files that may hold logins, the most important first."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    home = Path(os.environ.get("HOME") or "/nonexistent")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [
        Path(runtime or "/run", "containers", "" if runtime else f"{os.getuid()}", "auth.json"),
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    ]


def find(repository: Repository) -> Login | None:
    """Return the login for a repository; None if no file has one.

    Raises ConfigError for a file that cannot be read or understood, or a helper that fails.
    """
    for path in files():
        if login := _in_file(path, repository):
            return login
    return None


def _in_file(path: Path, repository: Repository) -> Login | None:
    try:
        content = json.loads(read_text(path, limit=LARGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from None
    except json.JSONDecodeError as error:
        raise _damaged(path, f"no JSON from line {error.lineno} on") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "no JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, "no mapping")
    registry = _registry(repository.authority)
    helpers = {_registry(name): helper for name, helper in _mapping(content, "credHelpers", path)}
    if helper := helpers.get(registry):
        return _from_helper(helper, registry, path)
    entries = {_key(name): entry for name, entry in _mapping(content, "auths", path)}
    for key in _keys(registry, repository.path):
        if login := _from_entry(entries.get(key), key, path):
            return login
    if store := content.get("credsStore"):
        return _from_helper(store, registry, path)
    return None


def _mapping(content: Mapping[str, Any], name: str, path: Path) -> list[tuple[str, Any]]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise _damaged(path, f"`{name}` is no mapping")
    return list(value.items())


def _keys(registry: str, path: str) -> Iterator[str]:
    """Yield the names that a repository's entry may have, the most specific first."""
    parts = path.split("/")
    for count in range(len(parts), -1, -1):
        yield "/".join([registry, *parts[:count]])


def _key(name: str) -> str:
    """Return the name of an entry as _keys() does; for the URLs that docker writes, the host."""
    bare = re.sub(r"^https?://", "", name)
    registry, slash, path = bare.partition("/")
    return f"{_registry(registry)}/{path}" if slash and bare == name else _registry(registry)


def _registry(name: str) -> str:
    bare = re.sub(r"^https?://", "", name).partition("/")[0].lower()
    return DOCKER_HUB[0] if bare in DOCKER_HUB else bare


def _from_entry(entry: Any, key: str, path: Path) -> Login | None:
    if not isinstance(entry, dict):
        return None
    given = {name: entry.get(name) or "" for name in ("auth", "identitytoken")}
    if not all(isinstance(value, str) for value in given.values()):
        raise _damaged(path, f"the entry of {key} has no text as `auth` or `identitytoken`")
    try:
        decoded = base64.b64decode(given["auth"], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _damaged(path, f"`auth` of {key} is not base64") from None
    user, colon, password = decoded.partition(":")
    if decoded and not colon:
        raise _damaged(path, f"`auth` of {key} is not USER:PASSWORD in base64")
    if not (decoded or given["identitytoken"]):
        # The entry says that a store has the login.
        return None
    return Login(user, password.strip("\0"), given["identitytoken"], str(path))


def _from_helper(helper: Any, registry: str, path: Path) -> Login | None:
    """Ask a helper by its protocol: https://github.com/docker/docker-credential-helpers."""
    if not isinstance(helper, str) or not HELPER.fullmatch(helper):
        raise _damaged(path, "a credential helper is no name")
    name = f"docker-credential-{helper}"
    program = process.find_tool(name)
    if program is None:
        raise ConfigError(
            f"{path} names the credential helper {name}, which is not in PATH",
            f"Install it, or log in again with `skopeo login {registry}`.",
        )
    server = f"https://{DOCKER_HUB[-1]}/v1/" if registry == DOCKER_HUB[0] else registry
    try:
        said = process.run(
            [program, "get"], env=environments.helper(), given=server, seconds=PATIENCE
        ).stdout
    except process.CommandFailed as error:
        if "not found" in f"{error.stdout}{error.stderr}":
            return None
        # What it wrote to stdout may be a secret.
        raise _failed(name, path, f"it ended with status {error.status}") from None
    except CondainerError as error:
        raise _failed(name, path, error.message) from None
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        answer = json.loads(said)
        user, secret = answer["Username"], answer["Secret"]
        if isinstance(user, str) and isinstance(secret, str):
            token = user == TOKEN_USER
            return Login(user, "" if token else secret, secret if token else "", f"{path} ({name})")
    raise _failed(name, path, "what it says is no login")


def _failed(name: str, path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The credential helper {name}, which {path} names, gives no login: {reason}",
        f"Try `echo HOST | {name} get`, or log in again.",
    )


def _damaged(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"{path}, which says who logs in at registries, is damaged: {what}",
        "Correct it, or move it away and log in again: `skopeo login HOST`.",
    )
