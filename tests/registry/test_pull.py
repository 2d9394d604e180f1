"""A pulled image on its way to the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent import futures
from typing import BinaryIO

import pytest

from condainer.registry import pull


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """A file that takes bytes, but cannot bring them to a disk: a pipe."""
    monkeypatch.setattr(pull, "SYNCED", 4)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as stream:
        yield stream


def test_what_the_disk_refuses_meanwhile_is_told_at_the_end(refusing: BinaryIO) -> None:
    with pull._Written(refusing) as written:
        written.write(b"123")
        written.check()
    with pull._Written(refusing) as written:
        written.write(b"1234")
        with pytest.raises(OSError, match="Invalid argument"):
            written.check()


def test_what_the_disk_refuses_meanwhile_is_told_by_a_later_write(refusing: BinaryIO) -> None:
    with pull._Written(refusing) as written:
        written.write(b"1234")
        futures.wait([written._synced])
        with pytest.raises(OSError, match="Invalid argument"):
            written.write(b"5678")


def test_what_the_disk_refuses_at_once_is_told_at_once() -> None:
    with (
        open("/dev/full", "wb", buffering=0) as stream,
        pull._Written(stream) as written,
        pytest.raises(OSError, match="No space left"),
    ):
        written.write(b"1")
