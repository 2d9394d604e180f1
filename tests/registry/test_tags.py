"""Tags of images in registries."""

from __future__ import annotations

import pytest

from condainer.registry.tags import name_of, of_name
from condainer.system.errors import ConfigError


@pytest.mark.parametrize("name", ["climate", "climate/2026.1", "a_b/c-d"])
def test_a_tag_leads_back_to_its_name(name: str) -> None:
    tag = of_name(name)
    assert "/" not in tag
    assert name_of(tag) == name


@pytest.mark.parametrize("name", ["a__b", "c++", "x" * 129, f"sha256-{'0' * 64}", "-", "0123abcd"])
def test_names_that_no_tag_can_say(name: str) -> None:
    with pytest.raises(ConfigError):
        of_name(name)


@pytest.mark.parametrize("tag", ["0123456789abcdef" * 2, f"sha256-{'0' * 64}", "a__b__c"])
def test_tags_that_stand_for_no_name(tag: str) -> None:
    assert name_of(tag) == ""
