"""The options before a command, and what they decide."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import click

from condainer.cli.console import print_json, reporter_for, say
from condainer.system.errors import ConfigError
from condainer.system.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.cache.entries import Entry
    from condainer.settings.config import Settings


OFFLINE = ("offline=true",)
# The prefix of the group's options after a command.
AFTER = "after_"
# The options that name an image.
NAMED = ("address", "env")


@dataclass(frozen=True)
class Call:
    """The options that stand before the subcommand.

    `note` says where the project was found, if there is anything to say; `environment` is which one
    of several in it is chosen on the command line. `address` and `env` name an image of a cache, by
    options after the command.
    """

    directory: Path
    note: str = ""
    quiet: bool = False
    dry: bool = False
    overrides: tuple[str, ...] = ()
    environment: str | None = None
    address: str | None = None
    env: str | None = None

    @property
    def names_image(self) -> bool:
        """Whether an option names an image, in place of the project's own."""
        return self.address is not None or self.env is not None

    def with_options(
        self,
        quiet: bool | None = None,
        directory: Path | None = None,
        environment: str | None = None,
        dryrun: bool | None = None,
        overrides: tuple[str, ...] | None = None,
        offline: bool | None = None,
    ) -> Call:
        """Return the call with the options that stood after the subcommand."""
        named = self if directory is None else replace(self, note="", directory=existing(directory))
        return replace(
            named,
            quiet=self.quiet or bool(quiet),
            dry=self.dry or bool(dryrun),
            overrides=(*self.overrides, *(overrides or ()), *OFFLINE * bool(offline)),
            environment=self.environment if environment is None else environment,
        )

    def settings(self, *more: str) -> Settings:
        """Return the settings for all commands but builds: a project's own programs are not run."""
        return self.building(*more).of_user()

    def using(self, *more: str, frozen: bool = False, address: str | None = None) -> Settings:
        """Return the settings for the image of the lock, or the one that an address or a name says.

        CONDAINER_ENV says it, too, unless another image is chosen on the command line. Parameters:
        `address` is what an argument says in place of the option.
        """
        address = self.address if address is None else address
        if address is not None and self.env is not None:
            raise click.UsageError("--address and --env both name an image: give one of them")
        image = self.env if address is None else address
        if self.environment is not None and image is not None:
            raise click.UsageError(
                "-e chooses an environment of the project, and "
                f"{'--env' if address is None else '--address'} an image: give one of them"
            )
        from condainer.cache import names

        settings = self.settings(*more, *["frozen=true"] * frozen)
        if image is None and not frozen:
            image = self.of_variable()
        if image is None:
            return settings
        return replace(settings, address=names.address(image, settings))

    def of_variable(self) -> str | None:
        """Return the image that CONDAINER_ENV says, unless the command line chooses another one."""
        pinned = any(text.startswith("address=") for text in self.overrides)
        chosen = pinned or self.environment is not None
        return None if chosen else os.environ.get("CONDAINER_ENV") or None

    def directory_for(self, own: Path) -> Path:
        """Return the directory whose configuration counts for the image that using() returns.

        It is the project, or for an image that is named `own`, which need not have any. What is
        written for later is of the lock, whatever CONDAINER_ENV says now.
        """
        return own if self.names_image else self.directory

    def building(self, *more: str) -> Settings:
        """Return the settings for a build, or for what prepares one."""
        from condainer.settings.load import load_settings

        return load_settings(self.directory, (*self.overrides, *more), environment=self.environment)

    def reporter(self) -> Reporter:
        """Return the reporter that fits the terminal and `-q`."""
        reporter = reporter_for(self.quiet)
        click.get_current_context().call_on_close(reporter.close)
        return reporter

    def say(self, *lines: str, colour: str = "") -> None:
        """Print messages for people, unless they want quiet."""
        for line in () if self.quiet else lines:
            say(line, colour=colour)

    def warn_if_behind(self, entry: Entry) -> None:
        """Say, even if quiet, that a shell gets the last image that was built."""
        from condainer import pipeline
        from condainer.settings.load import load_settings

        project = load_settings(self.directory, environment=self.environment).of_user()
        reason = pipeline.behind(entry, project) if project.address is None else ""
        if reason:
            build = f"`cnd build{project.option}`"
            say(f"cnd: {reason}; activating the last image built, {build} makes a new one")

    def would(self, *steps: str, as_json: bool = False) -> None:
        """Print what would be done without `--dryrun`."""
        if as_json:
            print_json({"would": steps})
        else:
            for step in steps or ("do nothing",):
                say(f"Would {step}")


def existing(directory: Path, variable: str = "") -> Path:
    if not directory.absolute().is_dir():
        given = f"{variable}={directory}" if variable else directory
        raise ConfigError(
            f"{given}: no such directory",
            f"`{variable or '-d'}` names the directory of environment.yml.",
        )
    return directory.absolute()
