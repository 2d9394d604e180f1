"""The content address: what it depends on, and all that it does not."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from hypothesis import assume, given
from hypothesis import strategies as st

from condainer.lock.address import (
    RECIPE,
    Address,
    address_of,
    canonical_text,
    prefix_of,
    stated_address,
)
from condainer.lock.explicit import parse_explicit, render_explicit
from condainer.lock.locks import CondaPackage, Lock, PipPackage, Source
from tests.helpers.locks import locks

BASE = Path("/tmp")
A, B, C = (letter * 64 for letter in "abc")
LOCK = Lock(
    platform="linux-64",
    conda=(
        CondaPackage("https://one.example/conda-forge/linux-64/python-3.12.1-0_cpython.conda", A),
        CondaPackage("https://one.example/conda-forge/noarch/tzdata-2024a%2B1-0.tar.bz2", B),
    ),
    pip=(PipPackage("rich", "https://one.example/rich-15.0-py3-none-any.whl", C),),
    variables=(("B", "two\nlines"), ("A", "1")),
    inputs=A,
    sources=(Source("environment.yml", A),),
    name="demo",
)
TEXT = f"""\
condainer-recipe 2
platform linux-64
base /tmp
conda linux-64/python-3.12.1-0_cpython.conda sha256:{A}
conda noarch/tzdata-2024a+1-0.tar.bz2 sha256:{B}
pip rich-15.0-py3-none-any.whl sha256:{C}
variable A=1
variable B=two\\nlines
"""


def digest(lock: Lock, base: Path = BASE) -> str:
    return address_of(lock, base).digest


def test_the_canonical_text() -> None:
    assert canonical_text(LOCK, BASE) == TEXT


def test_the_address_is_the_hash_of_the_text() -> None:
    address = address_of(LOCK, BASE)
    assert address.text == TEXT
    assert address.digest == xxhash.xxh3_128(TEXT.encode()).hexdigest()
    assert address.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert address.prefix == Path(f"/tmp/condainer-{address.digest}")
    assert address.prefix == prefix_of(address.digest, BASE)


def test_a_known_address() -> None:
    # A change of this value means that every image in every cache is lost.
    lock = Lock("linux-64", (CondaPackage("https://x.example/c/noarch/a-1-0.conda", A),))
    assert digest(lock) == "0d8ef001a548ad25ef10d65f2a4970ab"
    # What the first recipe gave is still found under its address.
    assert address_of(lock, BASE, 1).digest == "7111d7ea6bcde51002fc65579709da0e"


def test_the_recipe_that_an_address_was_made_with() -> None:
    for recipe in range(1, RECIPE + 1):
        address = address_of(LOCK, BASE, recipe)
        assert address.recipe == recipe
        assert stated_address(LOCK, BASE, address.digest) == address
    assert stated_address(LOCK, BASE, "0" * 32) == address_of(LOCK, BASE)


@given(locks)
def test_the_form_of_an_address(lock: Lock) -> None:
    address = address_of(lock, BASE)
    assert len(address.digest) == 32
    assert set(address.digest) <= set("0123456789abcdef")
    assert address.text.endswith("\n")
    assert "\r" not in address.text
    assert "\n\n" not in address.text


def moved(url: str) -> str:
    return "https://mirror.example/t/token/other/" + "/".join(url.rsplit("/", 2)[1:])


@given(locks, st.randoms(use_true_random=False), st.text(), st.text())
def test_order_hosts_names_and_inputs_do_not_matter(
    lock: Lock, chance: random.Random, name: str, origin: str
) -> None:
    other = replace(
        lock,
        conda=tuple(
            replace(package, url=moved(package.url))
            for package in chance.sample(lock.conda, len(lock.conda))
        ),
        pip=tuple(
            replace(package, url=moved(package.url))
            for package in chance.sample(lock.pip, len(lock.pip))
        ),
        variables=tuple(chance.sample(lock.variables, len(lock.variables))),
        inputs=B,
        sources=(),
        name=name,
        origin=origin,
    )
    assert address_of(other, BASE) == address_of(lock, BASE)


@given(locks)
def test_an_address_survives_the_lockfile(lock: Lock) -> None:
    again = parse_explicit(render_explicit(lock), "x", lock.platform)
    assert address_of(again, BASE) == address_of(lock, BASE)


@given(locks, locks)
def test_what_differs_has_another_address(one: Lock, other: Lock) -> None:
    def content(lock: Lock) -> object:
        return (
            {(p.subdir, p.filename, p.sha256) for p in lock.conda},
            {(p.filename, p.sha256) for p in lock.pip},
            set(lock.variables),
            lock.post_link_scripts,
        )

    assert (digest(one) == digest(other)) == (content(one) == content(other))


URL = "https://one.example/conda-forge"
CHANGES = {
    "platform": replace(LOCK, platform="linux-aarch64"),
    "a package less": replace(LOCK, conda=LOCK.conda[:1]),
    "a wheel less": replace(LOCK, pip=()),
    "a package's hash": replace(LOCK, conda=(replace(LOCK.conda[0], sha256=C), LOCK.conda[1])),
    "a package's file": replace(
        LOCK,
        conda=(CondaPackage(f"{URL}/linux-64/python-3.12.1-1_cpython.conda", A), LOCK.conda[1]),
    ),
    "a package's subdir": replace(
        LOCK, conda=(CondaPackage(f"{URL}/noarch/python-3.12.1-0_cpython.conda", A), LOCK.conda[1])
    ),
    "a wheel's hash": replace(LOCK, pip=(replace(LOCK.pip[0], sha256=A),)),
    "a wheel's file": replace(
        LOCK, pip=(PipPackage("rich", "https://one.example/rich-16.0-py3-none-any.whl", C),)
    ),
    "post-link scripts": replace(LOCK, post_link_scripts=True),
    "a variable less": replace(LOCK, variables=LOCK.variables[:1]),
    "a variable's value": replace(LOCK, variables=(LOCK.variables[0], ("A", "2"))),
    "a variable's blank": replace(LOCK, variables=(LOCK.variables[0], ("A", "1 "))),
    "a variable's name": replace(LOCK, variables=(LOCK.variables[0], ("a", "1"))),
    "a variable with an escape": replace(LOCK, variables=(("A", "1"), ("B", "two\\nlines"))),
    "a variable that looks like two": replace(LOCK, variables=(("A", "1\nvariable B=two\nlines"),)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_a_lock_matters(change: str) -> None:
    assert digest(CHANGES[change]) != digest(LOCK)


def test_no_two_changes_have_the_same_address() -> None:
    assert len({digest(lock) for lock in [LOCK, *CHANGES.values()]}) == len(CHANGES) + 1


@given(st.from_regex(r"\A(/[a-zA-Z0-9äö .-]{1,8}){1,3}\Z"))
def test_the_base_directory_matters(base: str) -> None:
    assume(Path(base) != BASE)
    address = address_of(LOCK, Path(base))
    assert address.digest != digest(LOCK)
    assert address.prefix.parent == Path(base)


def test_the_address_does_not_depend_on_the_process(tmp_path: Path) -> None:
    lockfile = tmp_path / "x.lock"
    lockfile.write_text(render_explicit(LOCK), encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from condainer.lock import address, explicit\n"
        "locked = explicit.read_explicit(Path(sys.argv[1]), 'linux-64')\n"
        "print(address.address_of(locked, Path('/tmp')).digest)\n"
    )
    for environment in ({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, {"PYTHONHASHSEED": "2"}):
        done = subprocess.run(
            [sys.executable, "-c", program, str(lockfile)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == digest(LOCK)


def test_two_addresses_with_one_digest_are_told_apart() -> None:
    # A collision cannot be made on demand, so it is pretended.
    assert Address("0" * 32, "a\n", BASE).sha256 != Address("0" * 32, "b\n", BASE).sha256
