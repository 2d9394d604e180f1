"""What the shell offers at the press of Tab: names, addresses, packages, programs.

A shell waits for it, so modules are imported where they are needed, and a solver nowhere.
Nothing here writes, asks the network, or fails: what cannot be read is not offered.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from condainer.cli import words
from condainer.cli.call import AFTER, NAMED, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.cache.entries import Entry
    from condainer.lock.locks import Lock
    from condainer.settings.config import Settings

    Item = CompletionItem[str]
    Completer = Callable[[click.Context, click.Parameter, str], list[Item]]
    Offered = Callable[[Call, click.Context, str], Iterator[Item]]

VARIABLE = "_CND_COMPLETE"
# Other users name what is in a cache, and bash expands what it is offered.
SAFE = re.compile(r"[A-Za-z0-9@%+:,._/][A-Za-z0-9@%+=:,._/-]*")
# If more addresses match, none is offered: a shell would complete what some of them have in common
# as if all had it.
MOST = 200


def _completer(offered: Offered) -> Completer:
    """Make a function that click asks of one that yields what is offered for a word."""

    @functools.wraps(offered)
    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[Item]:
        from condainer.system.errors import CondainerError

        items: list[Item] = []
        try:
            for item in offered(_call(context), context, word):
                plain = item.type == "plain"
                if not plain or (item.value.startswith(word) and SAFE.fullmatch(item.value)):
                    items.append(item)
        except (CondainerError, click.ClickException, OSError, ValueError):
            pass
        return items

    return complete


def _call(context: click.Context) -> Call:
    """Return the options of the group, before the command or after it."""
    from condainer.startup import find_project

    above, own = context.find_root().params, context.params
    chosen = own.get(f"{AFTER}directory") or above.get("directory")
    directory = Path(chosen or find_project.project_of(context.info_name or ""))
    overrides = (*(above.get("overrides") or ()), *(own.get(f"{AFTER}overrides") or ()))
    named = own.get(f"{AFTER}environment") or above.get("environment")
    return Call(directory.absolute(), "", True, True, overrides, named)


def _items(values: Iterable[str], help_text: str = "") -> Iterator[Item]:
    for value in dict.fromkeys(values):
        yield CompletionItem(value, help=help_text or None)


def _names(settings: Settings) -> Iterator[Item]:
    from condainer.cache import entries, names

    for root in entries.roots(settings):
        for name in names.read_all(root):
            yield CompletionItem(name.name, help=name.address)


def _addresses(settings: Settings, word: str) -> Iterator[Item]:
    from condainer.cache import entries
    from condainer.system.text import printable

    if re.fullmatch(r"[0-9a-f]{0,32}", word) is None:
        return
    roots = entries.roots(settings)
    places = [place for root in roots for place in entries.entry_directories(root, word)]
    for place in places if len(places) <= MOST else ():
        entry = entries.read_entry(place)
        if entry is not None:
            told = printable(f"{entry.manifest.name} by {entry.manifest.builder}")
            yield CompletionItem(entry.address, help=told)


@_completer
def names(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the names of images."""
    yield from _names(call.settings())


@_completer
def environments(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the environments of the project."""
    yield from _items(name for name, _ in call.settings().environments)


@_completer
def images(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the names and addresses of images."""
    yield from _images(call.settings(), word)


@_completer
def images_or_files(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the names and addresses of images, and let the shell offer files."""
    yield from _with_files(call.settings(), word)


@_completer
def subjects(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield what `cnd show` takes: environments of the project, images, and files."""
    settings = call.settings()
    yield from _with_files(settings, word)
    yield from _items((name for name, _ in settings.environments), "environment of the project")


def _with_files(settings: Settings, word: str) -> Iterator[Item]:
    if word:
        # First, because bash forgets what stands before it; zsh would lose count of an empty word.
        yield CompletionItem(word, type="file")
    yield from _images(settings, word)


def _images(settings: Settings, word: str) -> Iterator[Item]:
    yield from _names(settings)
    yield from _addresses(settings, word)


def _using(call: Call, context: click.Context, frozen: bool) -> Settings:
    address, env = (context.params.get(name) or None for name in NAMED)
    return replace(call, address=address, env=env).using(frozen=frozen)


def _image(settings: Settings) -> tuple[Entry | None, Lock]:
    """Return the image of the settings, None if no cache has it, and its lock."""
    from condainer.cache import entries
    from condainer.lock.address import address_of
    from condainer.lock.explicit import read_explicit
    from condainer.lock.lock_paths import lockfile_path
    from condainer.system.machine import this_platform

    if settings.address is not None:
        return entries.pinned(settings.address, settings)
    platform = this_platform()
    lock = read_explicit(lockfile_path(settings, platform), platform)
    return entries.look_up(address_of(lock, settings.mount_base_directory), settings), lock


@_completer
def packages(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the packages of the image that a command is about."""
    _, lock = _image(_using(call, context, True))
    yield from _items((package.name for package in lock.conda), "conda")
    yield from _items((package.name for package in lock.pip), "PyPI")


@_completer
def wanted(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the packages that environment.yml names."""
    from condainer.inputs.edit import Environment

    path = call.settings().environment_yml
    text = path.read_text(encoding="utf-8")
    yield from _items(Environment(path, text).names())


@_completer
def command_line(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the programs of the image; after the first word, and for paths, files."""
    if context.params.get("command") or "/" in word:
        yield CompletionItem(word, type="file")
        return
    from condainer.cache import squashfs

    settings = _using(call, context, bool(context.params.get("frozen")))
    entry, _ = _image(settings)
    if entry is not None:
        yield from _items(squashfs.programs(entry.image, settings))


@_completer
def keys(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the keys of the configuration."""
    from condainer.settings import config

    for name, _, _, doc in config.documented():
        yield CompletionItem(f"{name}=", help=doc)


@_completer
def kernels(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the kernels of Jupyter that are ours."""
    from condainer.integrations import jupyter

    prefix = context.params.get("prefix")
    for kernel in jupyter.installed(jupyter.directory_of(prefix)):
        yield CompletionItem(kernel.name, help=kernel.address)


@_completer
def groups(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the groups of this user."""
    import grp

    for number in os.getgroups():
        try:
            yield CompletionItem(grp.getgrgid(number).gr_name)
        except KeyError:
            continue


@_completer
def commands(call: Call, context: click.Context, word: str) -> Iterator[Item]:
    """Yield the commands of cnd."""
    for name, summary in words.SUMMARIES.items():
        yield CompletionItem(name, help=summary)
