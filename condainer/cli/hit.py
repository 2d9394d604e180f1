"""`cnd build` and `cnd exec` without their rare options.

They need no click and, if a cache has the image of a current lock, neither YAML nor engines. The
command line answers all other calls.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from condainer import pipeline
from condainer.cli import console
from condainer.cli.console import print_json, reporter_for, say
from condainer.pipeline import Built
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.startup.answer import Call, use
from condainer.startup.find_project import note
from condainer.system.reporter import Reporter
from condainer.system.text import human_size

# Options of `cnd build`, and the keys that they set.
FLAGS = {"--locked": "locked", "--pull-only": "pull_only"}


def answer(call: Call) -> int | None:
    """Do what a call asks for and return the exit status; None if the command line has to.

    Raises CondainerError, CommandNotStarted.
    """
    project = Path(call.directory)
    if not project.is_dir():
        return None
    if call.command == "build":
        told = not (call.named or call.quiet or "--json" in call.words)
        if told and (text := note(call.directory)):
            say(text)
        chosen = [f"{FLAGS[word]}=true" for word in call.words if word in FLAGS]
        settings = load_settings(project, chosen, environment=call.environment)
        make(settings, reporter_for(call.quiet), call.quiet, "--json" in call.words)
        return 0
    if call.command == "activation-variables":
        # Only the activation scripts ask, and say which variables they save by themselves.
        from condainer.activate import package_variables

        syntax, prefix, saved = call.words
        console.answer(package_variables.text(syntax, prefix, saved.split(":")))
        return 0
    _execute(project, call)
    return None


def make(
    settings: Settings, reporter: Reporter, quiet: bool, as_json: bool, stamped: bool = True
) -> None:
    """Find or make the image of a project, write its stamp if `stamped`, and say so.

    Raises CondainerError.
    """
    try:
        built = _built(settings, reporter)
    finally:
        reporter.close()
    if stamped:
        from condainer import remember

        remember.remember(settings, built, reporter.told)
    if as_json:
        print_json(built.report())
    elif not quiet:
        verb = "Found" if built.hit else "Built"
        size = human_size(built.entry.manifest.size)
        say(f"{verb} {built.entry.image} ({size}) in {built.seconds:.2f} s")
        say(use(str(settings.project), settings.environment_name))


def _built(settings: Settings, reporter: Reporter) -> Built:
    """Find or make the image of a project, and the wrappers that it asks for."""
    if settings.wrappers is None:
        return pipeline.ensure(settings, reporter)
    from condainer.integrations import wrappers

    wrappers.check(settings)
    built = pipeline.ensure(settings, reporter)
    if done := wrappers.of_project(built.entry, settings):
        reporter.note(f"Wrote {len(done.programs)} wrappers into {done.path}")
    return built


def _execute(project: Path, call: Call) -> None:
    """Become a command in the image; without a stamp, leave one, to be quicker the next time."""
    from condainer.activate import run

    settings = load_settings(project, call.overrides, environment=call.environment).of_user()
    if call.env:
        from condainer.cache import names

        settings = replace(settings, address=names.address(call.env, settings))
    entry, lock = pipeline.current_entry(settings)
    use = run.Use(entry, lock, settings, reporter_for(call.quiet))

    def stamp() -> None:
        if not call.stamped:
            from condainer import remember

            remember.remember(settings, None, env=call.env, overrides=call.overrides)

    run.command(call.words, use, stamp)
