"""The edits of `cnd add` and `cnd remove`, before anything is solved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.settings.config import Settings
from condainer.solve import package_edit
from condainer.system.errors import InputError

Load = Callable[..., Settings]
Write = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_stays(load: Load, write: Write, mark: str) -> None:
    text = f"{mark}dependencies:\n  - python\n  - zlib=1\n"
    write("environment.yml", text)
    (change,) = package_edit.added(["zlib=2", "six"], False, load())
    assert (change.old, change.new) == (text, text.replace("=1", "=2") + "  - six\n")
    (change,) = package_edit.removed(["zlib"], False, load())
    assert change.new == text.replace("  - zlib=1\n", "")


def test_packages_of_conda_have_nothing_to_do_with_a_pylock(load: Load, write: Write) -> None:
    write("environment.yml", "dependencies: [python, six]\n")
    write("pylock.toml", "lock-version = '1.0'\npackages = []\n")
    (change,) = package_edit.added(["click"], False, load())
    assert change.new == "dependencies: [python, six, click]\n"
    (change,) = package_edit.removed(["six"], False, load())
    assert change.new == "dependencies: [python]\n"
    for edit in (package_edit.added, package_edit.removed):
        with pytest.raises(InputError, match=r"pylock\.toml is of another tool"):
            edit(["six"], True, load())
    with pytest.raises(InputError, match=r"pylock\.toml is of another tool"):
        package_edit.removed(["six", "click"], False, load())
