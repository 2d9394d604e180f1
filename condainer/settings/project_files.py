"""The files of a project as one command sees them: each is read once, and kept."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.system.files import open_regular, publish_text

# What reading gives where no file stands.
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)


@dataclass(frozen=True)
class Seen:
    """What was read of a file, and its state before that; or why it could not be read."""

    content: bytes = b""
    status: os.stat_result | None = None
    error: tuple[int, str] | None = None
    is_link: bool = False


class ProjectFiles:
    """The one door to a project's own files and to the configuration.

    Even if a file changes while a command runs, all of the command goes by the same bytes.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def __eq__(self, other: object) -> bool:
        # Settings that say the same are the same, whichever bytes they were read from.
        return isinstance(other, ProjectFiles)

    def __hash__(self) -> int:
        return hash(ProjectFiles)

    def seen(self, path: Path) -> Seen | None:
        """Return what was read of a file, None if it was not asked for."""
        return self._seen.get(str(path))

    def read(self, path: Path) -> bytes:
        """Return the content of a file as files.read_bytes() does, and always the same."""
        seen = self._look(path)
        if seen.error is not None:
            raise OSError(*seen.error, str(path))
        return seen.content

    def read_text(self, path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text of a file; raises as read(), and UnicodeDecodeError."""
        return self.read(path).decode(encoding, errors)

    def is_file(self, path: Path) -> bool:
        """Tell whether a regular file is there, readable or not."""
        error = self._look(path).error
        return error is None or error[0] not in NO_FILE

    def is_there(self, path: Path) -> bool:
        """Tell whether anything is there, even a link that leads nowhere."""
        seen = self._look(path)
        absent = seen.error is not None and seen.error[0] in (errno.ENOENT, errno.ENOTDIR)
        return seen.is_link or not absent

    def has_changed(self, path: Path) -> bool:
        """Tell whether by now something else is there than what was read."""
        seen = self._look(path)
        try:
            now = os.stat(path)
        except OSError:
            return seen.error is None
        return seen.status is None or _identity(now) != _identity(seen.status)

    def publish(self, path: Path, text: str, mode: int | None = None) -> None:
        """Write a file as files.publish_text() does; from now on, this is what was read of it."""
        publish_text(path, text, mode)
        self._seen[str(path)] = Seen(text.encode("utf-8", "surrogateescape"), os.stat(path))

    def imagine(self, path: Path, text: str) -> None:
        """Let a file be read as if this stood in it; nothing is written."""
        self._seen[str(path)] = replace(self._look(path), content=text.encode())

    def remove(self, path: Path) -> None:
        """Delete a file, if it is there; from now on, it is not."""
        path.unlink(missing_ok=True)
        self._seen[str(path)] = Seen(error=(errno.ENOENT, os.strerror(errno.ENOENT)))

    def _look(self, path: Path) -> Seen:
        key = str(path)
        if key not in self._seen:
            self._seen[key] = _look(path)
        return self._seen[key]


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _look(path: Path) -> Seen:
    try:
        with open_regular(path) as stream:
            # Before it is read: who writes meanwhile gives it a later time than this.
            status = os.fstat(stream.fileno())
            return Seen(stream.read(), status)
    except OSError as error:
        why = (error.errno or errno.EIO, error.strerror or str(error))
        return Seen(error=why, is_link=os.path.islink(path))
