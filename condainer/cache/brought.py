"""Caches that come with a project: their images are checked before they are first used.

The author of the project put them there, and the user may not know that they are in use.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from condainer.cache import entries
from condainer.cache.entries import Entry
from condainer.settings import config
from condainer.settings.config import Settings
from condainer.system.files import is_private_directory, make_directory, put
from condainer.system.reporter import Reporter

# The directory of these notes, beside the user's own cache.
CHECKED = "condainer-checked"


def demand(entry: Entry, settings: Settings, reporter: Reporter) -> None:
    """Name a cache that came with the project, and check an image of it once, as `cnd verify` does.

    Raises IntegrityError for a damaged one.
    """
    if entry.root not in settings.brought_caches or os.path.lexists(_note(entry)):
        return
    reporter.warn(f"{entry.root} came with this project, and so did its images: they are run now")
    # Nobody else needs it.
    from condainer.cache import verify

    verify.demand([verify.verify_entry(entry.directory, settings.of_user(), reporter)])
    remember(entry, settings)


def remember(entry: Entry, settings: Settings) -> None:
    """Note that an entry was checked, or built here; if that fails, it is checked again."""
    if entry.root in settings.brought_caches:
        note = _note(entry)
        with suppress(OSError):
            # Do not make a home directory for a user who has none.
            if note.parent.parent.parent.is_dir():
                make_directory(note.parent, 0o700)
            if is_private_directory(note.parent):
                put(note, b"")


def _note(entry: Entry) -> Path:
    """Return the file that says that exactly these files were checked."""
    told = [os.path.realpath(entry.directory)]
    for name in (entries.IMAGE, entries.MANIFEST, entries.LOCK):
        state = os.lstat(entry.directory / name)
        told.append(f"{state.st_dev} {state.st_ino} {state.st_size} {state.st_ctime_ns}")
    digest = sha256(os.fsencode("\n".join(told))).hexdigest()
    return config.user_cache().with_name(CHECKED) / digest
