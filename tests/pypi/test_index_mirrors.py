"""Mirrors of package indexes: which are asked, and what locks show of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from condainer.lock.locks import PipPackage
from condainer.pypi import index_mirrors
from condainer.settings.config import Settings
from condainer.system.errors import InputError, NetworkError
from condainer.system.reporter import Silent
from condainer.system.urls import INDEX_VARIABLES

Load = Callable[..., Settings]
INDEX = "https://index.example/simple"
FIRST, SECOND = "https://first.example/pypi/simple", "https://second.example/simple"
OWN = PipPackage("My_Thing", "https://index.example/files/my_thing-1.0.tar.gz", "0" * 64)
OTHERS = PipPackage("other", "https://other.example/other-1.0.tar.gz", "0" * 64)


@pytest.fixture
def settings(load: Load) -> Settings:
    return replace(load(), mirrors=((INDEX, (FIRST, SECOND)),))


def test_files_are_asked_of_mirrors_only(settings: Settings) -> None:
    assert index_mirrors.places(OWN, settings) == (
        f"page+{FIRST}/my-thing/",
        f"page+{SECOND}/my-thing/",
    )
    assert index_mirrors.places(OTHERS, settings) == (OTHERS.url,)


def test_locks_show_no_mirror(settings: Settings) -> None:
    there = PipPackage(OWN.name, "https://first.example/pypi/files/my_thing-1.0.tar.gz", OWN.sha256)
    assert index_mirrors.canonical([there, OTHERS], settings, Silent()) == (OWN, OTHERS)


def test_the_next_mirror_is_asked_where_one_is_silent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX", f"{INDEX}/ https://other.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:secret@index.example/simple")
    asked: list[tuple[str, str]] = []

    def ask() -> str:
        asked.append((os.environ["UV_INDEX"], os.environ["UV_DEFAULT_INDEX"]))
        if len(asked) == 1:
            raise NetworkError("silent", "")
        return "answer"

    assert index_mirrors.asking_mirrors(settings, ask) == "answer"
    assert asked == [(f"{url} https://other.example/simple", url) for url in (FIRST, SECOND)]
    assert os.environ["UV_INDEX"] == f"{INDEX}/ https://other.example/simple"
    assert os.environ["UV_DEFAULT_INDEX"] == "https://me:secret@index.example/simple"


def test_uv_asks_the_mirror_of_the_default_index(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    settings = replace(load(), mirrors=((index_mirrors.DEFAULT, (FIRST,)),))
    asked = index_mirrors.asking_mirrors(settings, lambda: os.environ["UV_DEFAULT_INDEX"])
    assert asked == FIRST
    assert "UV_DEFAULT_INDEX" not in os.environ


@pytest.mark.parametrize(("error", "times"), [(NetworkError, 2), (InputError, 1)])
def test_the_last_error_is_raised(
    settings: Settings, error: type[NetworkError | InputError], times: int
) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise error("wrong", "")

    with pytest.raises(error, match="wrong"):
        index_mirrors.asking_mirrors(settings, ask)
    assert len(asked) == times
