"""The made-up index: the same bytes from the same seed, all that is needed, both forms alike."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from tests.channel.forge import FULL, Size, ensure_forge, roots
from tests.channel.server import ChannelServer, serve

SMALL = Size(9_000, 3_000)
# Of both indices as text. Other bytes make forge.RULES go up.
GOLDEN = "88397f75a181b0fdf839a30863ed8b17df7ed6356a1f7a29a4484b2bd717c1b1"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forge") / "channel"
    return ensure_forge(place, "linux-64", size=SMALL)


def unpacked(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()


def records(channel: Path, subdir: str) -> dict[str, dict[str, Any]]:
    content = json.loads(unpacked(channel / subdir / "repodata.json.zst"))
    return dict(content["packages.conda"])


def test_the_bytes_never_change(channel: Path) -> None:
    texts = [unpacked(channel / s / "repodata.json.zst") for s in ("linux-64", "noarch")]
    assert hashlib.sha256(b"".join(texts)).hexdigest() == GOLDEN


def test_what_is_needed_is_there(channel: Path) -> None:
    everything = [*records(channel, "linux-64").values(), *records(channel, "noarch").values()]
    names = {record["name"] for record in everything}
    needed = {text.split()[0] for record in everything for text in record["depends"]}
    assert {name for name in needed if not name.startswith("__")} <= names
    assert set(roots(channel, 1000)) <= names
    assert SMALL.platform <= len(records(channel, "linux-64")) <= SMALL.platform + 500
    assert SMALL.noarch <= len(records(channel, "noarch")) <= SMALL.noarch + 500
    assert (FULL.platform, FULL.noarch) == (450_000, 150_000)


def test_the_shards_have_the_same_records(channel: Path) -> None:
    for subdir in ("linux-64", "noarch"):
        place = channel / subdir
        index = msgpack.unpackb(unpacked(place / "repodata_shards.msgpack.zst"))
        found: dict[str, dict[str, Any]] = {}
        for name, digest in index["shards"].items():
            data = (place / "shards" / f"{digest.hex()}.msgpack.zst").read_bytes()
            assert hashlib.sha256(data).digest() == digest
            shard = msgpack.unpackb(zstandard.ZstdDecompressor().stream_reader(data).read())
            assert {record["name"] for record in shard["packages.conda"].values()} == {name}
            for file, record in shard["packages.conda"].items():
                hashes = {key: record[key].hex() for key in ("md5", "sha256")}
                found[file] = {**record, **hashes}
        assert found == records(channel, subdir)


def _get(server: ChannelServer, path: str, **headers: str) -> tuple[int, bytes, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{server.url}/{path}", headers=named)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        return error.code, b"", error.headers.get("ETag", "")


def test_a_file_that_is_known_is_not_sent_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with serve(tmp_path) as server:
        status, data, tag = _get(server, "file")
        assert (status, data) == (200, b"0123456789")
        assert _get(server, "file", If_None_Match=tag) == (304, b"", tag)
        assert _get(server, "file", Range="bytes=4-", If_Range=tag)[:2] == (206, b"456789")
        file.write_bytes(b"abcdefghijk")
        assert _get(server, "file", If_None_Match=tag)[:2] == (200, b"abcdefghijk")
        # The rest of a file that has changed since would be of no use.
        assert _get(server, "file", Range="bytes=4-", If_Range=tag)[:2] == (200, b"abcdefghijk")
        server.ranges = False
        assert _get(server, "file", Range="bytes=4-")[:2] == (200, b"abcdefghijk")


def test_a_server_can_be_slow_break_off_and_have_no_shards(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "shards").touch()
    with serve(tmp_path, rate=100_000) as server:
        begun = time.monotonic()
        assert _get(server, "file")[0] == 200
        assert time.monotonic() - begun > 0.09
        server.rate, server.sent, server.cut = None, 0, [4_000]
        with pytest.raises(http.client.IncompleteRead):
            _get(server, "file")
        assert server.sent == 4_000
        assert len(_get(server, "file")[1]) == 10_000
        server.absent = "shards"
        assert _get(server, "shards")[0] == 404
