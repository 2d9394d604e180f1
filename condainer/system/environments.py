"""The environments of programs that we start: each has only the variables listed here.

So what the caller or a module has set for other programs changes neither a lock nor the bytes of an
image, and makes no tool of the system fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from condainer.system.urls import PLACE_VARIABLES, without_index_login

# We read what programs write: in English, without colour, for no terminal.
PLAIN = {"LC_ALL": "C.UTF-8", "NO_COLOR": "1", "TERM": "dumb"}

# How to reach the network, and whom to trust there; names of proxies may have small letters.
NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "NETRC"),
    *("GIT_HTTP_LOW_SPEED_LIMIT", "GIT_HTTP_LOW_SPEED_TIME"),
)
# Where the user keeps keys and passwords, and how agents and keyrings are reached.
PERSONAL = (
    *("HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    *("SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_SK_PROVIDER", "KRB5CCNAME"),
    *("GIT_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GNUPGHOME", "PYTHON_KEYRING_BACKEND"),
    *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
)
# Indexes and logins, and what changes how uv works but not what it gives.
UV = (
    *PLACE_VARIABLES,
    *("UV_KEYRING_PROVIDER", "UV_OFFLINE", "UV_CACHE_DIR", "UV_NO_CACHE"),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_RETRIES"),
    *("UV_CONCURRENT_BUILDS", "UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_INSTALLS"),
)
# `UV_INDEX_<NAME>_USERNAME` and `UV_INDEX_<NAME>_PASSWORD`.
LOGIN = ("UV_INDEX_", ("_USERNAME", "_PASSWORD"))
# The variables that credential helpers of registries use: those of clouds, and pass.
HELPERS = ("AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "DOCKER_", "PASSWORD_STORE_")


def system() -> dict[str, str]:
    """Return the environment of a tool of the system, which needs nothing of its caller's."""
    return {"PATH": os.environ.get("PATH") or os.defpath, **PLAIN}


def network(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that say how to reach the network, and whom to trust there."""
    environ = os.environ if environ is None else environ
    variables = {name: value for name, value in environ.items() if name.upper() in NETWORK}
    netrc = os.path.expanduser("~/.netrc")
    if not variables.get("NETRC") and os.path.isabs(netrc) and os.path.isfile(netrc):
        variables["NETRC"] = netrc
    return variables


def client() -> dict[str, str]:
    """Return the environment of a program that acts for the user: git, a keyring, ssh-keygen."""
    personal = _of(PERSONAL)
    if not os.path.isabs(personal.get("HOME", "")):
        personal.pop("HOME", None)
    # Otherwise git waits for a password, and its question is not seen.
    return {**system(), **network(), **personal, "GIT_TERMINAL_PROMPT": "0"}


def helper() -> dict[str, str]:
    """Return the environment of a program that knows who logs in at registries."""
    return {**client(), **_of([name for name in os.environ if name.startswith(HELPERS)])}


def resolving(scratch: Path, named: Collection[str] = ()) -> dict[str, str]:
    """Return the environment in which uv resolves, with the credentials of the user.

    Parameters: `scratch` is a private directory, `named` are variables that requirements name.
    """
    start, ends = LOGIN
    logins = [name for name in os.environ if name.startswith(start) and name.endswith(ends)]
    return {
        **client(),
        **_of((*UV, *logins, *named)),
        # The byte code that uv's look at the interpreter leaves differs from ours.
        "PYTHONDONTWRITEBYTECODE": "1",
        # Where uv leaves its lock files.
        "TMPDIR": str(scratch),
    }


def installing(scratch: Path, named: Collection[str] = ()) -> dict[str, str]:
    """Return the environment in which uv installs and builds.

    The home directory is empty, so that no setting of the user there gets into an image; only a
    keyring needs the real one. Parameters are those of resolving().
    """
    variables = resolving(scratch, named)
    if variables.get("UV_KEYRING_PROVIDER") == "subprocess":
        return variables
    home = scratch / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    netrc = home / ".netrc"
    if "NETRC" in variables and not netrc.is_symlink():
        # git looks for it there only.
        netrc.symlink_to(os.path.abspath(variables["NETRC"]))
    kept = {name: value for name, value in variables.items() if name not in PERSONAL}
    return {**kept, "HOME": str(home)}


def package_places() -> tuple[tuple[str, str], ...]:
    """Return the variables that name places of pip packages, without who logs in there."""
    places = []
    for name, value in _of(PLACE_VARIABLES).items():
        # What follows `?` may be a password, too.
        words = [re.sub(r"[?#].*", "", word) for word in value.replace(",", " ").split()]
        places.append((name, " ".join(without_index_login(word).rstrip("/") for word in words)))
    return tuple((name, value) for name, value in places if value)


def _of(names: Collection[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
