"""Files that other people wrote: read through one door, and never without a limit."""

from __future__ import annotations

import ast
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from condainer.cache import entries, one_file, signing, verify
from condainer.lock import explicit
from condainer.settings.config import Settings
from condainer.system import files
from condainer.system.errors import IntegrityError, StorageError
from condainer.system.reporter import Silent
from condainer.upkeep import policy, share
from tests.helpers.entries import digest, make_entry

PACKAGE = Path(__file__).resolve().parents[2] / "condainer"
# What reads in a cache, which others may have filled.
READERS = (
    "cache/entries",
    "cache/leases",
    "cache/one_file",
    "cache/papers",
    "cache/project_note",
    "cache/project_register",
    "cache/publish",
    "cache/signing",
    "cache/squashfs",
    "cache/trash",
    "cache/trust",
    "cache/verify",
    "cli/tables",
    "commands/images/cache",
    "commands/images/list",
    "commands/images/rm",
    "commands/images/show",
    "commands/images/tag",
    "commands/images/verify",
    "commands/sharing/exchange",
    "commands/sharing/share",
    "upkeep/collection",
    "upkeep/choice",
    "images/inventory",
    "upkeep/leftovers",
    "images/notes",
    "upkeep/policy",
    "images/profile",
    "images/rebuild",
    "upkeep/removal",
    "upkeep/share",
    "images/show",
    "images/signatures",
    "images/verification",
    "lock/contents",
    "lock/explicit",
    "mount/backends",
    "transfer/exchange",
)
# These open without reading: directories and what has no name, to hold, to lock, or to write; and
# a child that can be killed.
HARMLESS = ("O_DIRECTORY", "O_PATH", "O_TMPFILE", "O_CREAT", "flock", "os._exit")
# Larger than all that is there, and no space is needed for it.
HUGE = 1 << 30


def sparse(path: Path, size: int = HUGE) -> Path:
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, size)
    return path


@pytest.mark.parametrize("read", [files.read_bytes, files.read_text])
def test_what_is_too_large_is_not_read(tmp_path: Path, read: Callable[..., object]) -> None:
    path = sparse(tmp_path / "file")
    with pytest.raises(OSError, match="larger than 67108864 bytes"):
        read(path)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read(sparse(path, 11), limit=10)
    assert len(read(sparse(path, 10), limit=10)) == 10  # type: ignore[arg-type]


def test_what_does_not_tell_its_size_is_read_up_to_the_limit() -> None:
    own = Path("/proc/self/limits")
    assert own.stat().st_size == 0
    assert files.read_bytes(own) == own.read_bytes()
    with pytest.raises(OSError, match="larger than 10 bytes"):
        files.read_bytes(own, limit=10)


def test_an_error_says_what_was_found() -> None:
    told = files.storage_error("read it", OSError(errno.EFBIG, "larger than 10 bytes", "/there"))
    assert told.message == "Cannot read it: File too large (/there)"
    assert told.hint


def test_every_kind_has_a_limit(tmp_path: Path, load: Callable[..., Settings]) -> None:
    root = tmp_path / "cache"
    settings = load(f"cache_directory={root}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entry = make_entry(root, digest(1))
    for name in (entries.MANIFEST, entries.LOCK):
        kept = (entry / name).read_bytes()
        sparse(entry / name)
        assert entries.read_entry(entry) is None
        verdict = verify.verify_entry(entry, settings, Silent())
        assert "larger than" in verdict.problems[0]
        assert verdict.certain
        with pytest.raises(OSError, match="larger than"):
            entries.read_papers(entry)
        (entry / name).unlink()
        (entry / name).write_bytes(kept)
    assert entries.read_entry(entry) is not None
    sparse(root / "policy.yml")
    assert "larger than" in policy.read(root).ignored
    sparse(root / "format")
    with pytest.raises(StorageError, match="too large"), files.storage_errors("share"):
        share.check_content(root)
    with pytest.raises(OSError, match="larger than"):
        explicit.read_explicit(sparse(tmp_path / "conda-linux-64.lock"), "linux-64")
    # In kB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_an_exported_file_whose_papers_are_too_large(tmp_path: Path) -> None:
    size = 40 << 20
    line = f"condainer-bundle 1 {4:020} {4:010} {size:010} {'0' * 64}\n".encode()
    path = sparse(tmp_path / "exported", 8 + size)
    with path.open("ab") as stream:
        stream.write(line)
    with path.open("rb") as stream, pytest.raises(IntegrityError, match="too large"):
        one_file.read(stream, "exported")


def test_a_pipe_or_a_link_keeps_nobody_waiting(tmp_path: Path) -> None:
    entry = make_entry(tmp_path / "cache", digest(1))
    for name in (entries.MANIFEST, entries.LOCK):
        kept = (entry / name).read_bytes()
        (entry / name).unlink()
        os.mkfifo(entry / name)
        with pytest.raises(OSError, match="not a regular file"):
            entries.read_papers(entry)
        (entry / name).unlink()
        (entry / name).symlink_to("/dev/zero")
        with pytest.raises(OSError, match="symbolic links"):
            entries.read_papers(entry)
        (entry / name).unlink()
        (entry / name).write_bytes(kept)


def _openings(name: str) -> Iterator[str]:
    """Yield where a module opens a file by itself, to read it."""
    source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            last = called.rpartition(".")[2]
            if last not in ("open", "read_text", "read_bytes", "fdopen", "loadtxt"):
                continue
            # Each segment costs a walk through the lines of the whole module.
            body = ast.get_source_segment(source, function) or ""
            call = ast.get_source_segment(source, node) or ""
            writes = any(f'"{mode}b"' in call for mode in "wxa") or "closefd=False" in call
            held = called == "os.open" and any(flag in body for flag in HARMLESS)
            device = '"/dev/' in call
            ours = called in ("read_text", "read_bytes")
            if not (ours or called.startswith("files.") or writes or held or device):
                yield f"{name}.py:{node.lineno}: {call}"


def test_nothing_in_a_cache_is_read_by_another_door() -> None:
    known = {str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py")}
    assert set(READERS) <= known
    assert [line for name in READERS for line in _openings(name)] == []


def test_the_search_for_other_doors_finds_one() -> None:
    # The one door itself.
    assert any("os.open(path, flags)" in line for line in _openings("system/files"))


def test_a_signature_that_is_too_large(tmp_path: Path) -> None:
    path = sparse(tmp_path / "one.sig")
    found = signing.check_file(path, b"", None)
    assert found.problem == f"it cannot be read: larger than {signing.LIMIT} bytes"


def test_a_command_that_writes_without_end_is_ended() -> None:
    from condainer.system import process

    with pytest.raises(process.TooMuch):
        process.run([sys.executable, "-c", "while True: print('x' * 1000)"], limit=10_000)
    assert process.run(["printf", "abc"], limit=3).stdout == "abc"
    with pytest.raises(process.CommandFailed):
        process.run(["false"], limit=3)


def test_the_recipe_in_an_image_that_is_too_large(
    tmp_path: Path, load: Callable[..., Settings]
) -> None:
    from condainer.cache import squashfs

    (tmp_path / "tree" / ".condainer").mkdir(parents=True)
    sparse(tmp_path / "tree" / ".condainer" / "recipe")
    packed = tmp_path / "image.squashfs"
    subprocess.run(
        ["mksquashfs", tmp_path / "tree", packed, "-quiet", "-no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with pytest.raises(IntegrityError, match="recipe inside is larger"):
        squashfs.read_recipe(packed, load())
