"""Names of images in a cache: given, moved, taken away, and used in the place of addresses."""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import names
from condainer.settings.load import load_settings
from tests.helpers.members import Member
from tests.helpers.projects import LONG, Project, quick

OTHER = "dependencies: [probe-prefix, probe-old]\n"


@pytest.fixture
def named(project: Project) -> Project:
    """A project whose image has a name."""
    project.cnd("build")
    project.cnd("tag", "tools/1.0")
    return project


@pytest.fixture
def nowhere(named: Project, tmp_path: Path) -> Project:
    """The same user in a directory without a project."""
    (tmp_path / "nowhere").mkdir()
    return replace(named, path=tmp_path / "nowhere")


def test_a_name_stands_for_an_address(named: Project, nowhere: Project, tmp_path: Path) -> None:
    status = named.json("status")
    address, prefix = status["address"], status["prefix"]
    assert nowhere.cnd("exec", "--env", "tools/1.0", "probe-prefix").stdout == f"{prefix}\n"
    assert nowhere.cnd("exec", "probe-prefix", CONDAINER_ENV="tools/1.0").stdout == f"{prefix}\n"
    assert nowhere.json("show", "tools/1.0")["address"] == address
    assert nowhere.json("verify", "tools/1.0")["address"] == address
    assert nowhere.cnd("mount", "-p", "--env", "tools/1.0").stdout == f"{prefix}\n"
    assert nowhere.cnd("umount", "--env", "tools/1.0").stderr == f"Unmounted {prefix}\n"
    nowhere.cnd("export", "tools/1.0", "exported")
    assert nowhere.json("diff", "exported", "tools/1.0")["equal"]
    told = nowhere.cnd("shell", "--env=tools/1.0", SHELL="/bin/sh")
    assert told.returncode == 0
    # The other way round, too.
    assert nowhere.cnd("exec", "--env", address, "probe-prefix").stdout == f"{prefix}\n"
    assert nowhere.cnd("mount", "-p", "--env", address[:8]).stdout == f"{prefix}\n"
    assert nowhere.cnd("umount", CONDAINER_ENV=address).stderr == f"Unmounted {prefix}\n"
    # Another name, and the beginning of an address, are as good.
    for text in ("tools/1.0", address[:8]):
        assert nowhere.json("tag", "again", text)["address"] == address
    assert "tools/1.0" in nowhere.cnd("list").stdout
    assert nowhere.json("list")[0]["names"] == ["again", "tools/1.0"]
    assert re.search(r"\ntag +again\n", nowhere.cnd("show", address).stdout)


def test_what_is_mounted_is_unmounted_by_its_address_when_its_image_has_gone(
    named: Project, nowhere: Project
) -> None:
    status = named.json("status")
    named.cnd("mount")
    shutil.rmtree(named.cache / "images")
    assert nowhere.cnd("umount", "--address", status["address"][:8], status=15).stderr
    said = nowhere.cnd("umount", "--address", status["address"]).stderr
    assert said == f"Unmounted {status['prefix']}\n"
    assert not os.path.lexists(status["prefix"])


def test_a_name_moves_and_tells_what_it_was(named: Project) -> None:
    first = named.json("status")["address"]
    named.write(OTHER)
    second = named.json("build")["address"]
    told = named.cnd("tag", "tools/1.0").stderr
    assert told == f"tools/1.0 is {second} (before: {first[:12]})\n"
    assert [past["address"] for past in named.json("tag", "tools/1.0")["before"]] == [first]
    (report,) = json.loads(named.cnd("tag", "--list", "--json").stdout)
    assert (report["name"], report["address"]) == ("tools/1.0", second)
    assert re.search(rf"tools/1.0 +{second[:12]} .* {first[:12]}\n", named.cnd("tag").stdout)
    assert second in named.cnd("tag", "tools/1.0", "--delete").stderr
    assert named.cnd("tag", "--list").stdout == ""
    told = named.cnd("exec", "--env", "tools/1.0", "true", status=125).stderr
    assert "No image has the name tools/1.0" in told


def test_all_moves_of_a_name_are_told_though_they_are_made_at_once(tmp_path: Path) -> None:
    (tmp_path / "condainer.yml").write_text("cache_directory: cache\n")
    settings = load_settings(tmp_path)
    addresses = [f"{number:032x}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda address: names.give("tools", address, settings), addresses))
    name = names.find("tools", settings)
    assert sorted([name.address, *(past.address for past in name.before)]) == addresses


def test_the_image_of_a_name_stays(named: Project) -> None:
    address = named.json("status")["address"]
    image = Path(named.json("status")["image"])
    for note in (named.cache / "projects").iterdir():
        note.unlink()
    for path in (image, image.parent):
        os.utime(path, (1, 1))
    for note in (named.cache / "uses").iterdir():
        os.utime(note, (1, 1))
    options = ("gc", "--older-than", "1d", "--grace", "0d")
    kept = named.json(*options)["kept"]
    assert [item["why"] for item in kept] == ["name"]
    assert "1 with a name" in named.cnd(*options).stderr
    told = named.cnd("rm", address, status=None).stderr
    assert f"{address} is named tools/1.0" in told
    assert "--force" in told
    named.cnd("tag", "--delete", "tools/1.0")
    named.cnd("rm", address)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../up", "is not a name"),
        ("a/b/c", "is not a name"),
        (".hidden", "is not a name"),
        ("with space", "is not a name"),
        ("a@b", "is not a name"),
        ("a/", "is not a name"),
        ("x" * 101, "is not a name"),
        ("cafe", "could be an address"),
        ("2026", "could be an address"),
    ],
)
def test_what_cannot_be_a_name(named: Project, name: str, told: str) -> None:
    assert told in named.cnd("tag", "--", name, status=3).stderr
    assert sorted(os.listdir(named.cache / "names")) == ["tools@1.0"]


def test_mistakes_get_the_remedy(named: Project, nowhere: Project) -> None:
    told = nowhere.cnd("exec", "--env", "tols/1.0", "true", status=125).stderr
    assert "Did you mean tools/1.0?" in told
    told = nowhere.cnd("show", "nothing", status=None).stderr
    assert "neither a file, a name, nor an address" in told
    for words in (("--address", "cafe"), ("--env", "tools/1.0", "--address", "cafe")):
        nowhere.cnd("exec", *words, "true", status=125 if len(words) == 2 else 2)
    for more in ((), ("tools/1.0", "--list"), ("tools/1.0", "cafe")):
        told = named.cnd("tag", "--delete", *more, status=2).stderr
        assert "--delete takes one name" in told
    told = nowhere.cnd("tag", "new", status=None).stderr
    assert "there is no environment file, and no lock" in told
    # What lies in the cache under a name is not believed.
    for text in ("", "[]", "{", '{"address": "x", "since": "", "before": []}', "\0" * 100_000):
        path = named.cache / "names/tools@1.0"
        path.unlink()
        path.write_text(text)
        nowhere.cnd("exec", "--env", "tools/1.0", "true", status=125)
        assert named.cnd("tag", "--list").stdout == ""
    named.cnd("tag", "tools/1.0")
    nowhere.cnd("exec", "--env", "tools/1.0", "true")


def test_the_name_of_an_image_that_is_gone(named: Project, nowhere: Project) -> None:
    shutil.rmtree(named.cache / "images")
    told = nowhere.cnd("exec", "--env", "tools/1.0", "true", status=125).stderr
    assert "No image with the address" in told
    named.cnd("build")
    nowhere.cnd("exec", "--env", "tools/1.0", "true")


def test_names_are_answered_the_short_way(named: Project, nowhere: Project) -> None:
    prefix = named.json("status")["prefix"]
    named.cnd("mount")
    nowhere.cnd("exec", "--env", "tools/1.0", "true")
    for words in (("--env", "tools/1.0"), ("--env=tools/1.0",)):
        assert quick(nowhere, "exec", *words, "probe-prefix").stdout == f"{prefix}\n"
        assert quick(nowhere, "exec", *words, "--", "probe-prefix").stdout == f"{prefix}\n"
    address = named.json("status")["address"]
    nowhere.cnd("exec", "--address", address, "true")
    for words in (("--address", address), (f"--address={address}",)):
        assert quick(nowhere, "exec", *words, "--", "probe-prefix").stdout == f"{prefix}\n"
    quick(nowhere, "exec", "--address", address[:8], "true", status=LONG)
    # As wrappers and kernels do it.
    cache = ("--set", f"cache_directory={named.json('status')['cache']}")
    another = ("--set", f"cache_directory={named.path}/another")
    nowhere.cnd(*cache, "exec", "--address", address, "true")
    assert quick(nowhere, *cache, "exec", "--address", address, "probe-prefix").stdout == (
        f"{prefix}\n"
    )
    quick(nowhere, *another, "exec", "--address", address, "true", status=LONG)
    quick(nowhere, *cache, "exec", "true", status=LONG)
    # By the variable there is another stamp, since what is found may depend on variables.
    quick(nowhere, "exec", "true", status=LONG, CONDAINER_ENV="tools/1.0")
    nowhere.cnd("exec", "true", CONDAINER_ENV="tools/1.0")
    quick(nowhere, "exec", "true", CONDAINER_ENV="tools/1.0")
    # A name that has moved, or is gone, is not answered from memory.
    named.cnd("umount")
    named.write(OTHER)
    second = named.json("build")["prefix"]
    named.cnd("tag", "tools/1.0")
    quick(nowhere, "exec", "--env", "tools/1.0", "true", status=LONG)
    assert nowhere.cnd("exec", "--env", "tools/1.0", "probe-prefix").stdout == f"{second}\n"
    named.cnd("tag", "--delete", "tools/1.0")
    quick(nowhere, "exec", "--env", "tools/1.0", "true", status=LONG)


def test_the_stamp_of_a_project_is_not_that_of_a_name(named: Project, make_project: Any) -> None:
    other: Project = make_project("other", OTHER)
    other.cnd("mount") if other.json("build") else None
    prefix = named.json("status")["prefix"]
    for _ in range(3):
        done = other.cnd("exec", "probe-prefix", CONDAINER_ENV="tools/1.0")
        assert done.stdout == f"{prefix}\n"
        assert other.cnd("exec", "--env", "tools/1.0", "probe-prefix").stdout == f"{prefix}\n"
        own = other.cnd("exec", "probe-prefix").stdout
        assert own == f"{other.json('status')['prefix']}\n"
    # The image that is named for activation, or on the command line, comes first.
    script = "source ./activate && probe-prefix; deactivate"
    assert other.bash(f"export CONDAINER_ENV=tools/1.0; {script}").stdout == own
    address = other.json("status")["address"]
    done = other.cnd("exec", "--address", address, "probe-prefix", CONDAINER_ENV="tools/1.0")
    assert done.stdout == own


@pytest.mark.xdist_group("accounts")
def test_only_its_owner_moves_a_name(members: tuple[Member, Member]) -> None:
    private, open_ = members
    first = private.build("probe-prefix")
    private.cnd("tag", "shared")
    second = open_.build("probe-prefix, probe-files")
    for words in (("tag", "shared"), ("tag", "shared", "--delete")):
        told = open_.cnd(*words, status=12).stderr
        assert f"belongs to {private.name}" in told
    elsewhere = open_.home / "elsewhere"
    elsewhere.mkdir()
    done = replace(open_, home=elsewhere).cnd("exec", "--env", "shared", "probe-prefix")
    assert done.stdout == f"{first['prefix']}\n"
    open_.cnd("tag", "shared/2")
    assert second["address"] != first["address"]
    listed = private.cnd("tag", "--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["TAG", "shared", "shared/2"]


def test_a_name_of_a_cache_that_is_looked_into_first(named: Project, tmp_path: Path) -> None:
    shutil.copytree(named.cache, tmp_path / "first")
    named.write(OTHER)
    named.cnd("build")
    named.environment["CONDAINER_READONLY_CACHES"] = str(tmp_path / "first")
    told = named.cnd("tag", "tools/1.0", status=3).stderr
    assert f"{tmp_path}/first, which is looked into first, has the name tools/1.0" in told
    named.cnd("tag", "other")


def test_names_stand_wherever_addresses_do(named: Project, nowhere: Project) -> None:
    prefix = named.json("status")["prefix"]
    done = nowhere.cnd("exec", "--address", "tools/1.0", "probe-prefix")
    assert done.stdout == f"{prefix}\n"
    assert "is named" in nowhere.cnd("rm", "tools/1.0", status=None).stderr
    # What is said on the command line comes before the variable.
    named.write(OTHER)
    own = named.json("build")["prefix"]
    done = named.cnd("exec", "--frozen", "probe-prefix", CONDAINER_ENV="tools/1.0")
    assert done.stdout == f"{own}\n"
    named.cnd("rm", "--force", "tools/1.0")
