"""Default variables, with which common tools work in a read-only image.

Only what misbehaves otherwise is here. Most tools write below ~/.cache or the working directory
anyway (Triton, PyTensor, IPython, pyximport, NLTK, pre-commit), and setting the variables of others
would take something away (JUPYTERLAB_DIR: its assets; npm's prefix: PATH would not have it).
"""

from __future__ import annotations

from dataclasses import dataclass

from condainer.startup import command_environment
from condainer.startup.command_environment import DIRECTORY

__all__ = ["ALWAYS", "DIRECTORY", "USER_SITE", "Default", "rows", "table"]


@dataclass(frozen=True)
class Default:
    """A variable with the value that it gets when it is unset.

    It is `value`, or else the directory `below` the environment's own cache, which is not created
    here. If the user has one of the files `unless`, relative to the configuration directory, the
    variable is left alone. `reason` says what happens without it, `source` where that is written.
    """

    variable: str
    reason: str
    source: str
    value: str = ""
    below: str = ""
    unless: tuple[str, ...] = ()


USER_SITE = Default(
    "PYTHONNOUSERSITE",
    "packages in ~/.local, installed for another Python, come before those of the image",
    "Python, `site`: ENABLE_USER_SITE",
    value="1",
)
ALWAYS = (
    Default(
        "PYTHONDONTWRITEBYTECODE",
        "all .pyc files are in the image; each import of a module without one would try to write",
        "Python, `importlib`: cache_from_source",
        value="1",
    ),
    Default(
        "NUMBA_CACHE_DIR",
        "functions with cache=True are cached beside their module; where neither that nor the "
        "home directory can be written, importing it fails (`no locator available`)",
        "numba/core/caching.py: CacheImpl._locator_classes; numba issue 5566",
        below="numba",
    ),
    Default(
        "MPLCONFIGDIR",
        "a configuration directory that cannot be made costs a temporary directory and a new font "
        "cache in every process",
        "matplotlib/__init__.py: _get_config_or_cache_dir",
        below="matplotlib",
        # It would hide what the user has configured.
        unless=("matplotlib/matplotlibrc", "matplotlib/stylelib"),
    ),
    Default(
        "PYTHON_JULIAPKG_PROJECT",
        "Julia packages that Python packages need are installed below CONDA_PREFIX",
        "juliapkg/state.py: reset_state",
        below="julia",
    ),
)


def table(user_site: bool) -> tuple[Default, ...]:
    """Return what is set; with `user_site`, packages in ~/.local are seen."""
    return ALWAYS if user_site else (USER_SITE, *ALWAYS)


def rows(user_site: bool) -> list[command_environment.Row]:
    """Return the same as plain rows, for command_environment.defaults()."""
    return [(row.variable, row.value, row.below, row.unless) for row in table(user_site)]
