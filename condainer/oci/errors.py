"""The failures of registries: each names the repository, and ends in the remedy."""

from __future__ import annotations

from condainer.system.errors import IntegrityError, NetworkError


class RegistryError(NetworkError):
    """A registry does not do what it is asked for."""


class Unreachable(RegistryError):
    """A registry does not answer, or not now."""


class NoRegistry(Unreachable):
    """What answers is something else than a registry."""


class Refused(RegistryError):
    """A registry does not take what it is sent."""


class LoginRefused(RegistryError):
    """A registry does not let this user do what it is asked for."""


class NotThere(RegistryError):
    """A registry does not have what it is asked for."""


class WrongContent(RegistryError):
    """What a registry gives is not what its digest or its kind promises; it is never used."""

    exit_code = IntegrityError.exit_code
