"""The right to use a repository: the Authorization that a registry asks for.

https://distribution.github.io/distribution/spec/auth/ describes tokens. The login is always that of
the repository itself, wherever a registry has its tokens, so that no registry gets the login of
another.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from condainer.network import deadlines, http
from condainer.network.hosts import near
from condainer.oci import logins
from condainer.oci.errors import LoginRefused, RegistryError
from condainer.oci.logins import Login
from condainer.oci.repository import Repository

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

BEARER = re.compile(r"(?:^|,)\s*bearer\s+(?P<parameters>.*)", re.IGNORECASE | re.DOTALL)
BASIC = re.compile(r"(?:^|,)\s*basic(\s|$)", re.IGNORECASE)
# What a header can hold.
TOKEN = re.compile(r"[!-~]+")
PARAMETER = re.compile(r"([a-z_]+)\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]+))", re.IGNORECASE)
# Seconds to connect: a build asks a registry first, and must not wait long if that is away.
CONNECT = 5.0
# In bytes; some list all groups of a user.
LARGEST_TOKEN = 1 << 20


class Access:
    """The Authorizations for one repository, shared by threads.

    Parameters: `root` is the URL of the registry.
    """

    def __init__(self, repository: Repository, root: str) -> None:
        self.repository = repository
        self.root = root
        # Looked up once, and only if a registry asks: a helper may ask the user.
        self._logins: list[Login | None] = []
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def header(self, actions: str) -> str:
        """Return the known Authorization for actions, such as `pull`; empty without one."""
        return self._known.get(actions, "")

    def renewed(self, challenge: str, actions: str, used: str) -> str:
        """Return another Authorization after a refusal; empty if there is none.

        Parameters: `challenge` is the WWW-Authenticate of the refusal, `used` the Authorization
        that was refused. Raises LoginRefused, RegistryError, ConfigError, http.Unavailable.
        """
        with self._lock:
            known = self._known.get(actions, "")
            if known != used:
                # Another thread was faster.
                return known
            fresh = self._answer(challenge, actions)
            if fresh == used:
                return ""
            self._known[actions] = fresh
            return fresh

    def _answer(self, challenge: str, actions: str) -> str:
        if match := BEARER.search(challenge):
            parameters: dict[str, str] = {}
            for name, quoted, bare in PARAMETER.findall(match["parameters"]):
                parameters.setdefault(name.lower(), quoted or bare)
            return f"Bearer {self._token(parameters, actions)}"
        login = self._login() if BASIC.search(challenge) else None
        return _basic(login) if login else ""

    def _token(self, parameters: Mapping[str, str], actions: str) -> str:
        realm = self._realm(parameters.get("realm", ""))
        login = self._login()
        scope = parameters.get("scope", "")
        if not scope.startswith("repository:"):
            # Some registries have other words there, and yet expect the words of docker.
            scope = f"repository:{self.repository.path}:{actions}"
        asked = {"service": parameters.get("service", ""), "scope": scope}

        # https://distribution.github.io/distribution/spec/auth/oauth/
        refresh = login.identity_token if login else ""
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "condainer"}

        def get(headers: Mapping[str, str]) -> Response:
            return http.ask(
                "POST" if refresh else "GET",
                realm,
                http.look_up(),
                netrc=False,
                params=None if refresh else asked,
                data={**asked, **form} if refresh else None,
                headers=headers,
                auth=Authorization(_basic(login) if login and not refresh else ""),
                # Only the registry may name the server of its tokens.
                allow_redirects=False,
            )

        content = io.BytesIO()
        received = http.Received(content, most=LARGEST_TOKEN, within=deadlines.SMALL)
        try:
            http.receive(get, received)
        except http.Unavailable as error:
            if error.status in (400, *http.DENIED):
                raise self.refused(f"{realm} answers {error.status}") from None
            raise
        try:
            answer = json.loads(content.getvalue())
            token = answer.get("token") or answer["access_token"]
            if TOKEN.fullmatch(token):
                return str(token)
        except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
            pass
        raise RegistryError(
            f"{self.repository}: {realm}, where it has tokens, gives "
            + ("an HTML page instead" if received.is_page else "none"),
            "Ask the registry's administrator.",
        )

    def _login(self) -> Login | None:
        if not self._logins:
            self._logins.append(logins.find(self.repository))
        return self._logins[0]

    def refused(self, reason: str) -> LoginRefused:
        """Return the error for a user without the right to an action."""
        login = self._login()
        who = f"with the login of {login.where}" if login else "without a login; there is none in "
        places = "" if login else ", ".join(map(str, logins.files()))
        return LoginRefused(
            f"{self.repository} refuses access {who}{places}: {reason}",
            f"Log in with `skopeo login {self.repository.authority}` (or podman, docker), as "
            "a user who may use this repository.",
        )

    def _realm(self, realm: str) -> str:
        """Return the URL of a registry's tokens; raises RegistryError if it must get no login."""
        with suppress(ValueError):
            parts = urlsplit(realm)
            # A registry without TLS can have its tokens itself.
            same = urlsplit(self.root).hostname == parts.hostname and self.root.startswith("http:")
            both = near(realm) == near(self.root) == "this machine"
            safe = parts.scheme == "https" or (parts.scheme == "http" and (same or both))
            plain = realm.isprintable() and "@" not in parts.netloc
            if safe and plain and near(realm) in ("", near(self.root)):
                return realm
        raise RegistryError(
            f"{self.repository} wants a login to be sent to {realm[:200]!r}, which is refused: "
            f"{near(realm) or 'it is no plain https URL'}",
            "Ask the registry's administrator; tokens must come from an https server.",
        )


class Authorization:
    """Sets the header of a request, and keeps netrc from doing so."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if self._value:
            request.headers["Authorization"] = self._value
        return request


def _basic(login: Login) -> str:
    pair = f"{login.user}:{login.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
