"""Scripts of conda packages start in every prefix, with the arguments of their interpreter."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.channel.package import PLACEHOLDER
from tests.integration import tiny

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
