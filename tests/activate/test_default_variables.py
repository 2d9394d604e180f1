"""Variables that let tools work in an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from condainer.activate import default_variables
from condainer.startup import command_environment

ADDRESS = "c0f027e0112233445566778899aabbcc"


def of(environ: dict[str, str], user_site: bool = False, address: str = ADDRESS) -> dict[str, str]:
    return command_environment.defaults(default_variables.rows(user_site), environ, address)


def test_caches_are_below_the_users_own_one_for_each_address(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    below = f"{tmp_path}/.cache/condainer-tools/{ADDRESS}"
    assert of(home) == {
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": f"{below}/numba",
        "MPLCONFIGDIR": f"{below}/matplotlib",
        "PYTHON_JULIAPKG_PROJECT": f"{below}/julia",
    }
    assert of({**home, "XDG_CACHE_HOME": "not absolute"}) == of(home)
    elsewhere = of({**home, "XDG_CACHE_HOME": "/scratch/me"})
    assert elsewhere["NUMBA_CACHE_DIR"] == f"/scratch/me/condainer-tools/{ADDRESS}/numba"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_put_where_there_is_no_home() -> None:
    assert set(of({})) == {"PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"}


def test_what_is_set_stays_unless_it_belongs_to_another_environment() -> None:
    given = {"HOME": "/h", "NUMBA_CACHE_DIR": "", "PYTHONNOUSERSITE": "0", "MPLCONFIGDIR": "/m"}
    assert set(of(given)) == {"PYTHONDONTWRITEBYTECODE", "PYTHON_JULIAPKG_PROJECT"}
    other = of({"HOME": "/h"}, address="f" * 32)
    caches = {key: value for key, value in of({"HOME": "/h"}).items() if "/" in value}
    assert of({"HOME": "/h", **other}) == caches


@pytest.mark.parametrize("name", ["matplotlibrc", "stylelib"])
def test_the_users_own_configuration_is_not_hidden(tmp_path: Path, name: str) -> None:
    for variable, below in (("HOME", ".config"), ("XDG_CONFIG_HOME", "")):
        own = tmp_path / variable / below / "matplotlib"
        own.mkdir(parents=True)
        environ = {"HOME": str(tmp_path / "HOME"), variable: str(tmp_path / variable)}
        if variable == "HOME":
            assert "MPLCONFIGDIR" in of(environ)
        (own / name).touch()
        assert "MPLCONFIGDIR" not in of(environ)


def test_user_site_is_a_choice() -> None:
    assert "PYTHONNOUSERSITE" not in of({"HOME": "/h"}, user_site=True)


def test_every_variable_has_its_reason() -> None:
    table = default_variables.table(user_site=False)
    assert len({default.variable for default in table}) == len(table)
    for default in table:
        assert default.reason
        assert default.source
        assert bool(default.value) != bool(default.below)
