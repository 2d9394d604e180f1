"""Many entries, broken and hostile ones, shortened addresses; what recipes and locks name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import entries, names
from condainer.cli import tables
from condainer.images import inventory
from condainer.lock.address import address_of
from condainer.lock.contents import Package, contents_of, contents_of_recipe, difference
from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError, NotBuiltError
from tests.helpers.entries import digest, make_entry

MANY = 10_000
GOLDEN = Path(__file__).resolve().parents[2] / "lockfiles"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def settings(load: Callable[..., Settings], root: Path) -> Settings:
    return load(f"cache_directory={root}")


def test_ten_thousand_entries_are_read_once_each(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    for name in (entries.IMAGE, entries.LOCK):
        (root / name).write_bytes(b"hsqs")
    start = time.monotonic()
    for number in range(MANY):
        make_entry(root, digest(number), name=f"demo{number % 7}")
    written = time.monotonic() - start
    program = """
import sys
opened = 0
def count(event, arguments):
    global opened
    opened += event == "open" and str(arguments[0]).startswith(sys.argv[1])
sys.addaudithook(count)
from condainer.__main__ import main
status = main(["list", "--json"])
heavy = {"rattler", "rich", "conda_lock"} & set(sys.modules)
print(status, opened, sorted(heavy), file=sys.stderr)
"""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        env={**os.environ, "CONDAINER_CACHE": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    # Each manifest, and the directories of leases and of uses.
    assert done.stderr == f"0 {MANY + 2} []\n"
    assert len(json.loads(done.stdout)) == MANY
    # About half the time; an access more for each entry would hardly show here, but anything that
    # is not linear does.
    assert seconds < 10 * written


def test_the_list_is_sorted_by_name_then_age(root: Path, settings: Settings) -> None:
    make_entry(root, digest(1), name="b", created="2026-01-02T00:00:00Z")
    make_entry(root, digest(2), name="a", created="2026-01-02T00:00:00Z")
    make_entry(root, digest(3), name="a", created="2026-01-03T00:00:00Z")
    broken = make_entry(root, digest(4), name="A")
    (broken / entries.IMAGE).unlink()
    items = inventory.inventory(settings)
    assert [item.address for item in items] == [digest(n) for n in (3, 2, 1, 4)]
    assert [item.entry is None for item in items] == [False, False, False, True]


@pytest.mark.parametrize(
    "values",
    [
        {"name": 5},
        {"size": "4"},
        {"size": 5},
        {"size": True},
        {"prefix": None},
        {"tools": []},
        {"format": 2},
        {"address": digest(2)},
        {"created": ["x"]},
    ],
)
def test_manifests_that_say_what_they_should_not_are_broken(
    root: Path, settings: Settings, values: dict[str, Any]
) -> None:
    directory = make_entry(root, digest(1))
    assert inventory.inventory(settings)[0].entry is not None
    manifest = json.loads((directory / entries.MANIFEST).read_text())
    (directory / entries.MANIFEST).write_text(json.dumps({**manifest, **values}))
    (item,) = inventory.inventory(settings)
    assert item.entry is None
    assert item.report()["whole"] is False


@pytest.mark.parametrize(
    "values",
    [
        {"created": "yesterday"},
        {"created": "9999-99-99T00:00:00Z"},
        {"prefix": "\0/condainer"},
        {"prefix": ""},
        {"name": "\x1b[2J\nevil", "builder": "\u202e\ud800"},
        {"size": 4, "tools": {"x": 1}},
    ],
)
def test_odd_manifests_are_listed_in_one_line(
    root: Path, settings: Settings, values: dict[str, Any]
) -> None:
    make_entry(root, digest(1), **values)
    lines = list(tables.images(inventory.inventory(settings), 0))
    assert len(lines) == 2
    assert lines[1].startswith(digest(1)[:12])
    assert lines[1].isprintable()


def test_what_is_no_entry_is_not_listed(root: Path, settings: Settings, tmp_path: Path) -> None:
    make_entry(root, digest(1))
    group = root / "images" / digest(1)[:2]
    (group / "README").write_text("")
    (group / ("0" * 31)).mkdir()
    (root / "images" / "other").mkdir()
    (group / digest(1)[::-1]).symlink_to(group / digest(1))
    (root / "images" / "zz").symlink_to(tmp_path)
    assert [item.address for item in inventory.inventory(settings)] == [digest(1)]


def test_several_caches_are_listed_with_their_roots(
    load: Callable[..., Settings], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make_entry(one, digest(1), name="x")
    make_entry(two, digest(1), name="x")
    settings = load(f"cache_directory={one}", f"readonly_caches={two}:{tmp_path / 'gone'}")
    items = inventory.inventory(settings)
    assert [item.root for item in items] == [two, one]
    assert str(two) in list(tables.images(items, 0))[1]
    assert "CACHE" not in next(tables.images(items[:1], 0))
    assert inventory.named(digest(1)[:4], settings)[0].root == two


def test_shortened_addresses(root: Path, settings: Settings) -> None:
    for address in ("abcd" + "1" * 28, "abcd" + "2" * 28, "abce" + "3" * 28):
        make_entry(root, address, name=f"env{address[-1]}")
    assert inventory.named("ABCD1", settings)[0].address == "abcd" + "1" * 28
    with pytest.raises(NotBuiltError, match="2 addresses") as caught:
        inventory.named("abcd", settings)
    assert "env1" in caught.value.hint
    assert "env2" in caught.value.hint
    assert "env3" not in caught.value.hint
    with pytest.raises(NotBuiltError) as caught:
        inventory.named("abcf", settings)
    assert "abce" in caught.value.hint
    assert "env3" in inventory.unknown("env3", settings).hint
    assert names.DIGITS.fullmatch("abcd")
    assert not names.DIGITS.fullmatch("abc")
    assert not names.DIGITS.fullmatch("0" * 33)


def test_a_whole_place_comes_before_a_broken_one(root: Path, settings: Settings) -> None:
    broken = make_entry(root, digest(1))
    whole = broken.with_name(f"{digest(1)}.1")
    os.rename(broken, whole)
    broken.mkdir()
    assert [item.directory for item in inventory.named(digest(1), settings)] == [whole, broken]


def test_the_time_of_last_use_is_that_of_the_image(root: Path, settings: Settings) -> None:
    image = make_entry(root, digest(1)) / entries.IMAGE
    for times in ((1e9, 5e8), (5e8, 1e9)):
        os.utime(image, times)
        assert inventory.inventory(settings)[0].report()["last_used"] == "2001-09-09T01:46:40Z"


# What locks and recipes name


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.recipe")), ids=lambda path: str(path.stem))
def test_a_recipe_and_its_lock_name_the_same(path: Path) -> None:
    from condainer.images.show import read_lock

    lock = read_lock(path.with_suffix(".lock"))
    of_lock = contents_of(lock, Path("/tmp"))
    of_recipe = contents_of_recipe(path.read_text(), "x")
    assert of_recipe.packages or of_lock.packages
    assert difference(of_lock, of_recipe).is_empty


@pytest.mark.parametrize(
    ("filename", "wanted"),
    [
        ("a_b-1.0-py3-none-any.whl", ("a_b", "1.0", "py3-none-any")),
        ("a-b-1.0.tar.gz", ("a-b", "1.0", "")),
        ("a-1.zip", ("a", "1", "")),
        ("odd", ("odd", "", "")),
    ],
)
def test_names_and_versions_of_pip_files(filename: str, wanted: tuple[str, str, str]) -> None:
    lock = Lock("linux-64", (), (PipPackage("", f"https://x.invalid/{filename}", "0" * 64),))
    (package,) = contents_of(lock, Path("/tmp")).packages
    assert (package.name, package.version, package.build) == wanted


def lock_of(*conda: str, **more: Any) -> Lock:
    urls = (f"https://x.invalid/c/linux-64/{name}.conda" for name in conda)
    return Lock("linux-64", tuple(CondaPackage(url, "0" * 64) for url in urls), **more)


def test_the_difference_of_two_locks() -> None:
    wheels = [
        PipPackage(name, f"https://x.invalid/{name}-{version}-py3-none-any.whl", "1" * 64)
        for name, version in (("X.y", "1"), ("x_Y", "2"))
    ]
    old = lock_of("a-1-0", "b-1-0", "c-1-0", pip=(wheels[0],), variables=(("V", "1"), ("W", "1")))
    new = lock_of("a-1-0", "c-2-1", "d-1-0", pip=(wheels[1],), variables=(("V", "2"), ("U", "")))
    changes = difference(contents_of(old, Path("/tmp")), contents_of(new, Path("/scratch")))
    assert [package.name for package in changes.added] == ["d"]
    assert [package.name for package in changes.removed] == ["b"]
    versions = [(before.version, after.version) for before, after in changes.changed]
    assert versions == [("1", "2"), ("1", "2")]
    assert [(c.name, c.old, c.new) for c in changes.variables] == [
        ("U", None, ""),
        ("V", "1", "2"),
        ("W", "1", None),
    ]
    assert [(c.name, c.new) for c in changes.settings] == [("base", "/scratch")]
    lines = [" ".join(line.split()) for line in tables.changes(changes)]
    assert "- conda b 1 0" in lines
    assert "+ conda d 1 0" in lines
    assert "~ conda c 1 0 -> 2 1" in lines
    assert "~ variable V 1 -> 2" in lines
    assert "- variable W 1" in lines


def test_other_bytes_under_the_same_name_are_a_difference() -> None:
    old = contents_of(lock_of("a-1-0"), Path("/tmp"))
    (package,) = old.packages
    new = contents_of(
        Lock("linux-64", (CondaPackage("https://x.invalid/linux-64/a-1-0.conda", "f" * 64),)),
        Path("/tmp"),
    )
    changes = difference(old, new)
    assert changes.changed == ((package, new.packages[0]),)
    assert "ffff" in next(tables.changes(changes))
    assert isinstance(package, Package)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "condainer-recipe 1\n",
        "condainer-recipe 1\nplatform linux-64\nbase /tmp\nnonsense\n",
        f"condainer-recipe 1\nplatform linux-64\nbase /tmp\nconda x/y sha256:{'0' * 64}\n",
    ],
)
def test_damaged_recipes(text: str) -> None:
    with pytest.raises(IntegrityError, match="image"):
        contents_of_recipe(text, "image")


def test_recipes_with_values_of_several_lines() -> None:
    lock = lock_of("a-1-0", variables=(("V", "a\\n\nb=\r "),), post_link_scripts=True)
    address = address_of(lock, Path("/with blank"))
    contents = contents_of_recipe(address.text, "x")
    assert difference(contents, contents_of(lock, Path("/with blank"))).is_empty
    assert contents.post_link_scripts


# Tables


def test_a_table_fits_where_it_can() -> None:
    rows = [["a" * 20, "b" * 30], ["c", "d"]]
    assert [len(line) for line in tables.aligned(rows, 40, 1)] == [40, 23]
    assert next(tables.aligned(rows, 40, 1)).endswith("b…")
    assert max(len(line) for line in tables.aligned(rows, 10, 1)) == 30
    assert max(len(line) for line in tables.aligned(rows)) == 52


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(5, "now"), (60, "1 min"), (7200, "2 h"), (86400 * 3, "3 d"), (86400 * 800, "2 y")],
)
def test_ages(seconds: int, wanted: str) -> None:
    assert tables.ago(1e9 - seconds, 1e9) == wanted
    assert tables.ago(0, 1e9) == "-"
