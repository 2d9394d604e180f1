"""The words and options that people type, and what programs read of a failure."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from condainer.cache.entries import Manifest
from condainer.cli import words
from condainer.cli.main import cli
from condainer.materials.audit import Finding, Report
from condainer.system.text import human_size
from tests.helpers.projects import TOP, Project, quick


@pytest.mark.parametrize("word", [*words.INSTEAD, "instal", "biuld", "qqq"])
def test_other_tools_words_are_answered(project: Project, word: str) -> None:
    said = project.cnd(word, "numpy", status=2).stderr
    assert f"There is no command `{word}`" in said
    expected = {"instal": "Did you mean `install`?", "biuld": "Did you mean `build`?"}
    assert words.INSTEAD.get(word, expected.get(word, "")) in " ".join(said.split())


def test_aliases_and_version(project: Project, tmp_path: Path) -> None:
    project.cnd("build")
    prefix = project.json("info")["prefix"]
    assert project.cnd("run", "probe-prefix").stdout == f"{prefix}\n"
    # What is being unmounted just now is for the long way.
    project.cnd("-q", "mount")
    assert quick(project, "run", "--", "probe-prefix").stdout == f"{prefix}\n"
    assert project.cnd("run", "no-such-command", status=127)
    assert project.json("ls") == project.json("list")
    assert "`cnd rm`" in project.cnd("remove", "0" * 32, status=4).stderr
    assert "Add packages to the environment" in project.cnd("install", "--help").stdout
    version = project.cnd("version").stdout
    assert project.cnd("--version").stdout == project.cnd("-V").stdout == version
    help_of_list = project.cnd("list", "--help").stdout
    assert project.cnd("help", "list").stdout == help_of_list
    assert project.cnd("help").stdout == project.cnd("--help").stdout
    assert "biuld" in project.cnd("help", "biuld", status=2).stderr


def test_options_of_the_group_stand_after_the_command_too(project: Project, tmp_path: Path) -> None:
    elsewhere = Project(tmp_path, project.environment)
    directory = str(project.path)
    assert "Would build" in elsewhere.cnd("build", "-y", "-d", directory).stderr
    assert elsewhere.cnd("build", "-q", "--directory", directory).stderr == ""
    assert not list(tmp_path.glob("*.lock"))
    prefix = elsewhere.json("status", "-d", directory)["prefix"]
    assert elsewhere.cnd("exec", "-d", directory, "--", "probe-prefix").stdout == f"{prefix}\n"
    # Those of the user's command are its own.
    said = elsewhere.cnd("-d", directory, "exec", "echo", "-d", "-q", "-y").stdout
    assert said == "-d -q -y\n"
    assert "offline=" in elsewhere.cnd("build", "--set", "offline=maybe", status=3).stderr
    assert "no such directory" in elsewhere.cnd("build", "-d", "gone", status=3).stderr
    assert "--directory" not in project.cnd("build", "--help").stdout


def test_every_command_is_in_one_group_of_the_help(project: Project) -> None:
    grouped = sorted(name for names in words.GROUPS.values() for name in names)
    shown = [
        name
        for name in cli.list_commands(None)  # type: ignore[arg-type]
        if not cli.get_command(None, name).hidden  # type: ignore[arg-type, union-attr]
    ]
    assert grouped == shown
    text = project.cnd("--help", COLUMNS="80").stdout
    assert all(f"\n{title}:\n" in text for title in words.GROUPS)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Environment:")[2]


def test_a_failure_is_one_json_object(project: Project) -> None:
    project.write("dependencies: [no-such-package]\n")
    for arguments in (["build"], ["lock"], ["show", "0" * 32], ["verify"], ["fetch"]):
        done = project.cnd(*arguments, "--json", status=None)
        report = json.loads(done.stdout)
        assert report.keys() == {"error", "hint", "exit_code"}
        assert report["exit_code"] == done.returncode != 0
        assert report["error"] in done.stderr.replace("\n     ", " ") or "\n" in report["error"]
    # What a command has found out is its answer, with or without an error.
    report = project.cnd("lock", "--check", "--json", status=7).stdout
    assert "platforms" in json.loads(report)
    # Options of the user's command are its own.
    assert project.cnd("exec", "true", "--json", status=125).stdout == ""
    for arguments in (["list", "--json", "--nonsense"], ["diff", "--json", "one"]):
        report = json.loads(project.cnd(*arguments, status=2).stdout)
        assert report["exit_code"] == 2
        assert report["hint"] == f"`cnd {arguments[0]} --help` says how it is used."
    report = json.loads(project.cnd("biuld", "--json", status=2).stdout)
    assert "`cnd --help`" in report["hint"]
    assert json.loads(project.cnd("-d", "run", "build", "--json", status=3).stdout)["error"]


# What `--json` is documented for, and in which sections beside the one of the command itself.
ANSWERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("build", "fetch", "lock", "lock --check", "status", "list", "verify"), ()),
    **dict.fromkeys(("tag named", "wrap tools", "module a/1 --dir .", "gc --dry-run"), ()),
    **dict.fromkeys(("clean --all --dry-run", "version"), ()),
    "show": ("list",),
    "licenses": ("sbom",),
    "tree": ("why",),
}


def keys(answer: Any) -> set[str]:
    """Return the keys of an answer and of what its lists hold."""
    if isinstance(answer, list):
        return {key for item in answer for key in keys(item)}
    if not isinstance(answer, dict):
        return set()
    lists = [value for value in answer.values() if isinstance(value, list)]
    return {*answer} | keys(lists)


def test_what_programs_read_is_documented(project: Project) -> None:
    text = (TOP / "docs/reference/commands.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in text.split("\n### cnd ")}
    of_manifests = {item.name for item in fields(Manifest)}
    for command, others in ANSWERS.items():
        name = command.partition(" ")[0]
        told = "".join(sections[section] for section in (name, *others))
        answer = keys(project.json(*command.split()))
        answer -= of_manifests if "list" in (name, *others) else set()
        assert sorted(key for key in answer if f"`{key}`" not in told) == [], command
    findings = {item.name for kind in (Report, Finding) for item in fields(kind)}
    assert sorted(key for key in findings if f"`{key}`" not in sections["audit"]) == []


def test_verify_says_ok(project: Project) -> None:
    project.cnd("build")
    assert project.cnd("verify").stderr.endswith("\nOK\n")
    assert project.cnd("verify", "--all").stderr.endswith("\nOK\n")
    image = Path(project.json("status")["image"])
    image.chmod(0o644)
    image.write_bytes(b"\0" * image.stat().st_size)
    assert "OK" not in project.cnd("verify", status=9).stderr


def test_people_get_colours_on_a_terminal_only(project: Project, tmp_path: Path) -> None:
    def seen(*arguments: str, **more: str) -> bytes:
        _, without = project.on_terminal(*arguments, NO_COLOR="1", **more)
        assert not re.search(rb"\x1b\[(1;)?3[1-3]m", without)
        plain = project.cnd(*arguments, status=None, **more)
        assert "\x1b" not in plain.stdout + plain.stderr
        return project.on_terminal(*arguments, **more)[1]

    assert b"\x1b[1;31mcnd:\x1b[0m" in seen("exec", "true")
    first = project.json("build")["address"]
    project.write("dependencies: [probe-prefix, probe-old]\n")
    second = project.json("build")["address"]
    changes = seen("diff", first, second)
    assert re.search(rb"\x1b\[31m-  conda     probe-files .*\x1b\[0m", changes)
    assert re.search(rb"\x1b\[32m\+  conda     probe-old .*\x1b\[0m", changes)
    assert b"\x1b[32mOK\x1b[0m" in seen("verify")
    lines = seen("list").splitlines()
    assert lines[0].startswith(b"\x1b[1mADDRESS ")
    assert b"\x1b" not in lines[1]
    Path(project.json("status")["image"]).unlink()
    assert any(
        line.startswith(b"\x1b[31m") and b"(broken)" in line for line in seen("list").splitlines()
    )
    tools = seen("prereq", PATH=str(tmp_path))
    assert b"\x1b[31mmksquashfs         missing" in tools
    assert b"\x1b[33mfusermount3        no" in tools
    assert b"\nuv                 ok" in tools


def test_status_says_sizes_as_all_commands_do(project: Project) -> None:
    project.cnd("build")
    (size,) = re.findall(r"\nsize +(.+)\n", project.cnd("status").stdout)
    assert size == human_size(project.json("status")["size"])
    assert size in project.cnd("list").stdout
    assert re.search(r"\npackages .* \(`cnd clean` removes ", project.cnd("status").stdout)
