"""What is said of a lock that is not current, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.settings.config import Settings
from condainer.solve import relock
from condainer.solve.ensure import ensure_lock
from condainer.system.errors import StaleLockError
from condainer.system.reporter import Silent

Load = Callable[..., Settings]
Write = Callable[[str, str | bytes], Path]


def checked(settings: Settings, platforms: tuple[str, ...] = ("linux-64", "osx-arm64")) -> None:
    relock.demand(relock.check(settings, platforms), settings)


def ensured(settings: Settings) -> None:
    ensure_lock(settings, Silent())


@pytest.mark.parametrize("refused", [checked, ensured])
@pytest.mark.parametrize(
    ("name", "remedy"), [("README.md", "`cnd init` writes"), ("poetry.lock", "`poetry export")]
)
def test_where_nothing_can_be_locked_the_remedy_is_another(
    load: Load, project: Path, refused: Callable[[Settings], None], name: str, remedy: str
) -> None:
    (project / name).touch()
    with pytest.raises(StaleLockError, match="there is no environment file") as caught:
        refused(load("locked=true"))
    assert caught.value.message.endswith(", and no lock")
    assert remedy in caught.value.hint


def test_each_platform_has_its_reason(load: Load, write: Write) -> None:
    write("environment.yml", "dependencies: [zlib]\n")
    with pytest.raises(StaleLockError) as caught:
        checked(load())
    assert caught.value.message.endswith(
        " for linux-64 is missing: there is no conda-linux-64.lock; "
        "for osx-arm64 is missing: there is no conda-osx-arm64.lock"
    )
    assert caught.value.hint == "Run `cnd lock`."


def test_a_lock_that_a_build_completes_is_not_solved_again(load: Load, write: Write) -> None:
    url = "https://a.example/linux-64/a-1-0.conda"
    write("conda-linux-64.lock", f"@EXPLICIT\n{url}#{'0' * 32}\n")
    with pytest.raises(StaleLockError, match=r"conda-linux-64\.lock has md5 sums only") as caught:
        checked(load(), ("linux-64",))
    assert caught.value.hint == "Run `cnd build`."
