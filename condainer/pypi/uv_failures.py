"""Failures of uv by their kind: what is not the fault of a requirement has a remedy of its own."""

from __future__ import annotations

import errno
import os
import re

from condainer.packages import git_repositories
from condainer.system.errors import (
    BuildError,
    CondainerError,
    ConfigError,
    IntegrityError,
    NetworkError,
    StorageError,
    ToolError,
)
from condainer.system.files import storage_error
from condainer.system.process import CommandFailed
from condainer.system.urls import NETRC

GIT = "Install git (`apt install git`, or your distribution's package of that name)."
INDEXES = "Check the network and the index (`--index-url`, UV_DEFAULT_INDEX, UV_INDEX)."
PROXY = "Check HTTPS_PROXY and HTTP_PROXY: `http://NAME:WORD@proxy.example:3128`."
CERTIFICATE = (
    "Name the file of the authority that signed it by SSL_CERT_FILE, with all others that are "
    "needed; certificates are always checked."
)
CACHE = (
    "uv keeps there what it downloads. Mend that place, or name another directory by UV_CACHE_DIR."
)
UNREACHABLE = (
    "failed to fetch:",
    "dns error",
    "error sending request",
    "connection refused",
    "could not resolve host",
    "unable to connect",
    "failed to connect",
    # ssh, after ConnectTimeout or ServerAliveInterval.
    " timed out",
    "not responding",
    # git, after GIT_HTTP_LOW_SPEED_TIME.
    "operation too slow",
)
REFUSED = (
    "401 unauthorized",
    "403 forbidden",
    "authentication failed for",
    "terminal prompts disabled",
)
INTERPRETER = (
    "failed to inspect python interpreter",
    "no virtual environment or system python installation found",
    "failed to query python interpreter",
)
PATH = re.compile(r"`(/[^`]*)`")
CAUSE = re.compile(r"\b(?:error|cause): ")
ERRNO = re.compile(r"\(os error (\d+)\)")
# These are never about what a requirement names.
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
VARIABLE = re.compile(r"environment variable `(?P<name>\w+)`")
# What a variable holds is told as if it were an option.
OPTION = re.compile(r"invalid value '[^\n]*' for '--(?P<name>[a-z-]+)")


def not_of_a_requirement(error: CommandFailed) -> CondainerError | None:
    """Return the error of a failure that no requirement or package has caused, or None."""
    # uv breaks lines between any two words.
    text = " ".join(error.reason.split())
    words = text.lower()
    if "git executable not found" in words:
        return ToolError("git is not installed, and a pip requirement names a git repository", GIT)
    if "hash mismatch" in words:
        return IntegrityError(
            f"A pip package does not have the hash that was promised:\n{error.reason}",
            "Do not use it before the difference is explained; then correct the hash of the "
            "requirement, or `cnd lock --upgrade`.",
        )
    return (
        git_repositories.damaged_configuration(text)
        or _of_a_variable(text, error.reason)
        or _of_the_interpreter(text, error.reason)
        or _of_storage(text, error.reason)
        or _of_the_network(text, error.reason)
        or _of_uv_itself(error)
    )


def _of_a_variable(text: str, said: str) -> ConfigError | None:
    names = [match["name"] for match in VARIABLE.finditer(text)]
    names += [f"UV_{m['name'].replace('-', '_').upper()}" for m in OPTION.finditer(text)]
    for name in names:
        if name in os.environ:
            return ConfigError(
                f"The environment variable {name} has a value that uv does not take:\n{said}",
                f"Correct it, or `unset {name}`.",
            )
    return None


def _of_the_interpreter(text: str, said: str) -> BuildError | None:
    if not any(sign in text.lower() for sign in INTERPRETER):
        return None
    return BuildError(
        f"The Python of the environment does not start on this machine:\n{said}",
        "Its packages need what this machine lacks (a newer C library, another processor, "
        "memory), or are damaged: choose other versions, or another machine.",
    )


def _of_storage(text: str, said: str) -> CondainerError | None:
    cache = "failed to initialize cache" in text.lower()
    for part in CAUSE.split(text):
        match = ERRNO.search(part)
        number = int(match[1]) if match else 0
        if number in STORAGE or (number and cache):
            path = PATH.findall(part)
            told = OSError(number, os.strerror(number), path[-1] if path else None)
            doing = "use uv's cache" if cache else "resolve or install pip packages"
            fault = storage_error(doing, told, CACHE if cache else "")
            return StorageError(f"{fault.message}\n{said}", fault.hint)
    return None


def _of_the_network(text: str, said: str) -> NetworkError | None:
    words = text.lower()
    if any(sign in words for sign in REFUSED):
        return NetworkError(f"A server refuses to give what is needed:\n{said}", NETRC)
    if "404 not found" in words or not any(sign in words for sign in UNREACHABLE):
        return None
    remedy = INDEXES
    if "certificate" in words.partition("failed to fetch:")[2]:
        remedy = CERTIFICATE
    elif "407 proxy" in words or "tunnel error" in words:
        remedy = PROXY
    return NetworkError(f"The package index cannot be reached:\n{said}", remedy)


def _of_uv_itself(error: CommandFailed) -> BuildError | None:
    if error.status > 0 and not re.search(r"thread '[^\n]*panicked at|out of memory", error.stderr):
        return None
    return BuildError(
        f"uv failed: {error.reason}",
        "Try again, with more memory if it was ended for want of it.",
    )
