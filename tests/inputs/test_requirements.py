"""Requirement files: pip's syntax passed on, and everything that cannot be locked refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.inputs import requirements
from condainer.inputs.requirements import Line
from condainer.system.errors import InputError

Write = Callable[[str, str | bytes], Path]


def texts(path: Path) -> list[str]:
    return [line.text for line in requirements.read(path)[0]]


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        requirements.read(path)
    assert caught.value.hint
    return caught.value


PASSED_ON = [
    "requests",
    "requests[socks,security]>=2.0,<3",
    "requests >= 2 ; python_version < '3.9' and os_name == 'posix'",
    "zope.interface==6.0",
    "six~=1.16 --hash=sha256:" + "a" * 64,
    "pkg @ https://a.example/dir/pkg-1.0-py3-none-any.whl",
    "pkg[extra] @ https://a.example/pkg-1.0.tar.gz#sha256=" + "a" * 64,
    "pkg@https://a.example/pkg-1.0.zip",
    "https://a.example/pkg-1.0.tar.gz",
    "http://a.example/pkg-1.0-py3-none-any.whl ; sys_platform == 'linux'",
    "wheel",
    "zip",
    "tarball-whl",
    "my.zip.tool",
    "file",
    "e",
    "--index-url https://index.example/simple",
    "-i https://index.example/simple",
    "--extra-index-url=https://index.example/simple",
    "--pre",
    "--no-index",
    "--only-binary :all:",
    "--no-binary=numpy",
    "--require-hashes",
    "--trusted-host index.example",
    "--find-links https://a.example/wheels",
]


@pytest.mark.parametrize("line", PASSED_ON)
def test_lines_are_passed_on(write: Write, line: str) -> None:
    assert texts(write("requirements.txt", line + "\n")) == [line]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n \n# c\n   # d\n", []),
        ("a # c\nb# d\n", ["a", "b# d"]),
        ("  a  \n\tb\n", ["a", "b"]),
        ("a   ==\t1\n", ["a == 1"]),
        ("a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\nb\n", None),
        ("a \\\n# comment\nb\n", ["a", "b"]),
        ("# c \\\na\n", ["a"]),
        ("a==1\\\n.0\n", ["a==1.0"]),
        ("a \\", ["a"]),
        ("a # c \\", ["a"]),
        ("a \\\n", ["a"]),
        ("\\\n\na\n", ["a"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\rb", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("https://a.example/b.whl#sha256=00 # c\n", ["https://a.example/b.whl#sha256=00"]),
    ],
)
def test_comments_blanks_and_continuations(
    write: Write, text: str, lines: list[str] | None
) -> None:
    expected = ["a==1 --hash=sha256:00 --hash=sha256:11", "b"] if lines is None else lines
    assert texts(write("requirements.txt", text)) == expected


def test_utf16_as_powershell_writes_it(write: Write) -> None:
    assert texts(write("requirements.txt", "a==1\r\nb\r\n".encode("utf-16"))) == ["a==1", "b"]


def test_places_are_the_first_line_of_each(write: Write) -> None:
    path = write("requirements.txt", "# c\na \\\n  ==1\n\nb\n")
    lines, included = requirements.read(path)
    assert lines == [Line("a ==1", f"{path}:2"), Line("b", f"{path}:5")]
    assert included == []


@pytest.mark.parametrize(("text", "option"), [("--pre", True), ("-i x", True), ("a", False)])
def test_options_are_told_from_requirements(text: str, option: bool) -> None:
    assert Line(text, "x:1").is_option is option


@pytest.mark.parametrize(
    "line",
    [
        "-r sub/more.txt",
        "-rsub/more.txt",
        "-r=sub/more.txt",
        "--requirement sub/more.txt",
        "--requirement=sub/more.txt",
        "-r   sub/more.txt  # c",
        "-r 'sub/more.txt'",
        "-r ./sub/../sub/more.txt",
    ],
)
def test_includes_in_all_spellings(write: Write, project: Path, line: str) -> None:
    write("sub/more.txt", "-r other.txt\nb\n")
    write("sub/other.txt", "c\n")
    path = write("requirements.txt", f"a\n{line}\nd\n")
    lines, included = requirements.read(path)
    assert [item.text for item in lines] == ["a", "c", "b", "d"]
    assert included == [project / "sub/more.txt", project / "sub/other.txt"]
    assert lines[1].where == f"{project}/sub/other.txt:1"


@pytest.mark.parametrize(
    "line", ["-c c.txt", "-cc.txt", "--constraint c.txt", "--constraint=c.txt"]
)
def test_constraints_in_all_spellings(write: Write, line: str) -> None:
    write("c.txt", "b<2\n-r d.txt\n")
    write("d.txt", "d<3\n")
    lines, _ = requirements.read(write("requirements.txt", f"a\n{line}\n"))
    assert [(item.text, item.constraint) for item in lines] == [
        ("a", False),
        ("b<2", True),
        ("d<3", True),
    ]


def test_a_file_can_be_requirements_and_constraints(write: Write, project: Path) -> None:
    write("x.txt", "b\n")
    lines, included = requirements.read(write("requirements.txt", "-c x.txt\n-r x.txt\n"))
    assert [(item.text, item.constraint) for item in lines] == [("b", True), ("b", False)]
    assert set(included) == {project / "x.txt"}


@pytest.mark.parametrize("name", ["with blank.txt", "-r.txt", "für.txt", "a=b.txt", "c#d.txt"])
def test_weird_names_of_included_files(write: Write, name: str) -> None:
    write(name, "b\n")
    assert texts(write("requirements.txt", f"-r {name}\n")) == ["b"]


def test_paths_below_the_home(write: Write, isolated_user: Path) -> None:
    (isolated_user / "r.txt").write_text("b\n")
    assert texts(write("requirements.txt", "-r ~/r.txt\n")) == ["b"]


@pytest.mark.parametrize("line", ["--find-links wheels", "-f wheels", "--find-links=./wheels"])
def test_directories_of_wheels_become_absolute(write: Write, project: Path, line: str) -> None:
    assert texts(write("requirements.txt", line)) == [f"--find-links {project}/wheels"]


def test_lines_below_pip(write: Write, project: Path) -> None:
    write("sub/r.txt", "b # c\n")
    lines, included = requirements.from_lines(
        [("a # c", "e.yml:1"), ("", "e.yml:2"), ("-r r.txt", "e.yml:3"), ("x\ny", "e.yml:4")],
        project / "sub",
    )
    assert lines == [
        Line("a", "e.yml:1"),
        Line("b", f"{project}/sub/r.txt:1"),
        Line("x", "e.yml:4"),
        Line("y", "e.yml:4"),
    ]
    assert included == [project / "sub/r.txt"]


EDITABLE = [
    "-e .",
    "-e.",
    "-e ./x",
    "-e",
    "-e=x",
    "--editable .",
    "--editable=./x",
    "--editable",
    "-e hg",
    "-e file:///x",
    "-e x[extra]",
]
LOCAL = [
    ".",
    "..",
    "./",
    "../x",
    "./x[extra]",
    ".[test]",
    "..[test]",
    ". ; python_version < '3'",
    "/abs/x",
    "/abs/x.whl",
    "~/x",
    "~user/x.whl",
    "sub/dir",
    "sub/x-1.0.tar.gz",
    "x-1.0-py3-none-any.whl",
    "x-1.0-py3-none-any.whl ; python_version < '3'",
    "x-1.0-py3-none-any.whl --hash=sha256:00",
    "x-1.0-py3-none-any.WHL[extra]",
    "x-1.0.zip",
    "x-1.0.tgz",
    "x-1.0.tar.xz",
    "file:///x",
    "file:x",
    "FILE:///x",
    "file://localhost/x",
    "x @ file:///x",
    "x@file:///x",
    "x @ File:///x",
    "x @ ./x",
    "x@./x",
    "x@ ../x",
    "x [extra] @ /x",
    "x[extra]@/x",
    "x @ x-1.0.whl",
    "x @ sub/x",
    "x @ ~/x",
    "x @ .",
    "x @ directory",
]
GIT = [
    "git+https://a.example/b.git",
    "git+https://a.example/b.git@v1#egg=b&subdirectory=c",
    "b @ git+https://a.example/b.git@v1",
    "b[extra]@git+ssh://git@a.example/b.git ; python_version > '3'",
    "git+http://a.example/b.git",
    "GIT+https://a.example/b",
    "git+file:///b",
]
VCS = [
    ("hg+https://a.example/b", "only one to git"),
    ("b @ svn+https://a.example/b@12", "only one to git"),
    ("-e bzr+lp:b#egg=b", "only one to git"),
    ("git+git@a.example:b.git", "not the URL of a git repository"),
    ("git+git://a.example/b.git", "not the URL of a git repository"),
    ("git+./b", "not the URL of a git repository"),
    ("git+https://user:s3cret@a.example/b.git", "a password"),
    ("-e git+https://${USER}:${TOKEN}@a.example/b.git#egg=b", "a password"),
    ("git+ssh://git:s3cret@a.example/b.git", "a password"),
]


def test_a_user_of_a_repository_is_left_out(write: Write) -> None:
    path = write("requirements.txt", "b @ git+https://git@a.example/b.git@main\n")
    lines, _ = requirements.read(path)
    assert [line.text for line in lines] == ["b @ git+https://a.example/b.git@main"]


@pytest.mark.parametrize("line", ["torch==2.0 -f https://a.example/x", "- idna", "-U six"])
def test_options_that_pip_does_not_take_there(write: Write, line: str) -> None:
    path = write("requirements.txt", f"a\n{line}\n")
    assert refused(path).message.startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    "line",
    [
        "-r b.txt -c c.txt",
        "-c c.txt -r b.txt",
        "-rb.txt -rc.txt",
        "--requirement=b.txt --pre",
        "--pre -r b.txt",
        "-r b.txt -i https://a.example/simple",
        "--pre -e git+https://a.example/b",
        "-f b -f c",
    ],
)
def test_a_line_of_which_pip_takes_a_part_is_refused(write: Write, line: str) -> None:
    for name in ("b.txt", "c.txt"):
        write(name, "b\n")
    path = write("requirements.txt", f"a\n{line}\n")
    assert refused(path).message == f"{path}:2: pip would ignore a part of this line: {line}"


@pytest.mark.parametrize("line", EDITABLE)
def test_editable_installs_are_refused(write: Write, line: str) -> None:
    path = write("requirements.txt", f"a\n{line}\n")
    error = refused(path)
    assert error.message == f"{path}:2: an editable install cannot be locked: {line}"
    assert "build a wheel" in error.hint


@pytest.mark.parametrize("line", LOCAL)
def test_local_paths_are_refused(write: Write, line: str) -> None:
    path = write("requirements.txt", f"a\n{line}\n")
    error = refused(path)
    assert error.message == f"{path}:2: a local path cannot be locked: {line}"
    assert "build a wheel" in error.hint


@pytest.mark.parametrize("line", GIT)
def test_references_to_git_are_passed_on(write: Write, line: str) -> None:
    (found,) = requirements.read(write("requirements.txt", f"{line}\n"))[0]
    assert (found.text, found.note) == (line, "")


@pytest.mark.parametrize("mark", ["'", '"'])
def test_quotation_marks_of_an_editable_reference(write: Write, mark: str) -> None:
    target = "git+file:///srv/x#egg=x"
    assert texts(write("requirements.txt", f"-e {mark}{target}{mark}\n")) == [target]
    assert "editable" in refused(write("requirements.txt", f"-e {mark}./x{mark}\n")).message


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ('idna --config-settings="a=b"', "--config-settings"),
        ("idna>=3 --hash=sha256:00 --global-option x", "--global-option"),
        ("idna -C a=b", "-C"),
        ("idna @ https://a.example/idna-1.tar.gz --install-option=x", "--install-option"),
        ("-e git+https://a.example/b#egg=b --config-settings a=b", "--config-settings"),
    ],
)
def test_options_of_a_requirement_are_refused(write: Write, line: str, option: str) -> None:
    path = write("requirements.txt", f"six\n{line}\n")
    assert refused(path).message.startswith(f"{path}:2: {option} after a requirement")


@pytest.mark.parametrize("option", ["-e ", "-e", "--editable ", "--editable="])
def test_an_editable_reference_to_git_becomes_an_ordinary_one(write: Write, option: str) -> None:
    path = write("requirements.txt", f"\n{option}git+https://a.example/b.git@main#egg=b\n")
    (found,) = requirements.read(path)[0]
    assert found.text == "git+https://a.example/b.git@main#egg=b"
    assert found.note.startswith(f"{path}:2: an image cannot be edited")


@pytest.mark.parametrize(("line", "what"), VCS)
def test_references_that_cannot_be_pinned_are_refused(write: Write, line: str, what: str) -> None:
    path = write("requirements.txt", f"a\n{line}\n")
    error = refused(path)
    assert error.message.startswith(f"{path}:2: ")
    assert what in error.message
    assert "s3cret" not in error.message


VARIABLES = [
    ("${NAME}", False),
    ("six==${VERSION}", False),
    ("six @ https://a.example/${PATH}/six.whl", False),
    ("--index-url https://${HOST}/simple", False),
    ("--find-links ${HOME}/wheels", False),
    ("--index-url https://${USER}:${TOKEN}@a.example/simple", True),
    ("--extra-index-url https://${TOKEN}@a.example/simple", True),
    ("six @ https://${USER}:${TOKEN}@a.example/six-1.0.whl", True),
    ("six==${lower}", True),
    ("six==$VERSION", True),
]


@pytest.mark.parametrize(("line", "allowed"), VARIABLES)
def test_variables_stand_for_who_logs_in_only(write: Write, line: str, allowed: bool) -> None:
    path = write("requirements.txt", f"{line}\n")
    if allowed:
        assert texts(path) == [line]
    else:
        assert "variable" in refused(path).message


def test_an_included_file_cannot_be_named_by_a_variable(write: Write) -> None:
    assert "variable" in refused(write("requirements.txt", "-r ${HOME}/r.txt\n")).message


@pytest.mark.parametrize(
    ("line", "option"),
    [
        (
            "--index-url https://u:p@a.example:8/simple",
            "--extra-index-url https://u:p@a.example:8/",
        ),
        ("six @ https://t@a.example/d/six-1.whl#x", "--extra-index-url https://t@a.example/"),
    ],
)
def test_who_logs_in_is_told_without_what_is_wanted(line: str, option: str) -> None:
    assert requirements.login(line) == option


@pytest.mark.parametrize("line", ["-e .", "./x"])
def test_what_an_included_file_says_is_refused_at_its_place(
    write: Write, project: Path, line: str
) -> None:
    write("sub/more.txt", f"\n\n{line}\n")
    error = refused(write("requirements.txt", "-r sub/more.txt\n"))
    assert error.message.startswith(f"{project}/sub/more.txt:3: ")


def test_a_backslash_hides_nothing(write: Write) -> None:
    assert "editable" in refused(write("requirements.txt", "-e \\\n  .\n")).message


@pytest.mark.parametrize("option", ["-r", "-c"])
def test_missing_files(write: Write, project: Path, option: str) -> None:
    path = write("requirements.txt", f"a\n{option} gone.txt\n")
    assert refused(path).message == f"{path}:2: no such file: {project}/gone.txt"


@pytest.mark.parametrize("target", ["https://a.example/r.txt", "file:///x/r.txt"])
def test_files_on_a_server_are_refused(write: Write, target: str) -> None:
    path = write("requirements.txt", f"-r {target}\n")
    assert refused(path).message.startswith(f"{path}:1: ")


@pytest.mark.parametrize("option", ["-r", "-c"])
def test_a_file_that_includes_itself(write: Write, option: str) -> None:
    path = write("requirements.txt", f"a\n{option} requirements.txt\n")
    error = refused(path)
    assert error.message == f"{path}:2: requirements files include each other: {path}"


def test_a_cycle_through_other_files(write: Write, project: Path) -> None:
    write("a.txt", "-r b.txt\n")
    write("b.txt", "\n-c sub/../a.txt\n")
    error = refused(write("requirements.txt", "-r a.txt\n"))
    assert error.message.startswith(f"{project}/b.txt:2: requirements files include each other")


def test_a_cycle_through_the_pip_section(write: Write, project: Path) -> None:
    write("a.txt", "-r a.txt\n")
    with pytest.raises(InputError, match="include each other"):
        requirements.from_lines([("-r a.txt", "e.yml:1")], project)


def test_a_cycle_through_a_link(write: Write, project: Path) -> None:
    (project / "sub").symlink_to(".")
    path = write("requirements.txt", "-r sub/requirements.txt\n")
    assert "include each other" in refused(path).message


def test_files_that_all_include_the_next_one_often_are_read_once(
    write: Write, project: Path
) -> None:
    for number in range(6):
        write(f"r{number}.txt", f"p{number}\n" + f"-r r{number + 1}.txt\n" * 9)
    write("r6.txt", "last\n")
    opened: list[Path] = []

    def read(path: Path) -> bytes:
        opened.append(path)
        return path.read_bytes()

    lines, included = requirements.read(project / "r0.txt", read)
    assert len(opened) == 7
    assert sorted({line.text for line in lines}) == sorted([*(f"p{n}" for n in range(6)), "last"])
    assert len(included) == 6


def test_not_utf8(write: Write, project: Path) -> None:
    write("more.txt", "a # für".encode("latin-1"))
    error = refused(write("requirements.txt", "-r more.txt\n"))
    assert error.message == f"{project}/more.txt: not UTF-8 text"


def test_a_directory(write: Write, project: Path) -> None:
    error = refused(write("requirements.txt", "-r .\n"))
    assert (
        error.message == f"{project}/requirements.txt:1: {project} cannot be read: Is a directory"
    )


@pytest.mark.parametrize("name", ["a\0b.txt", "~a\0b", "x" * 300, "~no-such-user-here/r.txt"])
def test_names_that_no_file_can_have(write: Write, name: str) -> None:
    path = write("requirements.txt", f"a\n-r {name}\n")
    assert refused(path).message.startswith(f"{path}:2: ")
