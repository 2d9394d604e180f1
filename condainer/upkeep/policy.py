"""How much a cache may hold, and for how long: options of `cnd gc`, or the owner's policy.yml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condainer.cache.entries import is_ours
from condainer.cache.publish import POLICY
from condainer.system import yaml_file
from condainer.system.errors import ConfigError, StorageError
from condainer.system.files import publish_text, read_small, storage_errors, turn, user_name
from condainer.system.quantities import age, size
from condainer.system.text import printable

# How long what was moved to the trash stays there by default, in seconds.
GRACE = 86400.0
LIMIT = 65_536
HEAD = "# What `cnd gc` goes by in this cache where its options say nothing.\n"


@dataclass(frozen=True)
class Policy:
    """What a collection may take away.

    `older_than` and `grace` are in seconds, `max_size` in bytes; None sets no limit. `texts` are
    as they were written, `ignored` says why the file of the cache does not count.
    """

    older_than: float | None = None
    max_size: int | None = None
    grace: float = GRACE
    texts: Mapping[str, str] = field(default_factory=dict)
    ignored: str = ""

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {name: getattr(self, name) for name in ("older_than", "max_size", "grace")}


KINDS = {"older_than": age, "max_size": size, "grace": age}


def policy_of(texts: Mapping[str, str | None]) -> Policy:
    """Return the policy that options say, by the names of its limits; raises ConfigError."""
    given = {name: text for name, text in texts.items() if text is not None}
    values: dict[str, Any] = {
        name: KINDS[name](text, f"--{name.replace('_', '-')}") for name, text in given.items()
    }
    return Policy(**values, texts=given)


def read(root: Path) -> Policy:
    """Return the policy that the owner of a cache wrote, or an empty one.

    A file of another user, or what is no file, is ignored: any member can put it there. Raises
    ConfigError if the owner's file is not valid.
    """
    path = root / POLICY
    try:
        text, status = read_small(path, LIMIT)
        owners = (0, root.stat().st_uid)
    except FileNotFoundError:
        return Policy()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        return Policy(ignored=f"{path} is ignored: {reason}")
    if status.st_uid not in owners:
        return Policy(ignored=f"{path} is ignored: it does not belong to the cache's owner")
    document = yaml_file.load(path, text, ConfigError)
    if not isinstance(document.value, dict | None):
        raise ConfigError(f"{path}:1: must be a mapping of keys to values")
    texts: dict[str, str] = {}
    for name, value in (document.value or {}).items():
        where = document.where(name)
        if name not in KINDS:
            known = ", ".join(KINDS)
            raise ConfigError(
                f"{where}: unknown key `{printable(str(name))}`", f"Known keys: {known}."
            )
        if value is not None:
            texts[name] = str(document.texts.get((name,), value))
            KINDS[name](texts[name], f"{where}: {name}")
    return policy_of(texts)


def write(root: Path, wanted: Policy) -> None:
    """Write the policy of a cache; limits that are not given stay as they are.

    Raises StorageError unless we are root or own the cache: only the owner's policy counts.
    """
    path = root / POLICY
    owner = root.stat().st_uid
    if not is_ours(owner):
        raise StorageError(
            f"{path} counts only if it is written by {user_name(owner)}, who owns the cache",
            f"Ask {user_name(owner)}, or the cache's administrator.",
        )
    with storage_errors(f"write {path}"), turn(root):
        texts = {**read(root).texts, **wanted.texts}
        lines = (f"{name}: {texts[name]}\n" for name in KINDS if name in texts)
        publish_text(path, HEAD + "".join(lines), 0o644, follow=False)


def in_force(root: Path, given: Policy) -> Policy:
    """Return the policy of a cache, in which given limits replace the written ones."""
    written = read(root)
    chosen = policy_of({**written.texts, **given.texts})
    return Policy(chosen.older_than, chosen.max_size, chosen.grace, chosen.texts, written.ignored)
