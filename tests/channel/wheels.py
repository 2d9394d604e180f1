"""Wheels from PyPI, repacked as conda packages."""

from __future__ import annotations

import configparser
import email
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file
from tests.channel.pins import CONDA_NAMES, NEWEST, OLDER, TOOLS
from tests.channel.python import SHORT

PYTHON_PIN = (
    f"python >={SHORT},<{sys.version_info.major}.{sys.version_info.minor + 1}.0a0"  # one ABI
)

SCRIPT = """\
#!{interpreter}
import sys

from {module} import {base}

if __name__ == "__main__":
    sys.exit({function}())
"""


def fetch_wheels(directory: Path) -> list[Path]:
    """Download the pinned wheels that are not in the directory yet, and list them all.

    Args:
        directory: where wheels are kept from one build of the channel to the next.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # One call cannot download two versions of one project.
    for pins in (NEWEST | TOOLS, OLDER):
        there = _wheels_by_pin(directory)
        missing = [
            f"{name}=={version}" for name, version in pins.items() if (name, version) not in there
        ]
        if missing:
            _download(missing, directory)
    there = _wheels_by_pin(directory)
    return [there[pin] for pins in (NEWEST, OLDER, TOOLS) for pin in pins.items()]


def _download(requirements: list[str], directory: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--only-binary", ":all:", "--no-deps", "--dest", str(directory)]
    result = subprocess.run([*pip, *options, *requirements], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"pip could not download {requirements}:\n{result.stderr}")


def _wheels_by_pin(directory: Path) -> dict[tuple[str, str], Path]:
    found = {}
    for wheel in sorted(directory.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        found[str(name), str(version)] = wheel
    return found


def write_wheel(wheel: Path, work: Path, channel: Path) -> None:
    """Write a wheel as a conda package: `noarch: python` if it is pure, else for linux-64.

    Args:
        wheel: the wheel.
        work: an empty directory to stage the files in.
        channel: the channel's directory.
    """
    name, version, _, tags = parse_wheel_filename(wheel.name)
    pure = all(tag.platform == "any" for tag in tags)
    packages = work / ("site-packages" if pure else f"lib/python{SHORT}/site-packages")
    programs = work / ("python-scripts" if pure else "bin")
    _unpack(wheel, work, packages, programs)
    (information,) = packages.glob("*.dist-info")
    write_file(information / "INSTALLER", "conda\n")
    metadata = email.message_from_string((information / "METADATA").read_text(encoding="utf-8"))
    scripts = _console_scripts(information / "entry_points.txt")
    if not pure:
        _write_scripts(scripts, programs)
    recipe = Recipe(
        name=CONDA_NAMES.get(name, name),
        version=str(version),
        build="py_0" if pure else f"py{SHORT.replace('.', '')}_0",
        depends=(_python(metadata) if pure else PYTHON_PIN, *_dependencies(metadata)),
        subdir="noarch" if pure else "linux-64",
        noarch="python" if pure else None,
        entry_points=scripts if pure else (),
        license=metadata.get("License-Expression", ""),
    )
    write_conda(work, recipe, channel)


def _unpack(wheel: Path, work: Path, packages: Path, programs: Path) -> None:
    """Put each of the wheel's files where an installer of wheels would put it."""
    homes = {
        "purelib": packages,
        "platlib": packages,
        "scripts": programs,
        "data": work,
        "headers": work / "include" / f"python{SHORT}",
    }
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            first, *rest = PurePosixPath(member.filename).parts
            scheme = rest[0] if first.endswith(".data") else "purelib"
            parts = rest[1:] if first.endswith(".data") else [first, *rest]
            target = homes[scheme].joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            executable = scheme == "scripts" or (member.external_attr >> 16) & 0o111
            target.chmod(0o755 if executable else 0o644)
            if scheme == "scripts":
                _name_interpreter(target)


def _name_interpreter(script: Path) -> None:
    """Turn the `#!python` of a wheel's script into the prefix's interpreter."""
    content = script.read_bytes()
    if content.startswith(b"#!python"):
        _, _, body = content.partition(b"\n")
        script.write_bytes(f"#!{PLACEHOLDER}/bin/python\n".encode() + body)


def _console_scripts(entry_points: Path) -> tuple[str, ...]:
    if not entry_points.is_file():
        return ()
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(entry_points.read_text(encoding="utf-8"))
    sections = [name for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
    # An extra in brackets is a matter of the wheel's own installer.
    points = [
        (key, value.split("[")[0].strip()) for s in sections for key, value in parser[s].items()
    ]
    return tuple(f"{key} = {value}" for key, value in sorted(points))


def _write_scripts(entry_points: Iterable[str], programs: Path) -> None:
    for entry_point in entry_points:
        name, _, target = entry_point.partition(" = ")
        module, _, function = target.partition(":")
        interpreter = f"{PLACEHOLDER}/bin/python"
        base = function.split(".")[0]
        text = SCRIPT.format(interpreter=interpreter, module=module, base=base, function=function)
        write_file(programs / name, text, 0o755)


def _python(metadata: Message) -> str:
    wanted = _conda_version(SpecifierSet(metadata.get("Requires-Python", "")))
    return f"python {wanted}".rstrip()


def _dependencies(metadata: Message) -> list[str]:
    """Express what the wheel requires of this interpreter as match specs."""
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    needed = [r for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    names = {r.name: canonicalize_name(r.name) for r in needed}
    specs = [
        f"{CONDA_NAMES.get(names[r.name], names[r.name])} {_conda_version(r.specifier)}".rstrip()
        for r in needed
    ]
    return sorted(set(specs))


def _conda_version(specifiers: SpecifierSet) -> str:
    parts = sorted(str(specifier) for specifier in specifiers)
    # "==1.*" is "1.*" in conda; the rest of the syntax is common to both.
    return ",".join(p.removeprefix("==") if p.endswith(".*") and "!" not in p else p for p in parts)
