"""Blocks of data that another thread works on."""

from __future__ import annotations

import threading

import pytest

from condainer.network.block_thread import AHEAD, BlockThread

BLOCKS = [bytes([number]) for number in range(50)]


def test_blocks_are_taken_in_order() -> None:
    taken: list[bytes] = []
    behind = BlockThread(taken.append)
    for block in BLOCKS:
        behind.give(block)
    behind.wait()
    assert taken == BLOCKS
    behind.close()


def test_no_more_blocks_wait_than_memory_allows() -> None:
    go_on = threading.Event()
    behind = BlockThread(lambda block: go_on.wait(10))
    given: list[bytes] = []

    def give() -> None:
        for block in BLOCKS:
            behind.give(block)
            given.append(block)

    giving = threading.Thread(target=give)
    giving.start()
    giving.join(0.2)
    assert len(given) == AHEAD
    go_on.set()
    giving.join(10)
    assert given == BLOCKS
    behind.close()


def test_nothing_is_taken_after_a_failure() -> None:
    taken: list[bytes] = []
    go_on = threading.Event()

    def take(block: bytes) -> None:
        go_on.wait(10)
        taken.append(block)
        if block == b"2":
            raise OSError("full")

    behind = BlockThread(take)
    for block in (b"1", b"2", b"3"):
        behind.give(block)
    go_on.set()
    with pytest.raises(OSError, match="full"):
        behind.wait()
    with pytest.raises(OSError, match="full"):
        behind.give(b"4")
    behind.close()
    assert taken == [b"1", b"2"]
