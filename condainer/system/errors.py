"""The failures that a user can act on: each says what is wrong, and ends with the remedy."""

from __future__ import annotations

from condainer.system.urls import redacted

# Like env(1) and docker run: the tool itself failed, not the command that it was to start.
EXEC_FAILED = 125


class CondainerError(Exception):
    """An expected failure, shown as one message without a traceback.

    Parameters: `message` says what is wrong and where; `hint` what to do about it.
    `exit_code` is the status of the process; `documented` lists them all.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        # Messages end up in terminals, logs and tickets.
        self.message = redacted(message)
        self.hint = redacted(hint)
        super().__init__(self.message)


class ConfigError(CondainerError):
    """Wrong configuration: condainer.yml, environment variable, `--set`, `-d`."""

    exit_code = 3


class InputError(CondainerError):
    """environment.yml or a requirements file is missing or wrong."""

    exit_code = 4


class SolveError(CondainerError):
    """No set of packages satisfies the specs."""

    exit_code = 5


class NetworkError(CondainerError):
    """A channel or package index cannot be reached."""

    exit_code = 6


class OfflineError(NetworkError):
    """Something is missing that would have to be downloaded, and `offline` forbids that."""


class StaleLockError(CondainerError):
    """The lock is missing or stale, and solving was forbidden."""

    exit_code = 7


class LockfileError(CondainerError):
    """A lockfile is damaged, or for another platform."""

    exit_code = 8


class IntegrityError(CondainerError):
    """A package or image does not have the promised hash."""

    exit_code = 9


class ToolError(CondainerError):
    """A system tool or /dev/fuse is missing or too old."""

    exit_code = 10


class BuildError(CondainerError):
    """Installing, compiling or compressing failed."""

    exit_code = 11


class StorageError(CondainerError):
    """A directory cannot be written, is full, or is not what it should be."""

    exit_code = 12


class CollisionError(CondainerError):
    """Another environment has this address; it is never served."""

    exit_code = 13


class MountError(CondainerError):
    """The image could not be mounted, confirmed at its mount point, or unmounted."""

    exit_code = 14


class NotBuiltError(CondainerError):
    """There is no image yet: `cnd build` first."""

    exit_code = 15


class TrustError(CondainerError):
    """A cache or an image is not one that your configuration trusts; it is never run."""

    exit_code = 16


class PolicyError(CondainerError):
    """A channel or a license is forbidden by `policy:`."""

    exit_code = 17


class VulnerableError(CondainerError):
    """`cnd audit`: packages have known vulnerabilities."""

    exit_code = 18


def documented() -> list[tuple[int, str]]:
    """Return every exit code with its meaning: those of the errors above, and the others."""
    meanings = {
        0: "Done.",
        1: "Any other expected failure.",
        2: "Wrong use of the command line.",
        70: "A bug; the message names a file with the details.",
        EXEC_FAILED: "`cnd exec`: the environment could not be made available; "
        "the command was not started.",
        126: "`cnd exec`: the command cannot be executed.",
        127: "`cnd exec`: the command was not found.",
        129: "The terminal was closed (SIGHUP).",
        130: "Interrupted (^C).",
        141: "What reads the output has ended, as `head` does (SIGPIPE).",
        143: "Terminated (SIGTERM).",
    }
    for error in CondainerError.__subclasses__():
        if "exit_code" in vars(error) and error.__module__ == __name__:
            meanings[error.exit_code] = (error.__doc__ or "").partition("\n")[0]
    return sorted(meanings.items())
