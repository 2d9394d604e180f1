"""The main job on real input, told step by step: `make demo`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import rattler

from condainer.system.files import remove_tree

TOP = Path(__file__).resolve().parents[1]
HERE = TOP / ".demo"
BIN = Path(sys.executable).parent


def main() -> int:
    """Run the demonstration; its status is that of the first command that fails."""
    start = time.monotonic()
    first, second = _projects()
    try:
        with local_or_public_channel() as mirrors:
            environment = _environment(mirrors)
            print("\nA project is a directory with an environment.yml:")
            _run(first, environment, "cat environment.yml requirements.txt")
            _run(first, environment, "cnd lock", "Lock it: solve once, write down exact packages")
            _run(first, environment, "cnd build", "Build it: a miss, so the image is made")
            _run(first, environment, "cnd build", "Build again: nothing changed, a hit")
            _run(first, environment, "cnd exec -- python hello.py", "Run Python from the image")
            _run(
                first,
                environment,
                "source ./activate && command -v python && python hello.py && source ./deactivate",
                "Activate it in a shell",
            )
            _run(first, environment, "cnd status", "Where everything is")
            _run(first, environment, "cnd umount", "Unmount it; soon, it happens by itself")
            _run(second, environment, "cat environment.yml", "Another project, written otherwise")
            _run(second, environment, "cnd build", "locks to the same packages: a hit, no build")
    except subprocess.CalledProcessError as error:
        print(f"\nThe demonstration stopped: status {error.returncode}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - start:.1f} s. What it made is in {HERE}.")
    return 0


def _projects() -> tuple[Path, Path]:
    """Make two fresh projects with an empty group cache; downloaded packages are kept."""
    for name in ("first", "second", "group-cache"):
        remove_tree(HERE / name)
    first, second = HERE / "first", HERE / "second"
    shutil.copytree(TOP / "demo" / "project", first)
    second.mkdir()
    (second / "environment.yml").write_text(
        "# The same packages, by other words.\n"
        "channels: [conda-forge]\n"
        "name: colleague\n"
        "dependencies: [pandas, numpy, python, {pip: [tabulate]}]\n"
        "variables: {OMP_PROC_BIND: close}\n",
        encoding="utf-8",
    )
    return first, second


@contextlib.contextmanager
def local_or_public_channel() -> Iterator[str]:
    """Use conda-forge where it answers, else the local channel; yield the mirror setting."""
    if _answers(rattler.Channel("conda-forge").base_url):
        print("Channel: conda-forge")
        yield ""
        return
    from tests.channel import ensure_channel, serve

    print("Channel: conda-forge cannot be reached; a local channel, made on the spot, stands in")
    start = time.monotonic()
    channel = ensure_channel(TOP / ".channel")
    print(f"         ({channel.relative_to(TOP)}, {time.monotonic() - start:.1f} s)")
    with serve(channel.parent) as server:
        yield f"conda-forge={server.url}/{channel.name}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/noarch/repodata.json.zst", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _environment(mirrors: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CONDAINER_")}
    ours.update(
        PATH=f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        CONDAINER_CACHE=str(HERE / "group-cache"),
        CONDAINER_PACKAGE_CACHE=str(HERE / "packages"),
    )
    return {**ours, "CONDAINER_MIRRORS": mirrors} if mirrors else ours


def _run(project: Path, environment: dict[str, str], command: str, title: str = "") -> None:
    """Show a command, run it in a shell, and tell how long it took."""
    if title:
        print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n# {title}")
    print(f"[{project.name}] $ {command}", flush=True)
    start = time.monotonic()
    subprocess.run(["bash", "-c", command], cwd=project, env=environment, check=True)
    print(f"    ({time.monotonic() - start:.2f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
