"""Scripts of conda packages start in every prefix, with the arguments of their interpreter."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file
from tests.helpers import tiny

INTERPRETER = """\
#!/bin/sh
printf '%s,' "$@"
"""


@pytest.fixture
def scripts(tmp_path: Path) -> str:
    """A channel with scripts whose interpreter is in the package."""
    channel = tmp_path / "channel"
    shebang = f"#!{PLACEHOLDER}/bin/tell"
    files = [
        ("bin/tell", INTERPRETER),
        ("bin/plain", f"{shebang}\n"),
        ("bin/one", f"{shebang} -e\n"),
        ("bin/two", f"{shebang} -e --other\necho\n"),
        ("bin/env", f"#!/usr/bin/env tell\n# {PLACEHOLDER}\n"),
    ]
    tiny.package(channel, "scripts", "1.0", files=files)
    tiny.index(channel)
    return channel.as_uri()


@pytest.mark.parametrize("base", ["a b", "x" * 100, "short"])
def test_scripts_start(make_project: Any, tmp_path: Path, scripts: str, base: str) -> None:
    # Short enough for every kernel.
    place = Path(tempfile.mkdtemp(dir="/tmp")) if base == "short" else tmp_path / base
    place.mkdir(exist_ok=True)
    text = f"channels: ['{scripts}']\ndependencies: [scripts]\n"
    project = make_project(text=text, CONDAINER_MOUNT_BASE=str(place))
    project.cnd("build")
    for name, arguments in (("plain", []), ("one", ["-e"]), ("two", ["-e", "--other"])):
        told = project.cnd("exec", "--", name, "word").stdout.split(",")[:-1]
        if base == "short" and name == "two":
            # The kernel's own way: one argument.
            arguments = ["-e --other"]
        assert told[: len(arguments)] == arguments, name
        assert Path(told[-2]).name == name
        assert told[-1] == "word"
    show = 'for f in bin/plain bin/one bin/two bin/env; do head -1 "$CONDA_PREFIX/$f"; done'
    first = project.cnd("exec", "--", "sh", "-c", show).stdout.splitlines()
    if base == "short":
        assert [line.rpartition("/bin/")[2] for line in first] == [
            "tell",
            "tell -e",
            "tell -e --other",
            "env tell",
        ]
    else:
        # What has no argument is as it always was.
        assert first == [
            "#!/usr/bin/env tell",
            "#!/usr/bin/env -S tell -e",
            "#!/usr/bin/env -S tell -e --other",
            "#!/usr/bin/env tell",
        ]
    # The record of the package tells of the bytes that are there.
    show = 'cat "$CONDA_PREFIX"/conda-meta/scripts-*.json'
    record = json.loads(project.cnd("exec", "--", "sh", "-c", show).stdout)
    for path in record["paths_data"]["paths"]:
        content = project.cnd("exec", "--", "sh", "-c", f'cat "$CONDA_PREFIX/{path["_path"]}"')
        digest = hashlib.sha256(content.stdout.encode()).hexdigest()
        assert path.get("sha256_in_prefix", path["sha256"]) == digest
        assert path["size_in_bytes"] == len(content.stdout)
    project.cnd("verify")


# Tells whether Python got `-E`, and its own arguments.
TELL = "import sys\n\n\ndef main():\n    print(sys.flags.ignore_environment, *sys.argv[1:])\n"


def python_package(channel: Path) -> None:
    """Write a package with an entry point, and scripts with arguments for their Python."""
    tree = channel.parent / "trees/said"
    write_file(tree / "site-packages/said.py", TELL)
    for name, arguments in (("one", " -E"), ("two", " -E -W ignore")):
        text = f"#!{PLACEHOLDER}/bin/python{arguments}\nimport said\nsaid.main()\n"
        write_file(tree / f"python-scripts/said-{name}", text, 0o755)
    points = ("said = said:main",)
    recipe = Recipe("said", "1.0", "py_0", ("python",), noarch="python", entry_points=points)
    write_conda(tree, recipe, channel)
    tiny.index(channel)


def wheel_with_scripts(directory: Path) -> None:
    """Write a wheel with entry points of both kinds and a script."""
    info = "told-1.0.dist-info"
    points = "[console_scripts]\ntold = told:main\n[gui_scripts]\ntold-window = told:main\n"
    texts = {
        "told.py": TELL,
        "told-1.0.data/scripts/told-script": "#!python\nimport told\ntold.main()\n",
        f"{info}/METADATA": tiny.dist_info("told", "1.0"),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": points,
    }
    texts[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*texts, f"{info}/RECORD"])
    with zipfile.ZipFile(directory / "told-1.0-py3-none-any.whl", "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


@pytest.mark.parametrize("base", ["a b", "x" * 100])
def test_scripts_of_python_start(
    make_project: Any, tmp_path: Path, empty_packages: Path, base: str
) -> None:
    python_package(tmp_path / "channel")
    wheel_with_scripts(tmp_path)
    channels = f"channels: ['{(tmp_path / 'channel').as_uri()}', conda-forge]"
    with tiny.serve_wheels(tmp_path) as url:
        project = make_project(
            text=f"{channels}\ndependencies: [said, {{pip: [--index-url {url}, told]}}]\n",
            CONDAINER_MOUNT_BASE=str(tmp_path / base),
            CONDAINER_PACKAGE_CACHE=str(empty_packages),
        )
        project.cnd("build")
    # Also where nothing is activated, by their paths.
    run = """
cd "$CONDA_PREFIX/bin"
for name in said said-one said-two told told-window told-script; do
    "$name" by name
    env -i "$CONDA_PREFIX/bin/$name" by path
done
"""
    told = project.cnd("exec", "--", "sh", "-ec", run).stdout.splitlines()
    flags = [0, 1, 1, 0, 0, 0]
    assert told == [f"{flag} by {what}" for flag in flags for what in ("name", "path")]
