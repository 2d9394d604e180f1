"""The failures of registries: each names the repository, and ends with the remedy."""

from __future__ import annotations

from condainer.system.errors import IntegrityError, NetworkError


class RegistryError(NetworkError):
    """A registry does not do what it is asked for."""


class Unreachable(RegistryError):
    """A registry does not answer, or not now."""


class NoRegistry(Unreachable):
    """The server that answers is no registry."""


class Refused(RegistryError):
    """A registry does not accept what it is sent."""


class LoginRefused(RegistryError):
    """A registry does not let this user do what it is asked for."""


class NotThere(RegistryError):
    """A registry does not have what it is asked for."""


class WrongContent(RegistryError):
    """Content of a registry does not have its digest or kind; it is never used."""

    exit_code = IntegrityError.exit_code
