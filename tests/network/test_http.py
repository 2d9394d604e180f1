"""Sessions of HTTP, and servers whose answers say odd things."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from condainer.network import http
from tests.helpers import flaky
from tests.helpers.flaky import Answer, Flaky
from tests.helpers.waiting import PATIENCE, until

CONTENT = os.urandom(3000)


def test_sessions_of_registries_leave_netrc_alone() -> None:
    assert http.session(netrc=False) is not http.session()
    assert http.session(netrc=False) is http.session(netrc=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A server that holds one file."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    with flaky.serve() as running:
        running.files["/file"] = CONTENT
        yield running


def got(server: Flaky, path: Path) -> bytes:
    """Get the file, and return what has come."""
    with path.open("w+b") as stream:
        http.fetch(f"{server.url}/file", http.Received(stream))
    return path.read_bytes()


def test_what_came_in_pieces_that_do_not_fit_comes_again(server: Flaky, tmp_path: Path) -> None:
    server.plan[:] = [flaky.drop(1000), flaky.wrong_rest]
    with (tmp_path / "file").open("w+b") as stream:
        received = http.Received(stream, wanted=hashlib.sha256(CONTENT).hexdigest())
        http.fetch(f"{server.url}/file", received)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert not received.is_wrong
    assert len(server.asked) == 3


BLOCKS = [bytes([number]) * 5000 for number in range(50)]


def test_a_sum_beside_is_that_of_all_blocks_in_order() -> None:
    beside = http.Sha256Beside()
    for block in BLOCKS:
        beside.update(block)
    assert beside.hexdigest() == hashlib.sha256(b"".join(BLOCKS)).hexdigest()
    beside.update(b"more")
    assert beside.hexdigest() == hashlib.sha256(b"".join([*BLOCKS, b"more"])).hexdigest()


def test_no_more_blocks_wait_for_their_sum_than_memory_allows() -> None:
    go_on = threading.Event()

    class Slow:
        def update(self, data: bytes) -> None:
            go_on.wait(PATIENCE)

    beside = http.Sha256Beside()
    beside._digest = Slow()  # type: ignore[assignment]
    given: list[bytes] = []

    def give() -> None:
        for block in BLOCKS:
            beside.update(block)
            given.append(block)

    giving = threading.Thread(target=give)
    giving.start()
    until(lambda: len(given) == http.AHEAD)
    giving.join(0.2)
    assert len(given) == http.AHEAD
    go_on.set()
    giving.join()
    assert given == BLOCKS


def with_lengths(*lengths: str) -> Answer:
    """Tell a length several times, or something else in its place."""

    def answer(handler: flaky.Handler, content: bytes) -> None:
        handler.send_response(200)
        for length in lengths:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize("lengths", [("3000", "3000"), ("3000, 3000",), ("many",), ("-1",)])
def test_a_length_that_is_told_oddly(
    server: Flaky, tmp_path: Path, lengths: tuple[str, ...]
) -> None:
    server.plan[:] = [with_lengths(*lengths)]
    assert got(server, tmp_path / "file") == CONTENT
    assert len(server.asked) == 1


def test_a_time_to_wait_that_is_no_number(server: Flaky, tmp_path: Path) -> None:
    server.plan[:] = [flaky.status(503, "²")]
    assert got(server, tmp_path / "file") == CONTENT


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("http://[", "what is no URL"),
        ("//[", "what is no URL"),
        ("http://127.0.0.1:99999/", "what is no URL"),
        ("http://127.0.0.1:port/", "what is no URL"),
        # Latin-1, which is no UTF-8.
        ("/größe", "404"),
    ],
)
def test_a_redirection_to_what_is_no_url(
    server: Flaky, tmp_path: Path, target: str, told: str
) -> None:
    server.plan[:] = [flaky.redirect(target)]
    with pytest.raises(http.Unavailable, match=told):
        got(server, tmp_path / "file")
