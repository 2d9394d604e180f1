"""Whatever stands in the way, was killed or is closed: no wrong result, no dead end, no hang."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.needed import needs_root
from tests.helpers.projects import PYTHON, SMALL, Project, build_at_once, unmeasured
from tests.helpers.waiting import until

CND = [sys.executable, "-m", "condainer"]


def start(project: Project, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CND, *arguments],
        cwd=project.path,
        env=unmeasured({**project.environment, **environment}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # The tests themselves may have been started by nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def until_step(child: subprocess.Popen[str], step: str) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith(step):
            return
    raise AssertionError(f"never came to {step}")


# What stands at the prefix


@pytest.mark.parametrize("kind", ["empty", "filled", "file"])
def test_what_stands_at_the_prefix_does_not_hinder_a_build(project: Project, kind: str) -> None:
    project.cnd("lock")
    prefix = Path(project.json("status")["prefix"])
    # The keeper of the test before may have left it.
    prefix.parent.mkdir(exist_ok=True)
    if kind == "file":
        prefix.write_text("in the way")
    else:
        (prefix / "bin").mkdir(parents=True) if kind == "filled" else prefix.mkdir()
    assert not project.json("build")["hit"]
    assert prefix.exists()
    shutil.rmtree(prefix) if prefix.is_dir() else prefix.unlink()
    assert project.cnd("exec", "probe-prefix").stdout.strip() == str(prefix)


def test_a_purged_image_is_built_again_while_the_old_one_is_mounted(project: Project) -> None:
    built = project.json("build")
    project.cnd("mount")
    shutil.rmtree(Path(built["image"]).parent)
    again = project.json("build")
    assert (again["hit"], again["sha256"]) == (False, built["sha256"])
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]


def test_builds_into_two_caches_at_once(make_project: Any, tmp_path: Path) -> None:
    text = "dependencies: [python, click]\n"
    projects = [
        make_project(name, text, CONDAINER_CACHE=str(tmp_path / f"cache of {name}"))
        for name in ("one", "two")
    ]
    for project in projects:
        project.cnd("lock")
    results = build_at_once(projects)
    assert [result["hit"] for result in results] == [False, False]
    assert len({result["sha256"] for result in results}) == 1
    base = Path(results[0]["prefix"]).parent
    assert not list(base.glob("condainer-*"))


# Killed processes


def test_a_killed_build_leaves_nothing_that_the_next_does_not_clear(
    make_project: Any, tmp_path: Path
) -> None:
    staging = tmp_path / "staging"
    project = make_project(text=PYTHON, CONDAINER_STAGING=str(staging))
    project.cnd("lock")
    for step in ("Linking", "Compiling", "Compressing"):
        child = start(project, "build")
        until_step(child, f"{step} ")
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert list(staging.iterdir())
    assert list((project.cache / "tmp").iterdir())
    assert not list((project.cache / "images").glob("*/*"))
    until(lambda: not processes_below(staging))
    assert not project.json("build")["hit"]
    assert not list(staging.iterdir())
    assert not list((project.cache / "tmp").iterdir())


def processes_below(path: Path) -> list[int]:
    """Return the processes whose command line names something below a path."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(path) in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
    return found


def test_a_killed_compiler_ends_the_build(make_project: Any, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    project = make_project(text=PYTHON, CONDAINER_STAGING=str(staging))
    project.cnd("lock")
    child = start(project, "build")
    until_step(child, "Compiling ")
    until(lambda: processes_below(staging / "none") or compilers(staging))
    os.kill(min(compilers(staging)), signal.SIGKILL)
    _, stderr = child.communicate()
    assert child.returncode == 11, stderr
    assert "SIGKILL" in stderr
    until(lambda: not processes_below(staging))
    assert not list(staging.iterdir())


def compilers(staging: Path) -> list[int]:
    return [
        pid
        for pid in processes_below(staging)
        if b"compile_tree.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        and b"condainer.system.namespace" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_a_lost_terminal_is_cleaned_up_after(make_project: Any, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    project = make_project(text=PYTHON, CONDAINER_STAGING=str(staging))
    child = start(project, "build")
    until_step(child, "Compiling ")
    child.send_signal(signal.SIGHUP)
    child.communicate()
    assert child.returncode == 129
    assert not list(staging.iterdir())
    assert not list((project.cache / "tmp").iterdir())


def test_an_incomplete_entry_that_cannot_be_cleared_is_stepped_around(project: Project) -> None:
    needs_root("to make a directory immovable")
    built = project.json("build")
    directory = Path(built["image"]).parent
    Path(built["image"]).unlink()
    # As immovable as another member's entry is in a sticky directory.
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        again = project.json("build")
        assert (again["hit"], again["sha256"]) == (False, built["sha256"])
        assert Path(again["image"]).parent.name == f"{built['address']}.1"
        assert project.json("build")["hit"]
        project.write(f"address: {built['address'][:9]!r}\n", "condainer.yml")
        assert project.json("build")["image"] == again["image"]
    finally:
        subprocess.run(["umount", directory], check=True)


# What a build trusts


def test_a_changed_file_in_the_package_cache_does_not_get_into_an_image(
    make_project: Any, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    project = make_project(CONDAINER_PACKAGE_CACHE=str(packages))
    built = project.json("build")
    victim = next((packages / "unpacked").rglob("prefix.txt"))
    text = victim.read_bytes()
    victim.write_bytes(text[:-2] + b"!!")
    shutil.rmtree(project.cache)
    assert project.json("build")["sha256"] == built["sha256"]
    archive = next((packages / "archives").rglob("probe-files*"))
    archive.write_bytes(b"damaged" + archive.read_bytes()[7:])
    shutil.rmtree(project.cache)
    assert project.json("build")["sha256"] == built["sha256"]


def test_hashes_of_requirements_are_compared(make_project: Any) -> None:
    project = make_project(text=PYTHON)
    zeros = "0" * 64
    project.write(f"tabulate==0.9.0 --hash=sha256:{zeros}\n", "requirements.txt")
    done = project.cnd("lock", status=4)
    assert "requirements.txt:1" in done.stderr
    assert not list(project.path.glob("*lock*"))
    project.write("tabulate==0.9.0\n", "requirements.txt")
    project.cnd("lock")
    line = project.lockfile.read_text().splitlines()[-1]
    url, _, digest = line.partition(" @ ")[2].partition("#sha256=")
    right = f"tabulate==0.9.0 --hash=sha256:{zeros} \\\n  --hash=sha256:{digest}\n"
    project.write(right, "requirements.txt")
    project.cnd("lock")
    # As `uv pip compile --universal` writes one release for older interpreters and one for newer.
    other = f"tabulate==0.8.10 ; python_version < '3' --hash=sha256:{zeros}\n"
    project.write(other + right, "requirements.txt")
    project.cnd("lock")
    project.write(
        f"tabulate==0.9.0 ; python_version > '3' --hash=sha256:{zeros}\n", "requirements.txt"
    )
    assert "requirements.txt:1" in project.cnd("lock", status=4).stderr
    # The URL's own hash is what is locked, and the file does not have it.
    project.write(f"tabulate @ {url}#sha256={zeros}\n", "requirements.txt")
    project.cnd("build", status=9)
    project.write(f"tabulate @ {url}#sha256={digest}\n", "requirements.txt")
    project.cnd("lock")


def test_an_sdist_is_marked_and_told(make_project: Any) -> None:
    project = make_project(text=PYTHON)
    project.write("--no-binary tabulate\ntabulate==0.9.0\n", "requirements.txt")
    done = project.cnd("lock")
    assert "tabulate-0.9.0.tar.gz" in done.stderr
    built = project.json("build")
    recipe = subprocess.run(
        ["unsquashfs", "-cat", built["image"], ".condainer/recipe"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "\nsdist tabulate-0.9.0.tar.gz sha256:" in recipe
    assert "\n# built from source: tabulate\n" in project.lockfile.read_text()
    manifest = json.loads(Path(built["image"]).with_name("manifest.json").read_text())
    assert manifest["built_from_source"] == ["tabulate"]
    assert "built from source: tabulate\n" in project.cnd("show", built["address"]).stdout
    code = "import tabulate; print(tabulate.__version__)"
    assert project.cnd("exec", "python", "-c", code).stdout == "0.9.0\n"


@pytest.mark.parametrize("name", ["..%2F..%2F..%2FPWNED-1.0-0.tar.bz2", "a%0Ab-1.0-0.conda"])
def test_a_conda_lock_cannot_name_files_elsewhere(
    make_project: Any, name: str, tmp_path: Path
) -> None:
    first = make_project("first")
    first.cnd("lock")
    text = (first.path / "conda-lock.yml").read_text()
    evil = make_project("evil", text="")
    lines = text.partition("\n")[2].replace("probe-prefix-1.0-0.conda", name)
    evil.write(lines, "conda-lock.yml")
    evil.cnd("build", status=8)
    assert not list(tmp_path.rglob("*PWNED*"))


def test_a_pin_is_held_to_its_own_lock(project: Project) -> None:
    built = project.json("build")
    project.write(f"address: {built['address']!r}\n", "condainer.yml")
    project.cnd("exec", "true")
    manifest = Path(built["image"]).with_name("manifest.json")
    content = json.loads(manifest.read_text())
    manifest.chmod(0o644)
    manifest.write_text(json.dumps({**content, "recipe_sha256": "0" * 64}))
    project.cnd("build", status=13)
    manifest.write_text("[" * 100_000)
    project.cnd("build", status=15)


def test_files_of_others_are_not_overwritten(make_project: Any) -> None:
    project = make_project("ours")
    project.cnd("lock")
    explicit = "\n".join(
        line for line in project.lockfile.read_text().splitlines() if line[0] != "#"
    )
    text = (project.path / "conda-lock.yml").read_text().partition("\n")[2]
    other = make_project("other")
    other.write(text, "conda-lock.yml")
    other.write("post_link_scripts: true\n", "condainer.yml")
    other.json("build")
    other.json("build")
    assert "another tool" in other.cnd("lock", status=8).stderr
    assert (other.path / "conda-lock.yml").read_text() == text
    third = make_project("third")
    third.write(explicit, project.lockfile.name)
    third.cnd("lock", status=8)
    assert third.lockfile.read_text() == explicit
    third.write("echo mine\n", "activate")
    assert "activate" in third.cnd("build").stderr
    assert (third.path / "activate").read_text() == "echo mine\n"
    assert third.cnd("lock", status=7, CONDAINER_LOCKED="1").stdout == ""


def test_activation_needs_no_environment_of_the_build(project: Project) -> None:
    project.cnd("build")
    keep = ("PATH", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    bare = {k: v for k, v in project.environment.items() if k in keep}
    base = project.environment["CONDAINER_MOUNT_BASE"]
    project.environment = {**bare, "CONDAINER_MOUNT_BASE": base}
    done = project.bash("source activate && probe-prefix && cnd umount --force; true")
    assert f"{base}/condainer-" in done.stdout, done.stderr


def test_a_read_only_project_with_a_conda_lock_builds(make_project: Any, tmp_path: Path) -> None:
    needs_root("to mount read-only")
    first = make_project("first")
    built = first.json("build")
    first.lockfile.unlink()
    (first.path / "activate").unlink()
    subprocess.run(["mount", "--bind", first.path, first.path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", first.path], check=True)
        done = first.cnd("build", "--json")
        assert json.loads(done.stdout)["image"] == built["image"]
        assert "activate" in done.stderr
        assert first.cnd("lock", status=12).stderr.count(str(first.path)) >= 1
    finally:
        subprocess.run(["umount", first.path], check=True)


# Odd files and streams


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("environment.yml", 4),
        ("requirements.txt", 4),
        ("conda-linux-64.lock", 8),
        ("condainer.yml", 3),
    ],
)
@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "device"])
def test_what_is_no_file(project: Project, name: str, status: int, kind: str) -> None:
    project.cnd("lock")
    path = project.path / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    assert name in project.cnd("build", status=status).stderr


def test_a_project_whose_name_is_no_text(make_project: Any, tmp_path: Path) -> None:
    template = make_project()
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(path)
    project = Project(Path(os.fsdecode(path)), template.environment)
    (project.path / "environment.yml").write_text(SMALL)
    project.cnd("init")
    built = project.json("build")
    done = project.bash("source ./activate && probe-prefix")
    assert done.stdout.strip() == built["prefix"], done.stderr
    project.cnd("umount")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(project: Project, closed: str) -> None:
    command = f"{sys.executable} -m condainer"
    script = f"{command} build --json {closed}; {command} exec -- sh -c 'exit 6' {closed}"
    done = project.bash(script)
    assert done.returncode == 6, done.stderr
    assert "bug" not in done.stderr
    assert project.json("build")["hit"]


def test_a_full_disk_behind_stdout(project: Project) -> None:
    project.cnd("build")
    for command in ("status --json", "version", "build --json"):
        done = project.bash(f"{sys.executable} -m condainer {command} > /dev/full")
        assert done.returncode == 12, command
        assert "No space left" in done.stderr


def test_the_terminal_is_left_as_it_was(project: Project) -> None:
    project.write("dependencies: [no-such-package-x]\n")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*CND, "build"],
        cwd=project.path,
        env={**project.environment, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    output = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 4096):
            output += chunk
    os.close(master)
    assert child.wait() == 5
    assert output.count(b"\x1b[?25l") == output.count(b"\x1b[?25h")
    message = output[output.index(b"cnd:") :]
    assert b"Solving" not in message


def test_unsafe_mount_bases_are_refused_before_anything_is_built(
    make_project: Any, tmp_path: Path
) -> None:
    base = tmp_path / "open to all"
    base.mkdir()
    base.chmod(0o777)
    project = make_project(CONDAINER_MOUNT_BASE=str(base))
    done = project.cnd("build", status=14)
    assert str(base) in done.stderr
    assert not (project.cache / "images").exists()
    base.chmod(0o1777)
    project.cnd("build")
