"""The failures a user can act on: each says what is wrong, and ends in the remedy."""

from __future__ import annotations

from condainer.system.urls import redacted

# Like env(1) and docker run: the tool itself failed, not the command that it was to start.
EXEC_FAILED = 125


class CondainerError(Exception):
    """An expected failure, shown as one message without a traceback.

    Parameters: `message` says what is wrong and where; `hint` what to do about it.
    `exit_code` is the status of the process; the table in README.md lists them all.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        # Whatever a message quotes: it ends up in terminals, logs and tickets.
        self.message = redacted(message)
        self.hint = redacted(hint)
        super().__init__(self.message)


class ConfigError(CondainerError):
    """condainer.yml, a user or site configuration, or an environment variable is wrong."""

    exit_code = 3


class InputError(CondainerError):
    """environment.yml or a requirements file is missing or cannot be locked."""

    exit_code = 4


class SolveError(CondainerError):
    """No set of packages satisfies the specs."""

    exit_code = 5


class NetworkError(CondainerError):
    """A channel or package index could not be reached."""

    exit_code = 6


class OfflineError(NetworkError):
    """Something is missing that would have to be downloaded, and `offline` forbids that."""


class StaleLockError(CondainerError):
    """The lock is missing or does not match the inputs, and solving was forbidden."""

    exit_code = 7


class LockfileError(CondainerError):
    """A lockfile is damaged, or was made for another platform."""

    exit_code = 8


class IntegrityError(CondainerError):
    """Bytes do not have the hash that the lock or the manifest promises."""

    exit_code = 9


class ToolError(CondainerError):
    """A system tool or device is missing or too old."""

    exit_code = 10


class BuildError(CondainerError):
    """Installing, compiling or compressing failed."""

    exit_code = 11


class StorageError(CondainerError):
    """A directory cannot be written, is full, or is not what it should be."""

    exit_code = 12


class CollisionError(CondainerError):
    """Another environment stands under this content address; it is never served."""

    exit_code = 13


class MountError(CondainerError):
    """An image could not be mounted, verified at its mount point, or unmounted."""

    exit_code = 14


class NotBuiltError(CondainerError):
    """The command needs an image that is not in any cache."""

    exit_code = 15


class TrustError(CondainerError):
    """A cache or an image is not one that the user's configuration trusts; it is never run."""

    exit_code = 16
