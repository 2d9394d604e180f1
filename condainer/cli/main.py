"""The command line: parse, call one function, print."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from condainer.cli import complete, words
from condainer.cli.console import MARKS, answer, print_json, reporter_for, say, show
from condainer.settings import config
from condainer.settings.config import Settings
from condainer.startup import find_project
from condainer.system.errors import ConfigError
from condainer.system.plain import printable
from condainer.system.reporter import Reporter
from condainer.system.text import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.cache.entries import Entry

OFFLINE = ("offline=true",)


class Place(click.Path):
    """A path on the command line; the empty one, of a variable that is unset, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("an empty path", param, ctx)
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Let the shell offer directories where the parameter says DIR, else files."""
        kind = "dir" if param.metavar == "DIR" else "file"
        return [CompletionItem(incomplete, type=kind)]


def _named(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse the empty name of an environment, that of a variable which is unset."""
    if value == "":
        raise click.BadParameter("an empty name")
    return value


VERIFY = click.option(
    "--verify", is_flag=True, help="Run a private copy that has the manifest's sha256."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
FROZEN = click.option(
    "--frozen", is_flag=True, help="Use the image of the lock, whatever the other files say."
)

ALL = click.option("--all", "everything", is_flag=True, help="For all environments of a project.")
ADDRESS = click.option(
    "--address",
    metavar="ADDRESS",
    shell_complete=complete.images,
    help="Use this image of a cache.",
)
ENV = click.option(
    "--env",
    metavar="NAME",
    shell_complete=complete.names,
    help="Use the image that has this name in a cache.",
)


@dataclass(frozen=True)
class Call:
    """The options that stand before the subcommand.

    `note` says where the project was found, if there is anything to say; `environment` is which one
    of several in it is chosen on the command line.
    """

    directory: Path
    note: str
    quiet: bool
    dry: bool
    overrides: tuple[str, ...]
    environment: str | None = None

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
        return Call(
            self.directory if directory is None else _existing(directory, "-d", str(directory)),
            self.note if directory is None else "",
            self.quiet or bool(quiet),
            self.dry or bool(dryrun),
            (*self.overrides, *(overrides or ()), *OFFLINE * bool(offline)),
            self.environment if environment is None else environment,
        )

    def settings(self, *more: str) -> Settings:
        """Return the settings for all but builds: programs that a project names are not run."""
        return self.building(*more).of_user()

    def using(
        self, *more: str, frozen: bool = False, address: str | None = None, env: str | None = None
    ) -> Settings:
        """Return the settings for the image of the lock, of an address, or of a name.

        CONDAINER_ENV is such a name, unless another image is named on the command line.
        """
        if address is not None and env is not None:
            raise click.UsageError("--address and --env both name an image: give one of them")
        if self.environment is not None and not (address is env is None):
            raise click.UsageError(
                "-e chooses an environment of the project, and "
                f"{'--env' if address is None else '--address'} an image: give one of them"
            )
        from condainer.cache import names

        if (
            address is not None
            and not names.DIGITS.fullmatch(address)
            and names.NAME.fullmatch(address)
        ):
            address, env = None, address
        pinned = [] if address is None else [f"address={address}"]
        settings = self.settings(*more, *["frozen=true"] * frozen, *pinned)
        chosen = self.environment is not None or frozen or bool(pinned)
        chosen = chosen or any(text.startswith("address=") for text in self.overrides)
        if env is None and not chosen:
            env = os.environ.get("CONDAINER_ENV") or None
        if env is None:
            return settings
        return replace(settings, address=names.find(env, settings).address)

    def directory_for(self, address: str | None, env: str | None, own: Path) -> Path:
        """Return the directory whose configuration counts for the image that using() returns.

        It is the project, or for an image that is named `own`, which need not have any.
        """
        named = address is not None or env is not None or os.environ.get("CONDAINER_ENV")
        return own if named else self.directory.absolute()

    def building(self, *more: str) -> Settings:
        """Return the settings for a build, or for what prepares one."""
        return config.load_settings(
            self.directory, (*self.overrides, *more), environment=self.environment
        )

    def reporter(self) -> Reporter:
        """Return the reporter that fits the terminal and `-q`."""
        reporter = reporter_for(self.quiet)
        click.get_current_context().call_on_close(reporter.close)
        return reporter

    def say(self, text: str, colour: str = "") -> None:
        """Print a message for people, unless they want quiet."""
        if not self.quiet:
            say(text, colour=colour)

    def warn_if_behind(self, entry: Entry) -> None:
        """Say that a shell gets the last image that was built, although it has asked for quiet."""
        from condainer import pipeline

        project = config.load_settings(self.directory, environment=self.environment).of_user()
        reason = pipeline.behind(entry, project) if project.address is None else ""
        if reason:
            say(f"cnd: {reason}; activating the last image built, `cnd build` makes a new one")

    def would(self, *steps: str, as_json: bool = False) -> None:
        """Print what would be done without `--dryrun`."""
        if as_json:
            print_json({"would": steps})
        else:
            for step in steps or ("do nothing",):
                say(f"Would {step}")


class Command(click.Command):
    """A command that takes the options of the group, too, and says which project it has found."""

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
        # Before the output of the user's own commands there is nothing of ours.
        silent = self.name in ("exec", "shell") or context.params.get("as_json")
        if context.obj.note and not silent:
            context.obj.say(context.obj.note)
        return super().invoke(context)


def _tell_version(context: click.Context) -> None:
    from condainer import __version__

    show(f"condainer {__version__}")
    context.exit()


# What the options of the group are called where they stand after the command.
AFTER = "after_"


@functools.cache
def _anywhere() -> tuple[click.Parameter, ...]:
    found = []
    for parameter in cli.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            option = copy.copy(parameter)
            option.hidden, option.name = True, f"{AFTER}{parameter.name}"
            found.append(option)
    return tuple(found)


class Commands(click.Group):
    """A group whose rarer commands stand in modules that are imported when one is called."""

    command_class = Command
    # Command: the module that defines it.
    elsewhere: ClassVar[dict[str, str]] = {
        "audit": "condainer.cli.sbom",
        "bundle": "condainer.cli.fetch",
        "cache": "condainer.cli.cache",
        "clean": "condainer.cli.clean",
        "completion": "condainer.cli.completion",
        "diff": "condainer.cli.images",
        "kernel": "condainer.cli.kernel",
        "module": "condainer.cli.module",
        "pull": "condainer.cli.registry",
        "push": "condainer.cli.registry",
        "shell-hook": "condainer.cli.hook",
        "tag": "condainer.cli.images",
        "tree": "condainer.cli.tree",
        "why": "condainer.cli.tree",
        "wrap": "condainer.cli.wrap",
        "add": "condainer.cli.edit",
        "remove": "condainer.cli.edit",
        "export": "condainer.cli.verify",
        "fetch": "condainer.cli.fetch",
        "gc": "condainer.cli.gc",
        "import": "condainer.cli.verify",
        "licenses": "condainer.cli.sbom",
        "list": "condainer.cli.images",
        "lock": "condainer.cli.lock",
        "rm": "condainer.cli.images",
        "sbom": "condainer.cli.sbom",
        "share": "condainer.cli.images",
        "show": "condainer.cli.images",
        "sign": "condainer.cli.trust",
        "verify": "condainer.cli.verify",
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self.elsewhere})

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Offer the commands without importing them, and the options."""
        from condainer.cli.summaries import SUMMARIES

        found = [
            CompletionItem(name, help=summary)
            for name, summary in SUMMARIES.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, context, incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from condainer.cli.summaries import SUMMARIES

        for title, names in words.GROUPS.items():
            with formatter.section(title):
                # As wide everywhere, for one column of descriptions.
                formatter.write_dl([(f"{name:10}", SUMMARIES.get(name, "")) for name in names])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(context, name) is None:
            known = [*self.list_commands(context), *words.ALIASES, *words.INSTEAD]
            near = (difflib.get_close_matches(name, known, 1) or [""])[0]
            remedy = words.INSTEAD.get(near) or (f"Did you mean `{near}`?" if near else "")
            context.fail(f"There is no command `{name}`. {remedy}".rstrip())
        return super().resolve_command(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        name = words.ALIASES.get(name, name)
        if name in self.elsewhere:
            importlib.import_module(self.elsewhere[name])
        return super().get_command(context, name)


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
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _tell_version(context) if wanted else None,
    help="Print the version.",
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
        project, note = _existing(directory, "-d", str(directory)), ""
    else:
        found = Path(find_project.project_of(context.invoked_subcommand or ""))
        variable = find_project.VARIABLE
        project = _existing(found, variable, f"{variable}={found}")
        note = find_project.note(str(project))
    overrides = (*overrides, *OFFLINE * offline)
    context.obj = Call(project, note, quiet, dryrun, overrides, environment)


def _existing(directory: Path, origin: str, given: str) -> Path:
    if not directory.absolute().is_dir():
        raise ConfigError(
            f"{given}: no such directory", f"`{origin}` names the directory of environment.yml."
        )
    return directory.absolute()


@cli.command("help", hidden=True)
@click.argument("command", required=False, shell_complete=complete.commands)
@click.pass_context
def tell(context: click.Context, command: str | None) -> None:
    """Show the help of a command."""
    above = context.find_root()
    if command is None:
        show(above.get_help())
        return
    _, found, _ = cli.resolve_command(above, [command])
    if found is not None:
        show(found.get_help(click.Context(found, parent=above, info_name=command)))


@cli.command()
@click.option(
    "--convert", is_flag=True, help="Make a project of the original Condainer one of ours."
)
@click.pass_obj
def init(call: Call, convert: bool) -> None:
    """Begin a project: write its configuration.

    Writes a commented condainer.yml, an example environment.yml, or one for requirements.txt, and
    into .gitignore the scripts that builds make. Nothing that exists is overwritten, but
    for the original's condainer.yml with --convert, of which condainer.yml.original is a copy.
    """
    from condainer import beginning

    done = {
        "write": "Wrote {}",
        "extend": "Added to {}",
        "keep": "{} already exists; unchanged",
        "use": "{} is there, and is what `cnd build` makes the image from",
        "choose": "{} is there: name it as `requirements_txt` in condainer.yml to build from it",
        "remove": "Removed {}; the next build writes a new one",
        "convert": "{} is of the original Condainer; unchanged. `cnd init --convert` converts it",
    }
    begin = beginning.conversion if convert else beginning.changes
    for change in begin(call.directory):
        if call.dry:
            call.would(f"{change.verb} {change.path}")
        else:
            change.write()
            call.say(done[change.verb].format(change.path))


@cli.command()
@click.option("--locked", is_flag=True, help="Refuse a missing or stale lock, never solve.")
@click.option("--pull-only", is_flag=True, help="Take it from a cache or a registry, never build.")
@click.option(
    "--from",
    "source",
    type=Place(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take lock and packages from what `cnd bundle` wrote; make no connection.",
)
@ALL
@JSON
@click.pass_obj
def build(
    call: Call,
    locked: bool,
    pull_only: bool,
    source: Path | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Make the image, if no cache and no registry has it yet.

    Solves if the lock is missing or stale, looks for its image in caches and registries, and
    downloads, installs and compresses only on a miss.
    """
    from condainer.cli import environments

    if everything and source is not None:
        raise click.UsageError("A bundle has one environment: --from and --all exclude each other.")
    more = ["locked=true"] * locked + ["pull_only=true"] * pull_only
    more += ["offline=true"] * (source is not None)
    if source is not None and _unpack(call, source, more, as_json):
        return
    environments.each(call, everything, as_json, functools.partial(_build, more, as_json))


def _build(more: list[str], as_json: bool, call: Call) -> None:
    from condainer import project
    from condainer.cli import hit

    settings = call.building(*more)
    if call.dry:
        from condainer.integrations import wrappers

        steps = (*project.build_plan(settings), *wrappers.plan(settings))
        call.would(*steps, as_json=as_json)
        return
    hit.make(settings, call.reporter(), call.quiet, as_json, not call.overrides)


def _unpack(call: Call, source: Path, overrides: list[str], as_json: bool) -> bool:
    """Unpack a bundle before a build; tell whether that is all, because it is a dry run."""
    from condainer.transfer import bundle_reader

    if call.dry:
        settings = call.building(*overrides)
        plan = bundle_reader.unpack_plan(source.absolute(), call.directory, settings)
        call.would(*plan, "build the image, unless a cache has it", as_json=as_json)
        return True
    load = functools.partial(call.building, *overrides)
    done = bundle_reader.unpack(source.absolute(), call.directory, load, call.reporter())
    for path in done.written:
        call.say(f"Wrote {path}")
    return False


@cli.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@FROZEN
@ADDRESS
@ENV
@VERIFY
@click.argument(
    "command",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    shell_complete=complete.command_line,
)
@click.pass_obj
def execute(
    call: Call,
    command: tuple[str, ...],
    frozen: bool,
    address: str | None,
    env: str | None,
    verify: bool,
) -> None:
    """Run a command in the environment.

    Write `--` before a command that has options. The exit status is the command's own; 127 if it
    was not found, 126 if it cannot be executed, 125 if the environment could not be made available.
    """
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(frozen=frozen, address=address, env=env)
    if call.dry:
        plan = project.use_plan(settings)
        mounted = f"mount {plan.image} at {plan.prefix}"
        call.would(*plan.steps, mounted, f"run {shlex.join(command)}")
        return
    entry, lock = pipeline.current_entry(settings)
    run.command(command, run.Use(entry, lock, settings, call.reporter(), verify))


@cli.command("shell")
@FROZEN
@ADDRESS
@ENV
@VERIFY
@click.pass_obj
def subshell(call: Call, frozen: bool, address: str | None, env: str | None, verify: bool) -> None:
    """Start a shell with the environment active."""
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(frozen=frozen, address=address, env=env)
    if call.dry:
        plan = project.use_plan(settings)
        call.would(*plan.steps, f"mount {plan.image} at {plan.prefix} and start a shell")
        return
    entry, lock = pipeline.current_entry(settings)
    run.subshell(run.Use(entry, lock, settings, call.reporter(), verify))


@cli.command("mount")
@click.option("-p", "--print", "show", is_flag=True, help="Print the mount point to stdout.")
@ADDRESS
@ENV
@VERIFY
@click.option("--all-users", is_flag=True, help="Mount it for everybody; for root.")
@click.option("--shell", type=int, metavar="PID", help="For this shell; print its claim's file.")
@click.option("--warn", is_flag=True, hidden=True)
@click.pass_obj
def mount_image(
    call: Call,
    show: bool,
    address: str | None,
    env: str | None,
    verify: bool,
    all_users: bool,
    shell: int | None,
    warn: bool,
) -> None:
    """Mount the image, until `cnd umount`.

    With --all-users, the kernel mounts it where all users of this machine see it: for a prolog,
    or a shared login node.
    """
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(*["mount=kernel"] * all_users, address=address, env=env)
    if call.dry:
        plan = project.use_plan(settings)
        if plan.entry is not None:
            run.wanted(plan.entry, settings, verify)
        call.would(*plan.steps, f"mount {plan.image} at {plan.prefix}")
        if show:
            answer(plan.prefix)
        return
    entry, _ = pipeline.current_entry(settings)
    if (shell is not None or warn) and not (address or env):
        call.warn_if_behind(entry)
    if warn:
        # For a shell in which it is active already.
        return
    claim = run.mount(entry, settings, call.reporter(), verify, shell)
    if claim is not None:
        # What `deactivate` deletes.
        answer(str(claim))
    call.say(f"Mounted {entry.image} at {entry.prefix}")
    if show:
        answer(str(entry.prefix))


@cli.command("umount")
@click.option("--force", is_flag=True, help="Unmount even while it is in use.")
@click.option("--all", "everything", is_flag=True, help="Unmount all of yours on this machine.")
@ADDRESS
@ENV
@click.pass_obj
def unmount_image(
    call: Call, force: bool, everything: bool, address: str | None, env: str | None
) -> None:
    """Unmount the image.

    Refuses while processes use it, and names them.
    """
    from condainer import pipeline, project
    from condainer.mount import unmount

    settings = call.settings() if everything else call.using(address=address, env=env)
    if everything:
        if call.dry:
            call.would("unmount every image of yours on this machine")
            return
        cleared = unmount.unmount_all(settings, force)
        for line in unmount.lines(cleared):
            call.say(line)
        unmount.demand(cleared)
        return
    if call.dry:
        call.would(project.unmount_plan(settings))
        return
    image = pipeline.mount_of(settings)
    if unmount.unmount(image, force=force, tool_directory=settings.tool_directory):
        call.say(f"Unmounted {image.prefix}")
    else:
        call.say(f"{image.prefix} is not mounted")


@cli.command()
@click.option("--install", is_flag=True, help="Install squashfs-tools and squashfuse for yourself.")
@JSON
@click.pass_obj
def prereq(call: Call, install: bool, as_json: bool) -> None:
    """Check the tools that are needed, and tell what they can do.

    With --install, squashfs-tools and squashfuse come from conda-forge, or its mirrors, into your
    own directory, where they are found from then on; no root is needed.
    """
    from condainer import install_tools, prereq

    settings = call.settings()
    if call.dry:
        steps = [install_tools.plan()] if install else []
        call.would(*steps, "look for the tools, and ask them what they can do", as_json=as_json)
        return
    for name, _ in call.building().own_programs:
        call.say(f"`{name}` of this project is for its builds, and not looked at here")
    installed = install_tools.install(settings, call.reporter()) if install else None
    checks = prereq.check(settings)
    if as_json:
        report = {check.name: check.report() for check in checks}
        print_json(report | ({"installed": installed.report()} if installed else {}))
    else:
        for check in checks:
            show(check.line(), MARKS[check.mark])
    prereq.demand(checks)
    if told := prereq.instead(checks):
        call.say(told)


@cli.command()
@JSON
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show lock, address, image and mount point."""
    from condainer import project

    report = project.status(call.settings())
    if as_json:
        print_json(report)
    else:
        _print_table(report)


@cli.command()
@JSON
def version(as_json: bool) -> None:
    """Print the version."""
    from condainer import project

    versions = project.versions()
    if as_json:
        print_json(versions)
    else:
        show(f"condainer {versions['condainer']}")


def _print_table(rows: dict[str, Any]) -> None:
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, dict):
            value = f"{value['with']}: {value['why']}"
        if name == "size" and value is not None:
            value = human_size(value)
        if name == "packages":
            value = f"{value} (`cnd clean` removes what can be made again)"
        show(f"{name:{width}}  {'-' if value is None else printable(str(value))}")
