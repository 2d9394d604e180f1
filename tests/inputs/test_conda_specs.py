"""Specs of conda: those that are made of what other files say."""

from __future__ import annotations

import pytest
from rattler import MatchSpec, Version, VersionSpec

from condainer.inputs import conda_specs


@pytest.mark.parametrize(
    ("required", "fitting"),
    [
        (">=3.10,<4", ["3.10.1", "3.11", "3.11.7"]),
        (">= 3.11", ["3.11", "3.11.7"]),
        ("~= 3.11.0", ["3.11", "3.11.7"]),
        ("==3.11.*", ["3.11", "3.11.7"]),
        ("== 3.11.*, != 3.11", ["3.11.7"]),
        (">=3,!=3.11.*", ["3.10.1"]),
        ("===3.11.7", ["3.11.7"]),
        ("", ["3.10.1", "3.11", "3.11.7"]),
    ],
)
def test_versions_of_pep_440_mean_the_same_to_conda(required: str, fitting: list[str]) -> None:
    version = MatchSpec(conda_specs.python_spec(required, "pyproject.toml:3").text).version
    allowed = VersionSpec(version or "*")
    known = ("3.10.1", "3.11", "3.11.7")
    assert [item for item in known if allowed.matches(Version(item))] == fitting
