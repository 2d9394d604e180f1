"""Archives that are known by their URL alone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from condainer.network import silence
from condainer.packages import by_url
from condainer.packages.by_url import Wanted
from condainer.settings.config import Settings
from condainer.system.errors import NetworkError
from condainer.system.reporter import Silent
from tests.helpers import flaky

NAME = "/noarch/probe-1.0-0.conda"
CONTENT = b"of an archive, nothing looks into it" * 100


def test_one_that_is_named_twice_is_asked_for_once(load: Callable[..., Settings]) -> None:
    with flaky.serve() as server:
        server.files[NAME] = CONTENT
        wanted = Wanted(server.url + NAME, "environment.yml:1")
        packages = by_url.fetch([wanted, wanted], load(), Silent())
        assert len(server.asked) == 1
    assert {package.sha256 for package in packages} == {hashlib.sha256(CONTENT).hexdigest()}
    assert len(packages) == 2


def test_a_failure_does_not_wait_for_a_silent_server(
    load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_limit", 8.0)
    with flaky.serve() as server:
        server.files[NAME] = CONTENT
        server.plan[:] = [flaky.silent]
        names = ("/noarch/absent-1.0-0.conda", NAME)
        wanted = [Wanted(server.url + name, "environment.yml:1") for name in names]
        start = time.monotonic()
        with pytest.raises(NetworkError, match="absent") as caught:
            by_url.fetch(wanted, load(), Silent())
        assert time.monotonic() - start < 6
        assert caught.value.message.startswith("environment.yml:1: ")


def test_a_page_is_no_package(load: Callable[..., Settings]) -> None:
    with flaky.serve() as server:
        server.files[NAME] = CONTENT
        for wanted in (
            Wanted(server.url + NAME, "environment.yml:1"),
            Wanted(server.url + NAME, "environment.yml:1", md5="0" * 32),
        ):
            server.plan[:] = [flaky.page]
            with pytest.raises(NetworkError, match="web page, not the file") as caught:
                by_url.fetch([wanted], load(), Silent())
            assert caught.value.message.startswith(f"environment.yml:1: {server.url}{NAME}")
            assert "browser" in caught.value.hint


def test_no_mirror_is_asked_after_a_stop(load: Callable[..., Settings], tmp_path: Path) -> None:
    stop = threading.Event()

    def stopping(handler: flaky.Handler, content: bytes) -> None:
        stop.set()
        flaky.page(handler, content)

    with flaky.serve() as server:
        for number in range(2):
            server.files[f"/{number}{NAME}"] = CONTENT
        server.plan[:] = [stopping]
        mirrors = tuple(f"{server.url}/{number}" for number in range(2))
        settings = replace(load(), mirrors=((server.url, mirrors),))
        wanted = Wanted(server.url + NAME, "environment.yml:1")
        with pytest.raises(NetworkError):
            by_url._fetch(wanted, tmp_path / "partial", settings, stop)
        assert len(server.asked) == 1
