"""A lock to a finished prefix on disk, normalised so that its bytes depend on the lock alone."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer import (
    buildtools,
    fetching,
    mark,
    namespace,
    network,
    normalise,
    packages,
    process,
    wheels,
)
from condainer.address import MARKED, OURS, Address
from condainer.claims import claimed_directory, reclaim
from condainer.config import STAGE, Settings
from condainer.errors import BuildError, OfflineError, StorageError, ToolError
from condainer.files import (
    is_private_directory,
    remove_tree,
    storage_error_told,
    storage_errors,
)
from condainer.lock import CondaPackage, Lock, PipPackage
from condainer.process import CommandFailed
from condainer.report import Reporter

# Not imported: it runs under the interpreter of the environment.
COMPILER = Path(__file__).with_name("compile_tree.py")


@dataclass(frozen=True)
class Stage:
    """A private directory that becomes the root of an image.

    `runner` begins the command line of anything that has to see the directory at the prefix.
    """

    directory: Path
    prefix: Path
    scratch: Path
    runner: tuple[str, ...]


@contextlib.contextmanager
def staged(lock: Lock, address: Address, settings: Settings, reporter: Reporter) -> Iterator[Stage]:
    """Build the prefix of a lock, and remove all of it again at the end, however that comes.

    Raises BuildError, IntegrityError or NetworkError when a package cannot be installed,
    StorageError when the disk does not take it.
    """
    network.prepare(settings, reporter)
    try:
        archives = packages.fetch(lock.conda, settings, reporter)
        sources = wheels.fetch(lock.pip, settings, reporter)
    except OfflineError:
        # All that is missing at once, whichever kind it is.
        fetching.demand_local(fetching.missing(fetching.needs_of([lock], settings), settings))
        raise
    with _private_stage(address, settings) as stage:
        _fill(stage, lock, archives, sources, address, settings, reporter)
        yield stage


def _fill(
    stage: Stage,
    lock: Lock,
    archives: Sequence[Path],
    sources: Mapping[PipPackage, str],
    address: Address,
    settings: Settings,
    reporter: Reporter,
) -> None:
    with storage_errors(f"build in {stage.directory}"):
        order = packages.link(
            archives, stage.directory, stage.prefix, stage.scratch, settings, reporter
        )
        scripts = post_link_scripts(stage.directory, lock.conda, order)
        if scripts and lock.post_link_scripts:
            _run_post_link_scripts(stage, scripts, reporter)
        elif scripts:
            reporter.warn(
                "Post-link scripts were not run: "
                + ", ".join(package.name for package, _ in scripts)
                + " (set `post_link_scripts: true` in condainer.yml if the packages need them)"
            )
        if lock.pip:
            tools = buildtools.gathered(lock, stage.scratch / "tools", settings)
            wheels.install(sources, stage.prefix, stage.scratch, stage.runner, reporter, tools)
        _describe(stage, lock, address)
        normalise.metadata(stage.directory, stage.prefix)
        _compile(stage, settings, reporter)
        if address.recipe >= MARKED:
            mark.unchangeable(stage.directory, library_of(stage.directory))
        normalise.modes(stage.directory)


def _describe(stage: Stage, lock: Lock, address: Address) -> None:
    """Write what makes the image self-describing, and the variables where conda keeps them."""
    ours = stage.directory / OURS
    ours.mkdir(exist_ok=True)
    (ours / "address").write_text(f"{address.digest}\n", encoding="utf-8")
    (ours / "recipe").write_text(address.text, encoding="utf-8")
    state = {"version": 1, "env_vars": dict(lock.variables)}
    text = json.dumps(state, ensure_ascii=False, sort_keys=True)
    (stage.directory / "conda-meta" / "state").write_text(f"{text}\n", encoding="utf-8")


@contextlib.contextmanager
def _private_stage(address: Address, settings: Settings) -> Iterator[Stage]:
    """Make the private directories of a build; only this function knows where they are."""
    where = settings.staging_directory
    with contextlib.ExitStack() as stack:
        with storage_errors(f"make a staging directory in {where}"):
            where.mkdir(parents=True, exist_ok=True)
            reclaim(where)
            scratch = stack.enter_context(claimed_directory(where, STAGE))
        if not namespace.available():
            stack.enter_context(_at_the_prefix(address.prefix))
            yield Stage(address.prefix, address.prefix, scratch, ())
            return
        directory = scratch / "prefix"
        with storage_errors(f"make a staging directory in {where}"):
            directory.mkdir()
        runner = tuple(namespace.command(directory, address.prefix))
        yield Stage(directory, address.prefix, scratch, runner)


@contextlib.contextmanager
def _at_the_prefix(prefix: Path) -> Iterator[None]:
    """Stage at the final prefix itself, where user namespaces are not available."""
    with storage_errors(f"make the staging directory {prefix}"):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        try:
            prefix.mkdir(0o700)
        except FileExistsError:
            # What an interrupted process left is as good as new.
            if not is_private_directory(prefix) or any(prefix.iterdir()):
                raise StorageError(
                    f"{prefix} exists already, and without user namespaces the environment has "
                    "to be built there",
                    "Unmount it (`cnd umount`) or, if nothing is mounted or built there, delete "
                    "it; or build on a machine where user namespaces are enabled.",
                ) from None
    try:
        yield
    finally:
        remove_tree(prefix)


def python_of(directory: Path) -> Path | None:
    """Return the interpreter of an environment, or None if it has none."""
    python = directory / "bin" / "python"
    return python if python.exists() else None


def library_of(directory: Path) -> list[Path]:
    """Return the directories of an environment that hold its Python modules."""
    found = (path for path in directory.glob("lib/python3.*") if path.is_dir())
    # conda-forge's python comes with a second name for its library: a link.
    return sorted(path for path in found if not path.is_symlink())


def _compile(stage: Stage, settings: Settings, reporter: Reporter) -> None:
    """Compile all modules: files with a fixed time need .pyc files that do not look at it."""
    libraries = library_of(stage.directory)
    if python_of(stage.directory) is None or not libraries:
        return
    if _version(libraries[-1]) < (3, 7):
        reporter.warn("Python before 3.7 cannot load such .pyc files; modules are not compiled")
        return
    reporter.step("Compiling Python modules", "files")

    def on_line(line: str) -> None:
        done, _, total = line.partition(" ")
        reporter.progress(int(done), int(total))

    script = COMPILER.read_text(encoding="utf-8")
    final = [str(stage.prefix / path.relative_to(stage.directory)) for path in libraries]
    (stage.scratch / "compile_tree.py").write_text(script, encoding="utf-8")
    # Not -I: it would ignore PYTHONHASHSEED, on which sets in the byte code of 3.10 depend.
    command = [str(stage.prefix / "bin" / "python"), "-s", "-B", "-X", "utf8"]
    arguments = [str(stage.scratch / "compile_tree.py"), str(settings.jobs), *final]
    try:
        process.run([*stage.runner, *command, *arguments], env=_bare(stage), on_line=on_line)
    except CommandFailed as error:
        full = storage_error_told(f"compile Python modules in {stage.directory}", error.reason)
        raise full or BuildError(f"Compiling the Python modules failed: {error.reason}") from None


def _version(library: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", library.name))


def post_link_scripts(
    directory: Path, conda: Sequence[CondaPackage], order: Sequence[str]
) -> list[tuple[CondaPackage, Path]]:
    """Return the packages with a post-link script, dependencies first.

    Parameters: `order` holds the names of all packages in that order; the lock's own order is not
    a part of the address.
    """
    by_name = sorted(conda, key=lambda package: order.index(package.name))
    scripts = [(p, Path("bin", f".{p.name}-post-link.sh")) for p in by_name]
    return [(package, path) for package, path in scripts if (directory / path).is_file()]


def _run_post_link_scripts(
    stage: Stage, scripts: Sequence[tuple[CondaPackage, Path]], reporter: Reporter
) -> None:
    reporter.step("Running post-link scripts", "scripts")
    shell = process.find_tool("bash") or process.find_tool("sh")
    if shell is None:
        raise ToolError("Neither bash nor sh was found to run the post-link scripts")
    for number, (package, script) in enumerate(scripts, 1):
        stem = package.filename.removesuffix(".conda").removesuffix(".tar.bz2")
        name, version, build = stem.rsplit("-", 2)
        environment = {
            **_bare(stage),
            "PREFIX": str(stage.prefix),
            "PKG_NAME": name,
            "PKG_VERSION": version,
            "PKG_BUILDNUM": build.rpartition("_")[2],
            "PATH": f"{stage.prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        }
        try:
            process.run([*stage.runner, shell, str(stage.prefix / script)], env=environment)
        except CommandFailed as error:
            raise BuildError(
                f"The post-link script of {name} failed: {error.message}",
                "`post_link_scripts: false` in condainer.yml builds without them.",
            ) from None
        reporter.progress(number, len(scripts))


def _bare(stage: Stage) -> dict[str, str]:
    """Return an environment that is the same for every builder, so that it cannot show."""
    return {
        "HOME": str(stage.scratch),
        "TMPDIR": str(stage.scratch),
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        # Byte code must not depend on the hash seed of the process that compiled it.
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
