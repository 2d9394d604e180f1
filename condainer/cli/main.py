"""The group of commands: its own options, and how a command is found and called."""

from __future__ import annotations

import copy
import functools
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from condainer import __version__
from condainer.cli import complete, words
from condainer.cli.call import AFTER, NAMED, Call, existing
from condainer.cli.console import show
from condainer.cli.options import Place
from condainer.startup import find_project


class Command(click.Command):
    """A command that also takes the options of the group, and says which project it uses."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            if error.option_name != "--env":
                raise
            raise click.UsageError(
                "--env names an image in a cache, which is not for this command; -e NAME chooses "
                "one of several environments of a project.",
                context,
            ) from None

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        own = super().get_params(context)
        taken = {option for parameter in own for option in parameter.opts}
        return [*own, *(item for item in _anywhere() if not taken & {*item.opts})]

    def invoke(self, context: click.Context) -> Any:
        after = [name for name in context.params if name.startswith(AFTER)]
        given = {name.removeprefix(AFTER): context.params.pop(name) for name in after}
        context.obj = context.obj.with_options(**given)
        _refuse_empty(self, context)
        options = {item.name for item in self.params if isinstance(item, click.Option)}
        named = {name: context.params.pop(name) for name in NAMED if name in options}
        context.obj = replace(context.obj, **named)
        # We print nothing before the output of the user's own commands.
        silent = self.name in ("exec", "shell") or context.params.get("as_json")
        if context.obj.note and not silent:
            context.obj.say(context.obj.note)
        return super().invoke(context)


def _refuse_empty(command: click.Command, context: click.Context) -> None:
    """Refuse an empty text, that of a variable which is unset; a user's command may have some."""
    for parameter in command.params:
        value = context.params.get(parameter.name or "")
        texts = value if isinstance(value, tuple) else (value,)
        if "" in texts and parameter.type is not click.UNPROCESSED:
            raise click.BadParameter("an empty text", context, parameter)


@functools.cache
def _anywhere() -> tuple[click.Parameter, ...]:
    options = []
    for parameter in cli.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            option = copy.copy(parameter)
            option.hidden, option.name = True, f"{AFTER}{parameter.name}"
            options.append(option)
    return tuple(options)


class Commands(click.Group):
    """A group whose commands stand in modules that are imported when one is called."""

    command_class = Command
    # Command: the module that defines it.
    modules: ClassVar[dict[str, str]] = {
        name: f"condainer.commands.{module}"
        for commands in words.GROUPS.values()
        for name, (module, _) in commands.items()
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self.modules})

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Offer the commands without importing them, and the options."""
        commands = [
            CompletionItem(name, help=summary)
            for name, summary in words.SUMMARIES.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, context, incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in words.GROUPS.items():
            with formatter.section(title):
                # The same width in all sections, so that descriptions are aligned.
                formatter.write_dl([(f"{name:10}", text) for name, (_, text) in names.items()])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(context, name) is None:
            import difflib

            known = [*self.list_commands(context), *words.ALIASES, *words.INSTEAD]
            near = (difflib.get_close_matches(name, known, 1) or [""])[0]
            remedy = words.INSTEAD.get(near) or (f"Did you mean `{near}`?" if near else "")
            context.fail(f"There is no command `{name}`. {remedy}".rstrip())
        return super().resolve_command(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        name = words.ALIASES.get(name, name)
        if name in self.modules:
            importlib.import_module(self.modules[name])
        return super().get_command(context, name)


def _named(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse the empty name of an environment, that of a variable which is unset."""
    if value == "":
        raise click.BadParameter("an empty name")
    return value


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Exit codes and configuration keys are listed in docs/reference.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "-d",
    "--directory",
    type=Place(path_type=Path),
    metavar="DIR",
    help="The project directory. By default, the nearest one upward from the working directory "
    "that has condainer.yml, else environment.yml.",
)
@click.option(
    "-e",
    "--environment",
    callback=_named,
    metavar="NAME",
    shell_complete=complete.environments,
    help="Which of several environments of the project, as `environments:` in its condainer.yml "
    "names them. By default, what CONDAINER_ENVIRONMENT says, else `default`.",
)
@click.option("-y", "--dryrun", is_flag=True, help="Say what would be done, touch nothing.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete.keys,
    help="Override a configuration key; may be repeated.",
)
@click.option("--offline", is_flag=True, help="Make no connection at all.")
@click.version_option(
    __version__, "-V", "--version", message="condainer %(version)s", help="Print the version."
)
@click.pass_context
def cli(
    context: click.Context,
    quiet: bool,
    directory: Path | None,
    environment: str | None,
    dryrun: bool,
    overrides: tuple[str, ...],
    offline: bool,
) -> None:
    """Declarative Conda environments as compressed, shared images.

    In a directory with an environment.yml, `cnd build` locks the environment, and builds its
    image unless a cache has it; `source ./activate` and `cnd exec` use it.
    """
    if directory is not None:
        call = Call(existing(directory))
    else:
        found = Path(find_project.project_of(context.invoked_subcommand or ""))
        project = existing(found, find_project.VARIABLE)
        call = Call(project, find_project.note(str(project)))
    context.obj = call.with_options(
        quiet, environment=environment, dryrun=dryrun, overrides=overrides, offline=offline
    )


@cli.command("help", hidden=True)
@click.argument("command", required=False, shell_complete=complete.commands)
@click.pass_context
def tell(context: click.Context, command: str | None) -> None:
    """Show the help of a command."""
    above = context.find_root()
    if command is None:
        show(above.get_help())
        return
    _, chosen, _ = cli.resolve_command(above, [command])
    if chosen is not None:
        show(chosen.get_help(click.Context(chosen, parent=above, info_name=command)))
