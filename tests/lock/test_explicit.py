"""The explicit lockfile: what is written is read again, and damage never passes for a lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.lock import lock_paths
from condainer.lock.explicit import parse_explicit, read_explicit, render_explicit
from condainer.lock.locks import (
    ABSENT,
    CondaPackage,
    Lock,
    PipPackage,
    Source,
    escape,
    file_digest,
    source_of,
    sources_unchanged,
    unescape,
)
from condainer.settings.config import Settings
from condainer.system.errors import LockfileError
from tests.helpers.locks import CHANNEL, locks

Write = Callable[[str, str | bytes], Path]

A, B, C, D = (letter * 64 for letter in "abcd")
PYTHON = CondaPackage(f"{CHANNEL}/linux-64/python-3.12.1-h1_0_cpython.conda", A)
TZDATA = CondaPackage(f"{CHANNEL}/noarch/tzdata-2024a-h0_0.tar.bz2", B)
RICH = PipPackage("rich", "https://wheels.example/rich-15.0-py3-none-any.whl", C)
LOCK = Lock(
    platform="linux-64",
    conda=(PYTHON, TZDATA),
    pip=(RICH,),
    variables=(("A", "x"), ("B", " two \n lines\\n ")),
    post_link_scripts=True,
    inputs=D,
    sources=(Source("environment.yml", A), Source("../with blank ", B), Source("r.txt", ABSENT)),
    name="für alle ",
)


def parse(text: str, platform: str = "linux-64") -> Lock:
    return parse_explicit(text, "dir/my.lock", platform)


def refused(text: str, platform: str = "linux-64") -> LockfileError:
    with pytest.raises(LockfileError) as caught:
        parse(text, platform)
    assert caught.value.message.startswith("dir/my.lock:")
    assert caught.value.hint
    return caught.value


def explicit(*lines: str) -> str:
    return "\n".join(["@EXPLICIT", *lines, ""])


# --- values -----------------------------------------------------------------------------------


@given(st.text())
def test_escaping_keeps_a_value_on_one_line_and_can_be_undone(value: str) -> None:
    escaped = escape(value)
    assert "\n" not in escaped
    assert "\r" not in escaped
    assert unescape(escaped) == value


@given(st.text(alphabet="\\nr\n\r "))
def test_escaping_backslashes(value: str) -> None:
    assert unescape(escape(value)) == value


@given(st.text(), st.text())
def test_different_values_are_escaped_differently(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("url", "name", "filename", "subdir"),
    [
        (PYTHON.url, "python", "python-3.12.1-h1_0_cpython.conda", "linux-64"),
        (TZDATA.url, "tzdata", "tzdata-2024a-h0_0.tar.bz2", "noarch"),
        (
            "https://h.example/noarch/a-b_c.d-1!2.0%2B3-0.conda",
            "a-b_c.d",
            "a-b_c.d-1!2.0+3-0.conda",
            "noarch",
        ),
        ("file:///x/linux%2D64/a-1-0.conda?t=1", "a", "a-1-0.conda", "linux-64"),
    ],
)
def test_parts_of_a_package_url(url: str, name: str, filename: str, subdir: str) -> None:
    package = CondaPackage(url, A)
    assert (package.name, package.filename, package.subdir) == (name, filename, subdir)


def test_the_file_name_of_a_wheel() -> None:
    url = "https://h.example/a/torch-2.0%2Bcpu-cp312-cp312-linux_x86_64.whl?x=1"
    assert PipPackage("torch", url, A).filename == "torch-2.0+cpu-cp312-cp312-linux_x86_64.whl"


def test_the_places_of_locks() -> None:
    places = (lock_paths.lockfile_path, lock_paths.completed_path)
    several = (("default", ()), ("py3.12-gpu", ()))
    for asked, infix in (("", ""), ("default", ""), ("py3.12-gpu", "py3.12-gpu-")):
        settings = Settings(Path("/p"), environments=several, asked=asked)
        names = [path(settings, "linux-64").name for path in places]
        assert names == [f"conda-{infix}linux-64.lock", f"condainer-{infix}linux-64.lock"]
        for name in names:
            match = lock_paths.LOCKFILE.fullmatch(name)
            assert match is not None
            assert match["platform"] == "linux-64"
            assert match["environment"] == (infix.removesuffix("-") or None)
        # conda-lock and micromamba know it by its end.
        assert lock_paths.conda_lock_path(settings).name.endswith("conda-lock.yml")


# --- writing and reading ----------------------------------------------------------------------


def test_what_is_written_is_read_again() -> None:
    assert parse(render_explicit(LOCK)) == LOCK


def test_a_lock_taken_over_from_another_tool_keeps_its_origin() -> None:
    lock = replace(LOCK, origin="conda-lock.yml")
    assert parse(render_explicit(lock)) == lock


def test_conda_can_read_what_is_written() -> None:
    lines = render_explicit(LOCK).splitlines()
    packages = lines[lines.index("@EXPLICIT") + 1 :]
    assert packages[:2] == [f"{PYTHON.url}#sha256:{A}", f"{TZDATA.url}#sha256:{B}"]
    # Everything else is a comment to conda.
    assert all(line.startswith("# ") for line in lines[: lines.index("@EXPLICIT")])
    assert all(line.startswith("# ") for line in packages[2:])


def test_the_text_is_the_same_each_time() -> None:
    assert render_explicit(parse(render_explicit(LOCK))) == render_explicit(LOCK)


@given(locks)
def test_every_lock_survives_writing_and_reading(lock: Lock) -> None:
    assert parse(render_explicit(lock)) == lock


@given(locks, st.sampled_from(["\r\n", "\n\n"]))
def test_other_line_ends_change_nothing(lock: Lock, end: str) -> None:
    assert parse(render_explicit(lock).replace("\n", end)) == lock


@given(locks, st.data())
def test_no_truncated_lock_passes_for_a_whole_one(lock: Lock, data: st.DataObject) -> None:
    text = render_explicit(lock).rstrip("\n")
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(LockfileError):
        parse(text[:cut])


@given(locks, st.data())
def test_no_lost_package_line_goes_unnoticed(lock: Lock, data: st.DataObject) -> None:
    lines = render_explicit(lock).split("\n")
    start = lines.index("@EXPLICIT") + 1
    del lines[data.draw(st.integers(start, len(lines) - 2))]
    with pytest.raises(LockfileError):
        parse("\n".join(lines))


@given(st.text(max_size=80))
def test_any_text_is_a_lock_or_an_error_with_the_file(text: str) -> None:
    message = "dir/my.lock:"
    try:
        parse(f"@EXPLICIT\n{text}")
    except LockfileError as error:
        message = error.message
    assert message.startswith("dir/my.lock:")


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_with_byte_order_mark_and_windows_line_ends(
    write: Write, prefix: bytes, end: bytes
) -> None:
    path = write("my.lock", prefix + render_explicit(LOCK).encode().replace(b"\n", end))
    assert read_explicit(path, "linux-64") == LOCK


# --- locks of other tools ---------------------------------------------------------------------


def test_a_lock_of_another_tool() -> None:
    lock = parse(
        "# Generated by conda-lock.\n"
        "# platform: linux-64\n"
        f"# input_hash: {D}\n"
        "# name: not ours\n"
        "\n"
        "@EXPLICIT\n"
        f"{PYTHON.url}#{A.upper()}\n"
        f"  {TZDATA.url}#sha256:{B}\t\n"
        f"# pip {RICH.name} @ {RICH.url}#sha256={C.upper()}\n"
    )
    assert lock == Lock("linux-64", (PYTHON, TZDATA), (RICH,))


def test_packages_keep_their_order() -> None:
    lock = parse(explicit(f"{TZDATA.url}#{B}", f"{PYTHON.url}#{A}"))
    assert lock.conda == (TZDATA, PYTHON)


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/für uns".replace(" ", "%20") + "/linux-64/a-1-0.conda",
        "s3://bucket/c/noarch/a-1-0.tar.bz2",
    ],
)
def test_urls_of_all_kinds(url: str) -> None:
    assert parse(explicit(f"{url}#{A}")).conda == (CondaPackage(url, A),)


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"{PYTHON.url}", "not a package URL with a hash"),
        (f"{PYTHON.url}#", "not a package URL with a hash"),
        (f"{PYTHON.url}#sha256:", "not a package URL with a hash"),
        (f"{PYTHON.url} #{A}", "not a package URL with a hash"),
        (f"{PYTHON.url}#sha256:{A} --force", "not a package URL with a hash"),
        (f"{PYTHON.url}#sha512:{A}", "not a package URL with a hash"),
        (f"{PYTHON.url}#{A[:-1]}g", "not a package URL with a hash"),
        (f"/local/linux-64/a-1-0.conda#{A}", "not a package URL with a hash"),
        ("python=3.12", "not a package URL with a hash"),
        ("<<<<<<< HEAD", "both sides of a merge"),
        ("||||||| base", "both sides of a merge"),
        ("-rf", "not a package URL with a hash"),
        ("\x00", "not a package URL with a hash"),
        (f"{PYTHON.url}#{A[:32]}", "no sha256 of 64"),
        (f"{PYTHON.url}#sha256:{A[:63]}", "no sha256 of 64"),
        (f"{PYTHON.url}#sha256:{A}0", "no sha256 of 64"),
        (f"{CHANNEL}/linux-64/python.conda#{A}", "not the URL of a conda package"),
        (f"{CHANNEL}/linux-64/python-3.12-0.whl#{A}", "not the URL of a conda package"),
        (f"{CHANNEL}/linux-64/#{A}", "not the URL of a conda package"),
        (f"{CHANNEL}/linux-64/..%2Fa-1-0.conda#{A}", "not the URL of a conda package"),
        (f"{CHANNEL}/linux-64/a%0A-1-0.conda#{A}", "control character"),
        (f"{CHANNEL}/linux-64/a%00-1-0.conda#{A}", "control character"),
        (f"{CHANNEL}/linux-64/a-1%5C-0.conda#{A}", "not the URL of a conda package"),
        (f"https://[a.example/linux-64/a-1-0.conda#{A}", "not the URL of a conda package"),
        (f"{CHANNEL}/osx-64/python-3.12-0.conda#{A}", "a package for osx-64"),
        (f"{CHANNEL}/python-3.12-0.conda#{A}", "a package for conda-forge"),
        (f"{TZDATA.url}#{A}", "a second tzdata"),
        (f"{CHANNEL}/linux-64/tzdata-2025-0.conda#{A}", "a second tzdata"),
        ("# pip rich", "not a pip package"),
        (f"# pip rich @ {RICH.url}", "not a pip package"),
        (f"# pip rich @ {RICH.url}#md5={A[:32]}", "not a pip package"),
        (f"# pip rich @ {RICH.url}#sha256={A[:63]}", "not a pip package"),
        (f"# pip rich=={C} {RICH.url}#sha256={A}", "not a pip package"),
        (f"# pip rich @ https://h.example/#sha256={A}", "without a usable file name"),
        (f"# pip rich @ https://h.example/a%0Ab#sha256={A}", "without a usable file name"),
        (f"# pip rich @ https://h.example/a%2Fb#sha256={A}", "without a usable file name"),
        (f"# pip rich @ https://[h.example/a.whl#sha256={A}", "without a usable file name"),
        (f"# pip a.b @ {RICH.url}#sha256={A}", "a second a.b"),
    ],
)
def test_a_wrong_line_is_named(line: str, what: str) -> None:
    text = explicit(f"{TZDATA.url}#{B}", f"# pip A_b @ {RICH.url}#sha256={C}", line)
    message = refused(text).message
    assert message.startswith("dir/my.lock:4: ")
    assert what in message


@pytest.mark.parametrize("digest", [A[:32], "D41D8CD98F00B204E9800998ECF8427E"])
def test_an_md5_gets_its_own_remedy(digest: str) -> None:
    assert "md5 proves nothing" in refused(explicit(f"{PYTHON.url}#{digest}")).hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no @EXPLICIT"),
        ("# platform: linux-64\n", "no @EXPLICIT"),
        (f"{PYTHON.url}#{A}\n", "no @EXPLICIT"),
        ("@explicit\n", "not a package URL"),
        ("@EXPLICIT\n", "names no conda package"),
        (f"@EXPLICIT\n# pip rich @ {RICH.url}#sha256={C}\n", "names no conda package"),
    ],
)
def test_what_is_no_lock(text: str, what: str) -> None:
    assert what in refused(text).message


@pytest.mark.parametrize(
    ("header", "replacement", "what"),
    [
        ("# condainer-lock: 1", "# condainer-lock: 2", "lock version 2"),
        ("# condainer-lock: 1", "# condainer-lock:", "lock version"),
        (f"# inputs: sha256:{D}", f"# inputs: sha256:{D[1:]}", "sha256 of the inputs"),
        (f"# inputs: sha256:{D}", "# inputs:", "sha256 of the inputs"),
        (f"# input: {A} environment.yml", f"# input: {A[1:]} environment.yml", "valid input file"),
        (f"# input: {A} environment.yml", f"# input: {A}", "valid input file"),
        (f"# input: {A} environment.yml", "# input: gone environment.yml", "valid input file"),
        ("# variable: A=x", "# variable: A", "valid environment variable"),
        ("# variable: A=x", "# variable: A-B=x", "valid environment variable"),
        ("# variable: A=x", "# variable: =x", "valid environment variable"),
        ("# variable: A=x", "# variable: B=x", "valid environment variable"),
        ("# packages: 3", "# packages: many", "valid number"),
        ("# packages: 3", "# packages: " + "9" * 5000, "valid number"),
        ("# platform: linux-64", "# platform: linux-aarch64", "this lock is for linux-aarch64"),
    ],
)
def test_a_damaged_header_is_named(header: str, replacement: str, what: str) -> None:
    text = render_explicit(LOCK)
    assert f"{header}\n" in text
    error = refused(text.replace(f"{header}\n", f"{replacement}\n"))
    assert what in error.message
    assert error.message.partition(": ")[0].removeprefix("dir/my.lock:").isdigit()


@pytest.mark.parametrize("header", ["# inputs: ", "# input: "])
def test_a_header_without_what_tells_staleness(header: str) -> None:
    lines = [line for line in render_explicit(LOCK).split("\n") if not line.startswith(header)]
    assert "header is incomplete" in refused("\n".join(lines)).message


def test_a_number_of_packages_that_is_not_so() -> None:
    error = refused(render_explicit(LOCK).replace("# packages: 3", "# packages: 4"))
    assert "has 3 packages, but its header says 4" in error.message


def test_a_lock_for_another_platform_says_how_to_get_one_for_this() -> None:
    error = refused(render_explicit(LOCK), "linux-aarch64")
    assert error.message == (
        "dir/my.lock:3: this lock is for linux-64, but this machine is linux-aarch64"
    )
    assert "conda-linux-aarch64.lock" in error.hint
    assert error.exit_code == 8


def test_a_file_that_is_not_utf8(write: Write) -> None:
    path = write("my.lock", "# für\n".encode("latin-1"))
    with pytest.raises(LockfileError) as caught:
        read_explicit(path, "linux-64")
    assert caught.value.message == f"{path}: not UTF-8 text"
    assert "cnd lock" in caught.value.hint


def test_no_file(project: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_explicit(project / "gone.lock", "linux-64")


# --- sources ----------------------------------------------------------------------------------


def test_the_digest_of_a_file(write: Write, project: Path) -> None:
    path = write("x", b"a\r\n")
    assert file_digest(path) == hashlib.sha256(b"a\r\n").hexdigest()
    assert file_digest(project / "gone") == ABSENT
    assert file_digest(path / "below a file") == ABSENT


def test_sources_are_recorded_relative_to_the_project(write: Write, project: Path) -> None:
    path = write("sub dir/x", "a")
    assert source_of(path, project) == Source("sub dir/x", file_digest(path))
    assert source_of(path, project / "other").path == "../sub dir/x"


def test_unchanged_sources(write: Write, project: Path) -> None:
    lock = replace(
        LOCK,
        sources=(
            source_of(write("environment.yml", "a"), project),
            source_of(project / "requirements.txt", project),
        ),
    )
    assert sources_unchanged(lock, project)
    write("environment.yml", "b")
    assert not sources_unchanged(lock, project)
    write("environment.yml", "a")
    assert sources_unchanged(lock, project)
    write("requirements.txt", "")
    assert not sources_unchanged(lock, project)
    (project / "requirements.txt").unlink()
    (project / "environment.yml").unlink()
    assert not sources_unchanged(lock, project)


def test_a_lock_without_sources_is_never_known_to_be_unchanged(project: Path) -> None:
    assert not sources_unchanged(replace(LOCK, sources=()), project)


COMMIT = "3f07f990ac74f1e1691ba17ef8c14007f05846ab"
BAD_GIT = [
    ("git+https://a.example/b.git", "not a git repository at a commit"),
    ("git+https://a.example/b.git@main", "not a git repository at a commit"),
    (f"git+https://a.example/b.git@{COMMIT[:12]}", "not a git repository at a commit"),
    (f"git+ext://sh@{COMMIT}", "not a git repository at a commit"),
    (f"git+https://a.example/b.git@{COMMIT}#egg=b", "not a git repository at a commit"),
    (f"git+https://a.example/b.git@{COMMIT}#subdirectory=../x", "outside"),
    (f"git+https://a.example/b.git@{COMMIT}#subdirectory=a/%2E%2e/x", "outside"),
    (f"git+https://a.example/b.git@{COMMIT}#subdirectory=/etc/x", "outside"),
    (f"git+https://u:s3cret@a.example/b.git@{COMMIT}", "user, password"),
]


@pytest.mark.parametrize(("url", "what"), BAD_GIT)
def test_a_git_repository_without_a_commit_or_outside_of_itself(url: str, what: str) -> None:
    text = f"@EXPLICIT\nhttps://a.example/noarch/a-1-0.conda#{'0' * 64}\n# pip b @ {url}\n"
    with pytest.raises(LockfileError) as caught:
        parse_explicit(text, "x.lock", "linux-64")
    assert caught.value.message.startswith("x.lock:3: ")
    assert what in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        "https://bob:s3cret@a.example/noarch/a-1-0.conda#" + "0" * 64,
        "https://a.example/t/s3cret/conda-forge/noarch/a-1-0.conda#" + "0" * 64,
        "# pip b @ https://s3cret@a.example/b-1-py3-none-any.whl#sha256=" + "0" * 64,
    ],
)
def test_a_lock_with_a_secret_is_refused_and_does_not_show_it(line: str) -> None:
    with pytest.raises(LockfileError, match="user") as caught:
        parse_explicit(f"@EXPLICIT\n{line}\n", "x.lock", "linux-64")
    assert "s3cret" not in str(caught.value)
    assert "netrc" in caught.value.hint


@pytest.mark.parametrize("name", ["../b", "b/c", "-b", ".b", "b@c", "b;c"])
def test_a_pip_package_needs_a_name(name: str) -> None:
    text = f"@EXPLICIT\n# pip {name} @ https://a.example/b-1-py3-none-any.whl#sha256={'0' * 64}\n"
    with pytest.raises(LockfileError, match="not the name"):
        parse_explicit(text, "x.lock", "linux-64")


HEADS = [
    "# Generated by conda-lock.\n# platform: linux-64\n# input_hash: 0123\n",
    "# Generated by `pixi workspace export`\n# platform: linux-64\n",
    "# This file may be used to create an environment using:\n# platform: linux-64\n",
    "",
]


@pytest.mark.parametrize("head", HEADS)
def test_md5_sums_of_other_tools_are_read_where_they_will_be_completed(head: str) -> None:
    text = f"{head}@EXPLICIT\nhttps://a.example/noarch/a-1-0.conda#{'0F' * 16}\n"
    lock = parse_explicit(text, "x", "linux-64", partial=True)
    assert lock.conda == (CondaPackage("https://a.example/noarch/a-1-0.conda", "", "0f" * 16),)
    assert lock.is_partial
    with pytest.raises(LockfileError, match="no sha256"):
        parse_explicit(text, "x", "linux-64")


def test_a_lock_of_ours_has_no_md5_sums() -> None:
    text = (
        "# Made by `cnd lock`\n# condainer-lock: 1\n@EXPLICIT\n"
        f"https://a.example/noarch/a-1-0.conda#{'0' * 32}\n"
    )
    with pytest.raises(LockfileError, match="no sha256"):
        parse_explicit(text, "x", "linux-64", partial=True)


TAKEOVERS = ["LD_PRELOAD", "PATH", "PYTHONPATH", "GIT_SSH_COMMAND", "BASH_ENV", "R_PROFILE_USER"]


@pytest.mark.parametrize("name", [*TAKEOVERS, "OMP_NUM_THREADS", "MY_PATH", "LD", "LANG"])
def test_variables_that_take_over_programs(name: str) -> None:
    lock = Lock("linux-64", (), variables=((name, "a\nb"),))
    assert lock.takeovers == ([f"{name}=a\\nb"] if name in TAKEOVERS else [])
