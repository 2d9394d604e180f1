from __future__ import annotations

import pytest

from condainer.lock.locks import is_named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("git >=2 cannot be installed", True),
        ("nothing provides git.", True),
        ("package git-2.40-h1 requires zlib", True),
        ("git[extra]>=2", True),
        ("1.2 digits", False),
        ("git-lfs 3.0", False),
        ("git_of_mine", False),
        ("cgit 1", False),
        ("r-git 1", False),
    ],
)
def test_a_text_names_a_package_and_not_another_with_the_same_letters(
    text: str, named: bool
) -> None:
    assert is_named("git", text) == named
