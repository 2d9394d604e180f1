"""Settings: which source wins, what each key takes, and what a mistake gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from condainer.settings import config, environments, original
from condainer.settings.config import Settings, documented
from condainer.settings.load import load_settings, of_environment
from condainer.system.errors import ConfigError
from tests.helpers.needed import needs_root

Write = Callable[[str, str | bytes], Path]
Load = Callable[..., Settings]


def refused(load: Load, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    return caught.value


def test_defaults(load: Load, project: Path, isolated_user: Path) -> None:
    settings = load()
    assert settings.project == project
    assert settings.environment_yml == project / "environment.yml"
    assert settings.requirements_txt == project / "requirements.txt"
    assert settings.mount_base_directory == Path("/tmp")
    assert settings.cache_directory == isolated_user / ".cache" / "condainer"
    assert settings.package_cache == isolated_user / ".cache" / "condainer" / "packages"
    assert settings.compressor == "zstd"
    assert not settings.locked
    assert settings.address is None


def test_settings_cannot_be_changed(load: Load) -> None:
    with pytest.raises(FrozenInstanceError):
        load().locked = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "---\n", "compressor:\n", "compressor: ~\n"]
)
def test_an_empty_file_and_an_empty_value_mean_the_defaults(
    load: Load, write: Write, content: str
) -> None:
    before = load()
    write("condainer.yml", content)
    assert load() == before


def test_every_source_wins_over_the_one_before(
    load: Load, write: Write, isolated_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def level() -> int:
        return load().compression_level

    assert level() == 9
    for number, path in enumerate(
        [config.SITE_FILE, isolated_user / ".config/condainer/condainer.yml"], 1
    ):
        path.parent.mkdir(parents=True)
        path.write_text(f"compression_level: {number}\nprocessors: {number}\n")
        assert level() == number
    write("condainer.yml", "compression_level: 3\n")
    assert level() == 3
    monkeypatch.setenv("CONDAINER_LEVEL", "4")
    assert level() == 4
    assert load("compression_level=5").compression_level == 5
    assert load("compression_level=5", "compression_level=6").compression_level == 6
    # A source that says nothing about a key leaves what the one before said.
    assert load().processors == 2


def test_the_environment_can_be_given(project: Path) -> None:
    assert load_settings(project, (), {"CONDAINER_LEVEL": "3"}).compression_level == 3


def test_a_relative_project_becomes_absolute(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    settings = load_settings(Path("project"))
    assert settings.project == project
    assert settings.environment_yml == project / "environment.yml"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("environment_yml: env/../other.yml", ("environment_yml", "{project}/other.yml")),
        ("environment_yml: ../other.yml", ("environment_yml", "{parent}/other.yml")),
        ("requirements_txt: /etc/r.txt", ("requirements_txt", "/etc/r.txt")),
        ("cache_directory: ~/cache", ("cache_directory", "{home}/cache")),
        ("cache_directory: with blank", ("cache_directory", "{project}/with blank")),
        ("cache_directory: für uns", ("cache_directory", "{project}/für uns")),
        ("cache_directory: -r", ("cache_directory", "{project}/-r")),
        ("tool_directory: .", ("tool_directory", "{project}")),
    ],
)
def test_paths_of_a_file_are_relative_to_it(
    load: Load,
    write: Write,
    project: Path,
    isolated_user: Path,
    line: str,
    expected: tuple[str, str],
) -> None:
    write("condainer.yml", line)
    name, text = expected
    wanted = text.format(project=project, parent=project.parent, home=isolated_user)
    assert str(getattr(load(), name)) == wanted


def test_paths_of_the_user_file_are_relative_to_it(load: Load, isolated_user: Path) -> None:
    directory = isolated_user / ".config" / "condainer"
    directory.mkdir(parents=True)
    (directory / "condainer.yml").write_text("cache_directory: cache\n")
    assert load().cache_directory == directory / "cache"


def test_paths_of_variables_and_options_are_relative_to_the_working_directory(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDAINER_CACHE", "shared")
    settings = load("tool_directory=tools")
    assert settings.cache_directory == tmp_path / "shared"
    assert settings.tool_directory == tmp_path / "tools"


def test_every_path_is_absolute_whatever_the_environment_says(
    load: Load, tmp_path: Path, isolated_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR"):
        monkeypatch.setenv(variable, "relative")
    settings = load()
    for item in fields(Settings):
        value = getattr(settings, item.name)
        assert not isinstance(value, Path) or value.is_absolute(), item.name
    assert settings.cache_directory == isolated_user / ".cache" / "condainer"


@pytest.mark.parametrize("value", ["", None])
def test_xdg_directories_default_to_the_home(
    load: Load, isolated_user: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        if value is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, value)
    assert load().cache_directory == isolated_user / ".cache" / "condainer"


def test_staging_follows_tmpdir(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert load().staging_directory == Path("/tmp")
    monkeypatch.setenv("TMPDIR", "/local")
    assert load().staging_directory == Path("/local")


def test_a_user_without_a_home_is_told_what_to_set(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(Path, "home", nobody)
    assert "HOME" in refused(load).hint


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("locked: true", "locked", True),
        ("locked: yes", "locked", True),
        ("post_link_scripts: false", "post_link_scripts", False),
        ("processors: 0", "processors", 0),
        ("processors: 16", "processors", 16),
        ("linger: 0", "linger", 0.0),
        ("linger: 1.5", "linger", 1.5),
        ("lock_timeout: 10", "lock_timeout", 10.0),
        ("compression_level: 22", "compression_level", 22),
        ("compressor: gzip", "compressor", "gzip"),
        ("compressor: xz", "compressor", "xz"),
        ("address: 0123ABCD", "address", "0123abcd"),
        ("address: 00001234", "address", "00001234"),
        ("address: 1234", "address", "1234"),
        ("address: 12_34", "address", None),
        ("address: '" + "a" * 32 + "'", "address", "a" * 32),
        ("readonly_caches: /a", "readonly_caches", (Path("/a"),)),
        ("readonly_caches: [/a, /b/../c]", "readonly_caches", (Path("/a"), Path("/c"))),
        ("readonly_caches: []", "readonly_caches", ()),
        ("readonly_caches: [file:///a%20b]", "readonly_caches", (Path("/a b"),)),
        ("mirrors: {}", "mirrors", ()),
        (
            "mirrors: {conda-forge: https://mirror.example/conda-forge/}",
            "mirrors",
            (("conda-forge", ("https://mirror.example/conda-forge",)),),
        ),
        (
            "mirrors:\n  https://a.example/x: [file:///b, http://c.example]\n",
            "mirrors",
            (("https://a.example/x", ("file:///b", "http://c.example")),),
        ),
    ],
)
def test_values_of_a_file(load: Load, write: Write, line: str, name: str, value: Any) -> None:
    path = write("condainer.yml", f"# a comment\n{line}\n")
    if value is None:
        assert refused(load).message.startswith(f"{path}:2: {name}: ")
        return
    found = getattr(load(), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("CONDAINER_LOCKED", "1", "locked", True),
        ("CONDAINER_LOCKED", "TRUE", "locked", True),
        ("CONDAINER_LOCKED", "yes", "locked", True),
        ("CONDAINER_LOCKED", "0", "locked", False),
        ("CONDAINER_LOCKED", "false", "locked", False),
        ("CONDAINER_LOCKED", "no", "locked", False),
        ("CONDAINER_PROCESSORS", "3", "processors", 3),
        ("CONDAINER_LINGER", "0.5", "linger", 0.5),
        ("CONDAINER_USER_SITE", "yes", "user_site", True),
        ("CONDAINER_COMPRESSOR", "lz4", "compressor", "lz4"),
        ("CONDAINER_READONLY_CACHES", "/a:/b", "readonly_caches", (Path("/a"), Path("/b"))),
        ("CONDAINER_READONLY_CACHES", "/a::", "readonly_caches", (Path("/a"),)),
        (
            *(
                "CONDAINER_READONLY_CACHES",
                "/a:https://h.example:8080/x/:http://[::1]:80:file:///b%20",
            ),
            *("web_caches", ("https://h.example:8080/x", "http://[::1]:80")),
        ),
        (
            "CONDAINER_READONLY_CACHES",
            "/a:file:///b%20c",
            "readonly_caches",
            (Path("/a"), Path("/b c")),
        ),
        (
            "CONDAINER_MIRRORS",
            "conda-forge=https://a.example/ conda-forge=file:///b x=http://c.example",
            "mirrors",
            (("conda-forge", ("https://a.example", "file:///b")), ("x", ("http://c.example",))),
        ),
    ],
)
def test_values_of_variables(
    load: Load, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: Any
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load(), name) == value


def test_an_empty_variable_is_as_good_as_none(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("condainer.yml", "locked: true\nprocessors: 5\n")
    monkeypatch.setenv("CONDAINER_LOCKED", "")
    monkeypatch.setenv("CONDAINER_PROCESSORS", "")
    assert (load().locked, load().processors) == (True, 5)


def test_a_value_on_the_command_line_may_hold_equals_signs(load: Load) -> None:
    assert load("mirrors=x=https://a.example/?b").mirrors == (("x", ("https://a.example/?b",)),)


WRONG = [
    ("locked: 1", "true or false"),
    ("locked: maybe", "true or false"),
    ("processors: -1", "whole number"),
    ("processors: 1.5", "whole number"),
    ("processors: true", "whole number"),
    ("processors: many", "whole number"),
    ("compression_level: [1]", "whole number"),
    ("linger: -1", "a number"),
    ("linger: .nan", "a number"),
    ("linger: .inf", "a number"),
    ("linger: true", "a number"),
    ("linger: 1" + "0" * 400, "a number"),
    ("linger: {a: 1}", "a number"),
    ("compressor: zip", "zstd"),
    ("compressor: [zstd]", "zstd"),
    ("compressor: 1", "zstd"),
    ("address: xyz1", "hexadecimal"),
    ("address: abc", "hexadecimal"),
    ("address: " + "a" * 33, "hexadecimal"),
    ("address: [abcd]", "hexadecimal"),
    ("address: true", "hexadecimal"),
    ("address: ../../../etc", "hexadecimal"),
    ("cache_directory: 1", "a path"),
    ("cache_directory: ''", "a path"),
    ("cache_directory: [a]", "a path"),
    ("cache_directory: {a: b}", "a path"),
    ('cache_directory: "a\\0b"', "a path"),
    ('mount_base_directory: "a\\nb"', "line break"),
    ("cache_directory: ~nobody-of-this-name/x", "home directory"),
    ("readonly_caches: {a: b}", "list of directories"),
    ("readonly_caches: [1]", "a path"),
    ("readonly_caches: [https://h.example/a]", "not allowed here"),
    ("readonly_caches: ['https:///a']", "not the URL of a directory"),
    ("readonly_caches: ['http://[::1/a']", "not the URL of a directory"),
    ("readonly_caches: 7", "list of directories"),
    ("mirrors: conda-forge", "mapping"),
    ("mirrors: [a]", "mapping"),
    ("mirrors: {a: []}", "a URL or a list"),
    ("mirrors: {a: 1}", "a URL or a list"),
    ("mirrors: {a: [1]}", "not an http or file URL"),
    ("mirrors: {a: ftp://b.example}", "not an http or file URL"),
    ("mirrors: {a: /srv/mirror}", "not an http or file URL"),
    ("mirrors: {a: 'http://[::1/b'}", "not an http or file URL"),
    ("mirrors: {a: 'http://b.example:99999'}", "not an http or file URL"),
]


@pytest.mark.parametrize(("line", "what"), WRONG, ids=[line[:40] for line, _ in WRONG])
def test_wrong_values_name_file_line_and_key(
    load: Load, write: Write, line: str, what: str
) -> None:
    path = write("condainer.yml", f"# first\n\n{line}\n")
    message = refused(load).message
    assert message.startswith(f"{path}:3: {line.partition(':')[0]}: ")
    assert what in message


@pytest.mark.parametrize(
    ("variable", "text", "what"),
    [
        ("CONDAINER_LOCKED", "maybe", "true or false"),
        ("CONDAINER_LOCKED", "2", "true or false"),
        ("CONDAINER_PROCESSORS", "two", "whole number"),
        ("CONDAINER_PROCESSORS", "-1", "whole number"),
        ("CONDAINER_LINGER", "soon", "a number"),
        ("CONDAINER_LINGER", "nan", "a number"),
        ("CONDAINER_LEVEL", "9" * 5000, ""),
        ("CONDAINER_COMPRESSOR", "zip", "zstd"),
        ("CONDAINER_CACHE", "a\nb", "line break"),
        *(("CONDAINER_MOUNT_BASE", f"/a{sign}b", "cannot be in") for sign in "'\"\\$`:\t"),
        ("CONDAINER_MIRRORS", "https://a.example", "CHANNEL=URL"),
        ("CONDAINER_MIRRORS", "a=b", "CHANNEL=URL"),
        ("CONDAINER_MIRRORS", "a=ftp://b", "not an http or file URL"),
        ("CONDAINER_READONLY_CACHES", "http://[::1/a", "not the URL of a directory"),
    ],
)
def test_wrong_variables_are_named(
    load: Load, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, what: str
) -> None:
    monkeypatch.setenv(variable, text)
    message = refused(load).message
    assert variable in message or "compression_level" in message
    assert what in message


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("locked", "KEY=VALUE"),
        ("", "KEY=VALUE"),
        ("locked=perhaps", "true or false"),
        ("cache_directory=", "a path"),
        ("unknown=1", "unknown key `unknown`"),
        ("project=/x", "unknown key `project`"),
        ("=1", "unknown key"),
    ],
)
def test_wrong_options_are_named(load: Load, override: str, what: str) -> None:
    message = refused(load, override).message
    assert message.startswith(f"--set {override}")
    assert what in message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("cache_dir", "cache_directory"),
        ("mount_base", "mount_base_directory"),
        ("Locked", "locked"),
        ("environment_yaml", "environment_yml"),
        ("compresion_level", "compression_level"),
        ("mirror", "mirrors"),
    ],
)
def test_unknown_keys_get_the_nearest_known_one(
    load: Load, write: Write, name: str, near: str
) -> None:
    path = write("condainer.yml", f"processors: 1\n{name}: x\n")
    error = refused(load)
    assert error.message == f"{path}:2: unknown key `{name}`"
    assert f"`{near}`" in error.hint


def test_a_key_like_no_other_gets_the_list(load: Load, write: Write) -> None:
    write("condainer.yml", "qqq: 1\n")
    hint = refused(load).hint
    assert all(name in hint for name, *_ in documented())


@pytest.mark.parametrize("name", ["1", "~", "true", "[x]", "project"])
def test_keys_that_are_no_keys(load: Load, write: Write, name: str) -> None:
    path = write("condainer.yml", f"{name}: 1\n")
    assert refused(load).message.startswith(f"{path}:1: ")


@pytest.mark.parametrize("name", sorted(original.REPLACED))
def test_keys_of_the_original_are_explained(load: Load, write: Write, name: str) -> None:
    path = write("condainer.yml", f"conda_exe: mamba\n{name}: x\nstrange: 1\n")
    error = refused(load)
    assert error.message.startswith(f"{path}:2: `{name}` is a key of the original Condainer, ")
    assert f"`{name}` goes: {original.REPLACED[name]}" in error.message
    assert "`conda_exe` goes: the embedded engine solves" in error.message
    assert "`strange` goes: it has no meaning here" in error.message
    assert "cnd init --convert" in error.hint


def test_all_unknown_keys_are_told_at_once(load: Load, write: Write) -> None:
    path = write("condainer.yml", "linger: 1\nmirror: {}\ncompresor: gzip\n")
    error = refused(load)
    assert error.message.split("\n     ") == [
        f"{path}:2: unknown key `mirror`",
        f"{path}:3: unknown key `compresor`",
    ]
    assert "`mirrors`" in error.hint
    assert "`compressor`" in error.hint


@pytest.mark.parametrize("content", ["- a\n", "text\n", "1\n"])
def test_a_file_that_is_no_mapping(load: Load, write: Write, content: str) -> None:
    path = write("condainer.yml", content)
    error = refused(load)
    assert error.message.startswith(f"{path}:1: must be a mapping")
    assert error.hint


def test_a_file_that_is_not_utf8(load: Load, write: Write) -> None:
    path = write("condainer.yml", "compressor: zstd # für\n".encode("latin-1"))
    assert refused(load).message == f"{path}: not UTF-8 text"


def test_a_file_that_is_not_yaml(load: Load, write: Write) -> None:
    path = write("condainer.yml", "locked: [\n")
    assert refused(load).message.startswith(f"{path}:2:1: not valid YAML")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfprocessors: 3\n", b"processors: 3\r\n"])
def test_byte_order_mark_and_windows_line_ends(load: Load, write: Write, content: bytes) -> None:
    write("condainer.yml", content)
    assert load().processors == 3


def test_a_directory_in_the_place_of_the_file(load: Load, project: Path) -> None:
    (project / "condainer.yml").mkdir()
    assert refused(load).message == f"{project}/condainer.yml: cannot be read: Is a directory"


def test_a_project_that_is_a_file_has_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert load_settings(path).compressor == "zstd"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("compression_level: 0", "between 1 and 22"),
        ("compression_level: 23", "between 1 and 22"),
        ("{compressor: gzip, compression_level: 10}", "between 1 and 9"),
        ("{compressor: lz4, compression_level: 3}", "has no levels"),
        ("{compressor: xz, compression_level: 3}", "has no levels"),
    ],
)
def test_levels_must_fit_the_compressor(load: Load, write: Write, text: str, what: str) -> None:
    write("condainer.yml", text)
    assert what in refused(load).message


def test_what_is_documented_as_default_is_the_default(load: Load, isolated_user: Path) -> None:
    before = load()
    path = isolated_user / ".config/condainer/condainer.yml"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{name}: {default}\n" for name, default, _, _ in documented()))
    # Paths are relative to that file.
    assert (
        replace(
            load(),
            environment_yml=before.environment_yml,
            requirements_txt=before.requirements_txt,
            named_caches=(),
        )
        == before
    )


# What is no key.
INNER = {"project", "named_caches", "files", "brought_caches", "own_programs", "web_caches"}
INNER |= {"asked", "overrides", "pin"}


def test_every_key_is_documented_once_and_every_variable_is_ours() -> None:
    names = [name for name, *_ in documented()]
    variables = [variable for _, _, variable, _ in documented() if variable]
    assert set(names) == {item.name for item in fields(Settings)} - INNER
    assert len(names) == len(set(names))
    assert len(variables) == len(set(variables))
    assert all(variable.startswith("CONDAINER_") for variable in variables)
    assert all(doc for *_, doc in documented())


SEVERAL = """\
virtual_packages: {glibc: "2.28"}
compression_level: 3
environments:
  cpu:
  gpu:
    environment_yml: inputs/gpu.yml
    virtual_packages: {cuda: 12.10}
    wrappers: tools-gpu
"""


def test_an_environment_is_the_settings_with_its_own_keys(
    load: Load, write: Write, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("condainer.yml", SEVERAL)
    cpu, gpu = (load_settings(project, (), {}, environment=name) for name in ("cpu", "gpu"))
    assert cpu.environment_yml == project / "environment.yml"
    assert cpu.virtual_packages == (("glibc", "2.28"),)
    assert gpu.environment_yml == project / "inputs" / "gpu.yml"
    assert gpu.virtual_packages == (("cuda", "12.10"),)
    assert gpu.wrappers == project / "tools-gpu"
    assert cpu.compression_level == gpu.compression_level == 3
    assert [environments.variant(settings) for settings in (cpu, gpu)] == ["cpu", "gpu"]
    assert of_environment(cpu, "gpu") == gpu
    # The command line wins over the file, and over the variable.
    monkeypatch.setenv("CONDAINER_ENVIRONMENT", "gpu")
    assert load() == gpu
    assert load("environment_yml=other.yml").environment_yml.name == "other.yml"
    assert load_settings(project, environment="cpu") == cpu


def test_the_pin_is_what_the_projects_file_says(load: Load, write: Write, project: Path) -> None:
    write("condainer.yml", "environments: {one: {address: abcd}, two: }\n")
    assert [load_settings(project, environment=name).pin for name in ("one", "two")] == [
        "abcd",
        None,
    ]
    write("condainer.yml", "address: abcd\n")
    assert load("address=0123").pin == "abcd"


def test_default_is_the_environment_of_who_names_none(load: Load, write: Write) -> None:
    write("condainer.yml", SEVERAL.replace("cpu:", "default: {environment_yml: cpu.yml}"))
    assert load().environment_yml.name == "cpu.yml"
    assert environments.variant(load()) == ""
    assert load() == load_settings(load().project, environment="default")


def test_a_project_without_environments_has_the_default_one(load: Load, project: Path) -> None:
    for name in ("", "default"):
        assert environments.variant(load_settings(project, environment=name)) == ""
    with pytest.raises(ConfigError, match="has no environment gpu"):
        environments.variant(load_settings(project, environment="gpu"))


def test_what_is_chosen_has_to_be_there(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("condainer.yml", SEVERAL)
    # Commands that are about no environment of the project go on.
    settings = load()
    with pytest.raises(ConfigError, match=r"environments cpu, gpu, and none of them is `default`"):
        environments.variant(settings)
    monkeypatch.setenv("CONDAINER_ENVIRONMENT", "gpus")
    with pytest.raises(ConfigError, match="environments cpu, gpu, but no gpus") as caught:
        environments.variant(load())
    assert "`unset CONDAINER_ENVIRONMENT`" in caught.value.hint
    assert "Did you mean `-e gpu`?" in caught.value.hint
    assert "--env" in caught.value.hint
    with pytest.raises(ConfigError, match="no gpux") as caught:
        environments.variant(load_settings(settings.project, environment="gpux"))
    assert "unset" not in caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("environments: []", 1, "must be a mapping"),
        ("environments: {}", 1, "must be a mapping"),
        ("environments: {gpu: gpu.yml}", 1, "`gpu` must be a mapping"),
        ("environments: {1: {}}", 1, "must be a text"),
        *(
            (f"environments:\n  {name!r}: {{}}", 2, "is not a name for an environment")
            for name in ("a/b", "..", "a b", "GPU", "", "-x", "x.", "grün", "a" * 65, "x\ty")
        ),
        ("environments: {all: {}}", 1, "`all` says that all are meant"),
        ("environments: {gpu.fish: {}}", 1, "ends as the activation script"),
        ("environments: {cafe: {}}", 1, "`cafe` could be an address"),
        ("environments:\n  gpu: {}\n  gpu: {}", 3, "the key `gpu` is in line 2 already"),
        ("environments:\n  gpu:\n    cuda: 12", 3, "unknown key `cuda`"),
        ("environments:\n  gpu:\n    environmentyml: x", 3, "unknown key `environmentyml`"),
        ("environments:\n  gpu:\n    compressor: xz", 3, "`compressor` is for all environments"),
        ("environments:\n  gpu:\n    virtual_packages: {gpu: 1}", 3, "`gpu` is not a virtual"),
        ("environments:\n  gpu:\n    environment_yml: 1", 3, "must be a path"),
        ("environments:\n  gpu: {address: xyz}", 2, "must be an address"),
        ("wrappers: tools\nenvironments: {gpu: {}}", 1, "`wrappers` is of one environment"),
        ("address: abcd\nenvironments: {gpu: {}}", 1, "`address` is of one environment"),
        (
            "environments:\n  a1: {wrappers: w}\n  b1: {wrappers: ./w}",
            3,
            "`a1` has its wrappers there",
        ),
    ],
)
def test_wrong_environments(
    load: Load, write: Write, project: Path, text: str, line: int, what: str
) -> None:
    write("condainer.yml", text)
    error = refused(load)
    assert error.message.startswith(f"{project / 'condainer.yml'}:{line}: ")
    assert what in error.message
    assert error.hint or "must be" in error.message


def test_environments_are_of_projects_only(load: Load, isolated_user: Path) -> None:
    assert (
        "--set environments=x: `environments` is not allowed"
        in refused(load, "environments=x").message
    )
    path = isolated_user / ".config/condainer/condainer.yml"
    path.parent.mkdir(parents=True)
    path.write_text("environments: {gpu: {}}\n")
    assert f"{path}:1: `environments` is not allowed here" in refused(load).message


def test_other_variables_of_the_environment_do_not_matter(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load()
    monkeypatch.setenv("CONDAINER_UNKNOWN", "x")
    assert "CONDAINER_UNKNOWN" in os.environ
    assert load() == before


PERSONAL = {
    "trust": "signed",
    "allowed_signers": "/etc/signers",
    "signing_key": "/home/me/key",
    "trusted_caches": "/project/images",
}


@pytest.mark.parametrize("name", PERSONAL)
def test_nobody_else_decides_whom_we_trust(
    load: Load, write: Write, project: Path, name: str
) -> None:
    value = PERSONAL[name]
    assert f"`{name}` is not allowed here" in refused(load, f"{name}={value}").message
    with pytest.raises(ConfigError, match="not allowed in the environment") as caught:
        load_settings(project, (), {f"CONDAINER_{name.upper()}": value})
    assert str(config.user_file()) in caught.value.hint
    write("condainer.yml", f"{name}: {value}\n")
    assert f"condainer.yml:1: `{name}` is not allowed here" in refused(load).message


@pytest.mark.parametrize("name", PERSONAL)
@pytest.mark.parametrize("whose", ["site", "user"])
def test_site_and_user_decide_whom_they_trust(load: Load, whose: str, name: str) -> None:
    path = config.SITE_FILE if whose == "site" else config.user_file()
    path.parent.mkdir(parents=True)
    path.write_text(f"{name}: {PERSONAL[name]}\n")
    found = getattr(load(), name)
    assert str(found[0] if name == "trusted_caches" else found) == PERSONAL[name]
    # Not from a file in which others could have written it.
    path.chmod(0o666)
    assert "others can write" in refused(load).message


@pytest.mark.parametrize("name", PERSONAL)
def test_files_of_others_decide_nothing(load: Load, name: str) -> None:
    needs_root("to make files of others")
    path = config.user_file()
    path.parent.mkdir(parents=True)
    path.write_text(f"{name}: {PERSONAL[name]}\n")
    os.chown(path, -1, 62234)
    path.chmod(0o664)
    assert "others can write" in refused(load).message
    path.chmod(0o644)
    os.chown(path, 61234, -1)
    assert "others can write or own" in refused(load).message


def test_policies_have_names(load: Load) -> None:
    config.user_file().parent.mkdir(parents=True)
    config.user_file().write_text("trust: everybody\n")
    assert "must be one of anyone, group, signed" in refused(load).message
    config.user_file().write_text("trusted_caches: 3\n")
    assert "must be a list of directories" in refused(load).message


def test_which_caches_site_and_user_name(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, names in ((config.SITE_FILE, "ab"), (config.user_file(), "cd")):
        path.parent.mkdir(parents=True)
        path.write_text(
            f"cache_directory: /{names[0]}\nreadonly_caches: [/{names[1]}]\n"
            f"trusted_caches: [/t/{names[0]}]\n"
        )
    write("condainer.yml", "cache_directory: /project\nreadonly_caches: [/project]\n")
    monkeypatch.setenv("CONDAINER_CACHE", "/variable")
    settings = load("readonly_caches=/option")
    named = {Path(name) for name in ("/a", "/b", "/t/a", "/c", "/d", "/t/c")}
    assert set(settings.named_caches) == named
    # Others could have added a name.
    config.user_file().write_text("cache_directory: /c\n")
    config.user_file().chmod(0o666)
    assert set(load().named_caches) == {Path("/a"), Path("/b"), Path("/t/a")}


def test_where_signatures_count_a_project_brings_no_tools(load: Load, write: Write) -> None:
    config.user_file().parent.mkdir(parents=True)
    config.user_file().write_text("trust: signed\n")
    write("condainer.yml", "tool_directory: tools\n")
    assert "`tool_directory` is not allowed in a project" in refused(load).message
    config.user_file().write_text("trust: group\n")
    assert load().tool_directory is not None


def test_a_template_leaves_out_what_a_project_does_not_decide(project: Path) -> None:
    from condainer.beginning import changes

    for change in changes(project):
        change.write()
    text = (project / "condainer.yml").read_text()
    assert not [name for name in PERSONAL if f"{name}:" in text]
    assert str(config.user_file()) not in text


@pytest.mark.parametrize("url", ["https://u:s3cret@a.example/c", "https://a.example/t/s3cret/c"])
def test_a_mirror_with_a_secret_is_refused_and_not_shown(project: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="user, password or token") as caught:
        load_settings(project, environ={"CONDAINER_MIRRORS": f"c={url}"})
    assert "s3cret" not in caught.value.message
    assert "netrc" in caught.value.hint


def test_which_programs_and_caches_came_with_the_project(
    project: Path, write: Callable[[str, str | bytes], Path], load: Callable[..., Settings]
) -> None:
    write(
        "condainer.yml", "tool_directory: tools\ncache_directory: cache\nreadonly_caches: [/far]\n"
    )
    settings = load()
    assert settings.tool_directory == project / "tools"
    assert settings.of_user().tool_directory is None
    assert settings.brought_caches == (project / "cache",)
    settings = load("tool_directory=/mine", "cache_directory=cache")
    assert settings.of_user().tool_directory == Path("/mine")
    assert settings.brought_caches == ()
    # A part of a repository came with the rest of it.
    write("condainer.yml", "cache_directory: ../cache\n")
    assert load().brought_caches == ()
    (project.parent / ".git").mkdir()
    assert load().brought_caches == (project.parent / "cache",)
