"""What `cnd add` and `cnd remove` do: edit the inputs, and lock what they say then.

Nothing is written before it is solved.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from condainer.inputs import edit, pip_locks
from condainer.inputs.edit import Change, Environment
from condainer.inputs.missing import no_environment_file
from condainer.settings.config import Settings
from condainer.settings.input_files import REQUIREMENTS
from condainer.solve import relock
from condainer.solve.relock import Relocked, Wish
from condainer.system.errors import InputError
from condainer.system.files import reading, turn, writing
from condainer.system.reporter import Reporter
from condainer.system.text import did_you_mean

# The byte order mark: YAML counts characters from behind it.
MARK = "\ufeff"


def added(specs: Sequence[str], pip: bool, settings: Settings) -> list[Change]:
    """Return the edits that add packages, or change what is asked of them; raises InputError."""
    environment = _environment(settings)
    path = settings.requirements_txt
    old = text = _requirements(settings) if pip else None
    for spec in specs:
        if not edit.name_of(spec) or "\n" in spec:
            raise InputError(f"{spec!r} names no package", "Write it as `name` or `name>=1.2`.")
        # One that stands below `pip:` already is changed there.
        if text is not None and not environment.has(edit.name_of(spec), pip=True):
            text = edit.add_requirement(path, text, spec)
        else:
            environment.add(spec, pip)
    return _changes(environment, settings, old, text)


def removed(names: Sequence[str], pip: bool, settings: Settings) -> list[Change]:
    """Return the edits that remove packages; raises InputError for one that is not there."""
    environment = _environment(settings)
    path = settings.requirements_txt
    all_conda = not pip and all(environment.has(edit.name_of(name), pip=False) for name in names)
    old = text = None if all_conda else _requirements(settings)
    for name in names:
        was_there = not pip and environment.remove(edit.name_of(name), pip=False)
        if not was_there:
            was_there = environment.remove(edit.name_of(name), pip=True)
            without = None if text is None else edit.remove_requirement(path, text, name)
            text = text if without is None else without
            was_there = was_there or without is not None
        if not was_there:
            raise _not_there(name, environment, settings)
    return _changes(environment, settings, old, text)


def solved(changes: Sequence[Change], settings: Settings, reporter: Reporter) -> Sequence[Relocked]:
    """Return the lock of the edited inputs without writing anything; raises as relock()."""
    for change in changes:
        settings.files.imagine(change.path, change.new)
    # What a frozen lock says is not asked for here.
    return relock.relock(replace(settings, frozen=False), Wish(), reporter)


def write(
    changes: Sequence[Change], relocked: Sequence[Relocked], settings: Settings, reporter: Reporter
) -> None:
    """Write the inputs and their lock; the inputs are as they were if that fails."""
    with turn(settings.project):
        modes = {change.path: stat.S_IMODE(change.path.stat().st_mode) for change in changes}
        for change in changes:
            if settings.files.has_changed(change.path):
                raise InputError(
                    f"{change.path} was changed while this was solved", "Run the command again."
                )
        done: list[Change] = []
        try:
            for change in changes:
                done.append(change)
                with writing(change.path):
                    settings.files.publish(change.path, change.new, modes[change.path])
            relock.write(relocked, settings, reporter)
        except BaseException:
            for change in done:
                with suppress(OSError):
                    settings.files.publish(change.path, change.old, modes[change.path])
            raise


def _environment(settings: Settings) -> Environment:
    path = settings.environment_yml
    if not settings.files.is_file(path):
        raise no_environment_file(path)
    if path.suffix == ".toml":
        raise InputError(
            f"{path} is of another tool, and only environment.yml is edited here",
            "Add or remove the package with that tool, then run `cnd build`.",
        )
    return Environment(path, _text(path, settings).removeprefix(MARK))


def _requirements(settings: Settings) -> str | None:
    path = settings.requirements_txt
    if pip_locks.is_one(path):
        raise InputError(
            f"{path} is of another tool, and only {REQUIREMENTS} is edited here",
            "Lock again with the tool that wrote it, then run `cnd build`.",
        )
    return _text(path, settings) if settings.files.is_file(path) else None


def _text(path: Path, settings: Settings) -> str:
    with reading(path, InputError):
        return settings.files.read_text(path)


def _changes(
    environment: Environment, settings: Settings, old: str | None, text: str | None
) -> list[Change]:
    path = settings.environment_yml
    before = _text(path, settings)
    changes = [Change(path, before, MARK * before.startswith(MARK) + environment.text)]
    if old is not None and text is not None:
        changes.append(Change(settings.requirements_txt, old, text))
    return [change for change in changes if change.old != change.new]


def _not_there(name: str, environment: Environment, settings: Settings) -> InputError:
    if re.fullmatch("[0-9a-f]{8,32}", name):
        return InputError(f"{name} is no package of this project", "`cnd rm` removes images.")
    return InputError(
        f"{name} is in neither {settings.environment_yml} nor {settings.requirements_txt}",
        did_you_mean(name, environment.names(), "`cnd show` lists what the image has."),
    )
