"""Ask conda-lock for a solution by an external conda, mamba or micromamba.

Not imported: it is a process of its own, so that its environment is what conda-lock hands on to the
executable, and that whatever these two print or leave behind ends with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return the packages that the executable would fetch, or what it said instead.

    Parameters: `question` holds the path of the executable, the platform, the URLs of the channels,
    the specs, and where to write a configuration that names the channels, if it is needed.
    """
    variables = dict(os.environ)
    from conda_lock.conda_solver import solve_specs_for_arch
    from conda_lock.models.channel import Channel

    # The conda inside conda-lock says there where it is, and the executable would believe that it
    # is in that place, and read the configuration there instead of its own.
    os.environ.clear()
    os.environ.update(variables)
    try:
        if question["condarc"]:
            name_channels(question["channels"], Path(question["condarc"]))
        plan = solve_specs_for_arch(
            conda=question["executable"],
            channels=[Channel.from_string(url) for url in question["channels"]],
            specs=question["specs"],
            platform=question["platform"],
        )
        return {"packages": plan["actions"]["FETCH"]}
    except subprocess.CalledProcessError as error:
        return {"status": error.returncode, "stdout": error.stdout, "stderr": error.stderr}
    except Exception as error:
        # Nothing is known of what an executable answers, nor of how conda-lock stumbles over it.
        return {"unusable": f"{type(error).__name__}: {error}"}


def name_channels(urls: list[str], path: Path) -> None:
    """Let an executable that makes a name of a channel's URL find that URL again by the name.

    conda does so in specs of the form `channel::name`, and would ask its usual host for the name.
    """
    from conda_lock._vendor.conda.models.channel import Channel

    names = {url: str(Channel(url).name) for url in urls}  # type: ignore[no-untyped-call]
    if len(set(names.values())) < len(names):
        raise ValueError(f"the channels {' and '.join(names)} have one name for it")
    known = {name: url.removesuffix(f"/{name}") for url, name in names.items()}
    path.write_text(json.dumps({"custom_channels": known}), "utf-8")
    os.environ["CONDARC"] = str(path)


def main(place: Path) -> None:
    """Answer the question that lies in a directory, in a file beside it."""
    question = json.loads((place / "question.json").read_text("utf-8"))
    # The interpreter was started without the paths of its user's or its caller's variables.
    sys.path[:] = question["path"]
    (place / "answer.json").write_text(json.dumps(answer(question)), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
