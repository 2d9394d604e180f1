"""What the policy of the site or the user forbids: channels, and licenses of packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from condainer.lock.locks import Lock
from condainer.packages.channels import channel_of, expanded
from condainer.packages.installed import Licensed
from condainer.settings.config import Settings
from condainer.settings.policy import CHANNELS, LICENSES, Rule
from condainer.system.errors import ConfigError, InputError, PolicyError
from condainer.system.urls import redacted

# Anaconda's own channels, wherever a .condarc lets `defaults` lead.
DEFAULTS = ("https://repo.anaconda.com/pkgs/*", "https://repo.continuum.io/pkgs/*")
OTHER_CHANNEL = (
    "Take the packages from another channel: change `channels:` and specs of the form "
    "`CHANNEL::NAME`, then run `cnd lock --upgrade`."
)
OTHER_PACKAGE = "Take packages of another license in their place, then run `cnd lock`."
TOKEN = re.compile(r"\(|\)|[^\s()]+")
WORDS = ("AND", "OR", "WITH")
ID = re.compile(r"[\w.+:-]+")
# Of what is forbidden, this many are named.
NAMED = 10


def demand_channels(asked: Iterable[tuple[str, str]], settings: Settings) -> None:
    """Refuse channels, or packages of them, by their URLs with the places that ask for them.

    Raises PolicyError.
    """
    rules = [rule for rule in settings.policy if rule.kind == CHANNELS]
    for url, where in asked if rules else ():
        for rule in rules:
            if _is_of(url, rule, settings):
                raise PolicyError(f"{where}: {redacted(url)} is forbidden by {rule}", OTHER_CHANNEL)


def demand_lock(lock: Lock, where: str, settings: Settings) -> None:
    """Refuse a lock with packages of a forbidden channel; raises PolicyError that names them."""
    for rule in (rule for rule in settings.policy if rule.kind == CHANNELS):
        packages = [package for package in lock.conda if _is_of(package.url, rule, settings)]
        if packages:
            raise PolicyError(
                f"{where}: these packages are from a channel that is forbidden by {rule}:"
                + _listed([redacted(package.url) for package in packages]),
                OTHER_CHANNEL,
            )


def _is_of(url: str, rule: Rule, settings: Settings) -> bool:
    """Tell whether a channel or a package is of what a rule means, or of a label of it."""
    patterns = [*DEFAULTS] if rule.pattern == "defaults" else []
    if "://" in rule.pattern:
        patterns.append(rule.pattern)
    else:
        try:
            patterns += [channel_of(name, settings).url for name in expanded([rule.pattern])]
        except InputError as error:
            raise ConfigError(
                f"{rule}: {error.message}", "Write a channel's name or URL."
            ) from None
    return any(fnmatchcase(f"{_place(url)}/", f"{_place(one)}/*") for one in patterns)


def _place(url: str) -> str:
    """Return a URL without what two of the same place can differ in."""
    from urllib.parse import unquote

    host, slash, path = url.partition("://")[2].partition("/")
    return f"{host.rpartition('@')[2]}{slash}{unquote(path)}".lower().rstrip("/")


def demand_licenses(packages: Iterable[Licensed], where: str, settings: Settings) -> None:
    """Refuse packages whose license is forbidden; raises PolicyError that names all of them."""
    rules = [rule for rule in settings.policy if rule.kind == LICENSES]
    if not rules:
        return
    refused = [
        f"{package} (forbidden by {rule})"
        for package in packages
        if (rule := _forbidding(package.license, rules)) is not None
    ]
    if refused:
        raise PolicyError(
            f"{where}: packages have a license that is forbidden:{_listed(refused)}", OTHER_PACKAGE
        )


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - NAMED} more"] * (len(lines) > NAMED)
    return "".join(f"\n     {line}" for line in (*lines[:NAMED], *more))


def _forbidding(text: str, rules: Sequence[Rule]) -> Rule | None:
    """Return the rule that forbids a license, or each of those that one may choose from."""

    def rule_of(name: str) -> Rule | None:
        matching = (r for r in rules if fnmatchcase(name.lower(), r.pattern.lower()))
        return next(matching, None)

    try:
        tokens = iter([*TOKEN.findall(text), ")"])
        rule = _rule_of_expression(tokens, rule_of)
        if next(tokens, None) is None:
            return rule
    except (ValueError, RecursionError):
        pass
    # Not SPDX: as if one had to keep to all that it names.
    return next(filter(None, map(rule_of, (text, *re.split(r"[\s,;/()]+", text)))), None)


def _rule_of_expression(
    tokens: Iterator[str], rule_of: Callable[[str], Rule | None]
) -> Rule | None:
    """Return the rule that forbids an SPDX expression, up to its `)`; exceptions change nothing.

    https://spdx.github.io/spdx-spec/v3.0.1/annexes/spdx-license-expressions/ has AND bind more than
    OR. Raises ValueError for what is no expression.
    """
    choices: list[Rule | None] = []
    rule, previous = None, "AND"
    for token in tokens:
        word = token.upper() if token.upper() in WORDS else token
        if (word in (*WORDS, ")")) == (previous in WORDS):
            raise ValueError(f"{token} behind {previous}")
        if word in ("OR", ")"):
            choices.append(rule)
            rule = None
            if word == ")":
                return choices[0] if all(choices) else None
        elif word == "(":
            inner = _rule_of_expression(tokens, rule_of)
            rule, word = rule or inner, ")"
        elif word not in WORDS and not ID.fullmatch(word):
            raise ValueError(f"{word} is no license")
        elif word not in WORDS and previous != "WITH":
            rule = rule or rule_of(word)
        previous = word
    raise ValueError("more opening than closing brackets")
