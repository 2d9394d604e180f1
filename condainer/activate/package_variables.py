"""The text that an activated shell evaluates to get the variables of its image's packages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection

from condainer.activate import shell
from condainer.activate.bash import saving
from condainer.activate.csh import quoted
from condainer.activate.shell import fish_word
from condainer.startup import command_environment


def text(syntax: str, prefix: str, saved: Collection[str]) -> str:
    """Return the commands that save the caller's values and set those of the packages.

    Parameters: `syntax` is one of SYNTAXES; the variables `saved` are saved by the activation
    script itself. Raises ToolError for a file of variables that cannot be read.
    """
    try:
        variables = command_environment.packaged(prefix)
    except ValueError as error:
        raise shell.unreadable(error) from None
    lines = []
    for name, value in variables.items():
        lines += SYNTAXES[syntax](name, value, name not in saved)
    return "\n".join(lines)


def _sh(name: str, value: str | None, new: bool) -> list[str]:
    lines = [*saving(name), f"__CONDAINER_NAMES=${{__CONDAINER_NAMES}}{name}:"] if new else []
    return [*lines, f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"]


def _fish(name: str, value: str | None, new: bool) -> list[str]:
    kept = f"__CONDAINER_SAVED_{name}"
    lines = [
        f"set -eg {kept}",
        f"set -q {name}; and set -gx {kept} ${name}",
        f'set -gx __CONDAINER_NAMES "$__CONDAINER_NAMES"{name}:',
    ]
    setting = f"set -eg {name}" if value is None else f"set -gx {name} {fish_word(value)}"
    return [*(lines if new else []), setting]


def _csh(name: str, value: str | None, new: bool) -> list[str]:
    kept = f"__CONDAINER_SAVED_{name}"
    lines = [
        f"unsetenv {kept}",
        # Expanded by the second eval only, which there is if the variable is set.
        f"if ( $?{name} ) eval 'setenv {kept} ${name}:q'",
        f'setenv __CONDAINER_NAMES "${{__CONDAINER_NAMES}}{name}:"',
    ]
    setting = f"unsetenv {name}" if value is None else f"setenv {name} {quoted(value)}"
    return [*(lines if new else []), setting]


SYNTAXES: dict[str, Callable[[str, str | None, bool], list[str]]] = {
    "sh": _sh,
    "fish": _fish,
    "csh": _csh,
}
