"""Under `trust: signed`, the bytes that are mounted are those that were signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Project
from tests.integration.test_trust import demand_signatures
from tests.keys import make_key


@pytest.fixture
def image(project: Project, tmp_path: Path) -> Path:
    """The image of the project, signed, in a project that demands that."""
    key = make_key(tmp_path / "key")
    built = project.json("build")
    demand_signatures(project, key)
    project.cnd("sign", "--key", str(key.path))
    return Path(built["image"])


def test_an_image_that_was_changed_after_it_was_signed(project: Project, image: Path) -> None:
    assert project.cnd("exec", "probe-prefix").stdout.strip()
    content = bytearray(image.read_bytes())
    # Behind the superblock, where the files are.
    content[200] ^= 1
    image.unlink()
    image.write_bytes(content)
    image.chmod(0o444)
    done = project.cnd("exec", "probe-prefix", status=125)
    assert done.stdout == ""
    assert "sha256" in done.stderr
    assert project.cnd("mount", status=None).returncode != 0


def test_a_writable_descriptor_that_was_kept(project: Project, image: Path) -> None:
    image.chmod(0o644)
    with image.open("r+b") as kept:
        image.chmod(0o444)
        project.cnd("mount")
        before = project.cnd("exec", "probe-prefix").stdout
        kept.write(b"\0" * image.stat().st_size)
        kept.flush()
        assert project.cnd("exec", "probe-prefix").stdout == before
        project.cnd("umount")
        assert project.cnd("exec", "probe-prefix", status=125).stdout == ""
