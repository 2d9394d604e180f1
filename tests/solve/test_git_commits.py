"""Commits of an older lock: which of them a failed resolution is about."""

from __future__ import annotations

import pytest

from condainer.inputs.requirements import Line
from condainer.lock.locks import PipPackage
from condainer.solve import git_commits

COMMIT = "a" * 40
LINES = tuple(
    Line(f"{name} @ git+https://a.example/{name}@main", f"requirements.txt:{number}")
    for number, name in enumerate(("one-thing", "other"), 1)
)
HEAD = "The pip requirements cannot be resolved (/home/other/requirements.txt:1):\n"


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("git+https://a.example/my-tool.git@main", True),
        ("git+https://a.example/my-tool.git ; python_version > '3'", True),
        ("git+https://a.example/other.git@main", False),
        ("git+https://a.example/my-tool.git@main#subdirectory=python", False),
    ],
)
def test_a_url_without_a_name_stays_at_what_was_locked_from_it(line: str, stays: bool) -> None:
    packages = [PipPackage("tool", f"git+https://a.example/my-tool.git@{COMMIT}", "")]
    lines = (Line(line, "requirements.txt:1"),)
    (held,) = git_commits.held(lines, packages, git_commits.noted(lines, packages))
    assert (COMMIT in held.text) == stays


@pytest.mark.parametrize(
    ("problem", "moved"),
    [
        ("Because six was not found and you require six, unsatisfiable.", ""),
        ("Because one_thing==1 depends on six<1 and you require six>=1, unsatisfiable.", "one"),
        (f"failed to find {'b' * 40}", "other"),
        ("Because other depends on one-thing>2", "one other"),
        ("another-thing, others", ""),
    ],
)
def test_only_commits_that_a_problem_is_about_are_let_go(problem: str, moved: str) -> None:
    packages = [
        PipPackage("One_Thing", f"git+https://a.example/one-thing@{COMMIT}", ""),
        PipPackage("other", f"git+https://a.example/other@{'b' * 40}", ""),
    ]
    held = git_commits.held(LINES, packages, git_commits.noted(LINES, packages))
    assert [line.text.rpartition("@")[2] for line in held] == [COMMIT, "b" * 40]
    found = git_commits.released(held, LINES, packages, HEAD + problem)
    wanted = tuple(
        before if before.text.partition("-")[0].partition(" ")[0] in moved.split() else line
        for before, line in zip(LINES, held, strict=True)
    )
    assert found == (wanted if moved else ())
