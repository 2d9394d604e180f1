"""Under `trust: signed`, the bytes that are mounted are those that were signed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.helpers.keys import make_key
from tests.helpers.projects import Project
from tests.helpers.signed import demand_signatures, repack

# So random that an image holds it as it is, and longer than what one read brings along.
CONTENT = os.urandom(4 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def add_large_file(tree: Path) -> None:
    (tree / "large").write_bytes(CONTENT)


@pytest.fixture
def image(project: Project, tmp_path: Path) -> Path:
    """The image of the project with a large file, signed, in a project that demands that."""
    key = make_key(tmp_path / "key")
    built = project.json("build")
    image = Path(built["image"])
    repack(image, tmp_path, add_large_file)
    demand_signatures(project, key)
    project.cnd("sign", "--key", str(key.path))
    return image


def copied_out(project: Project, target: Path) -> str:
    """Return the digest of the large file as a command in the environment reads it."""
    project.cnd("exec", "--", "sh", "-c", f'cat "$CONDA_PREFIX/large" > "{target}"')
    return hashlib.sha256(target.read_bytes()).hexdigest()


def test_an_image_that_was_changed_after_it_was_signed(
    project: Project, image: Path, tmp_path: Path
) -> None:
    assert copied_out(project, tmp_path / "before") == DIGEST
    project.cnd("umount", "--force")
    content = bytearray(image.read_bytes())
    # Where no mount and no look-up reads, so that only the sha256 can tell.
    content[content.index(CONTENT[:64])] ^= 1
    image.unlink()
    image.write_bytes(content)
    image.chmod(0o444)
    done = project.cnd("exec", "probe-prefix", status=125)
    assert done.stdout == ""
    assert "sha256" in done.stderr
    refused = project.cnd("mount", status=None)
    assert refused.returncode not in (0, 70)


def test_a_writable_descriptor_that_was_kept(project: Project, image: Path, tmp_path: Path) -> None:
    image.chmod(0o644)
    with image.open("r+b") as kept:
        image.chmod(0o444)
        project.cnd("mount")
        kept.seek(image.read_bytes().index(CONTENT[:64]))
        kept.write(b"\0" * len(CONTENT))
        kept.flush()
        assert copied_out(project, tmp_path / "after") == DIGEST
        project.cnd("umount")
        assert project.cnd("exec", "probe-prefix", status=125).stdout == ""
