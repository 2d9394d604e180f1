"""What is said where there is no environment file."""

from __future__ import annotations

from pathlib import Path

import pytest

from condainer.inputs.missing import no_environment_file


@pytest.mark.parametrize(
    ("files", "instead", "hint"),
    [
        ((), "no environment file", "`cnd init` writes an example"),
        (("environment.yaml",), "environment.yaml is there", "Rename it"),
        (
            ("Pipfile", "requirements.txt"),
            "requirements.txt and Pipfile are there",
            "need a Python",
        ),
        (("poetry.lock",), "poetry.lock is there", "poetry export"),
        (("pixi.lock",), "pixi.lock is there", "`pixi lock` changes it"),
        (
            ("pylock.b.toml", "pylock.a.toml", "requirements.txt"),
            "pylock.a.toml and pylock.b.toml are there",
            "`requirements_txt: pylock.a.toml`",
        ),
    ],
)
def test_what_is_there_instead_decides_what_to_do(
    tmp_path: Path, files: tuple[str, ...], instead: str, hint: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    error = no_environment_file(tmp_path / "environment.yml")
    assert error.message.endswith(instead)
    assert hint in error.hint


def test_a_file_that_was_named_is_not_replaced_by_others(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    error = no_environment_file(tmp_path / "gpu.yml")
    assert error.message.endswith("gpu.yml: there is no environment file")
