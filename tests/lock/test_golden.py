"""The golden vectors: locks, and the addresses they must give now and in every later version."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from pathlib import Path

import pytest
import xxhash

from condainer.lock.address import RECIPE, address_of
from condainer.lock.explicit import parse_explicit, read_explicit, render_explicit
from condainer.lock.locks import Lock

BASE = Path("/tmp")
VECTORS = sorted((Path(__file__).resolve().parents[2] / "lockfiles").glob("*.lock"))
NAMES = [path.stem for path in VECTORS]
RECIPES = range(1, RECIPE + 1)


@pytest.fixture(params=VECTORS, ids=NAMES)
def vector(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def beside(vector: Path, recipe: int, suffix: str) -> str:
    """Return what is recorded for a lock; earlier recipes have a directory of their own."""
    directory = vector.parent if recipe == RECIPE else vector.parent / f"recipe-{recipe}"
    return (directory / vector.name).with_suffix(suffix).read_text(encoding="utf-8")


def read(path: Path) -> Lock:
    return read_explicit(path, "linux-64")


def test_the_vectors_are_there() -> None:
    assert {"conda-only", "conda-and-pypi", "variables", "from-source", "demo"} <= set(NAMES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_lock_gives_its_canonical_text_and_address(vector: Path, recipe: int) -> None:
    address = address_of(read(vector), BASE, recipe)
    assert address.text == beside(vector, recipe, ".recipe")
    assert address.digest == beside(vector, recipe, ".address").strip()
    assert str(address.prefix) == f"/tmp/condainer-{address.digest}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_address_is_the_hash_of_the_canonical_text(vector: Path, recipe: int) -> None:
    text = beside(vector, recipe, ".recipe").encode()
    assert xxhash.xxh3_128(text).hexdigest() == beside(vector, recipe, ".address").strip()
    assert address_of(read(vector), BASE, recipe).sha256 == hashlib.sha256(text).hexdigest()


def test_a_lock_is_rendered_as_it_was_written(vector: Path) -> None:
    assert render_explicit(read(vector)) == vector.read_text(encoding="utf-8")


def test_hosts_names_and_order_do_not_matter(vector: Path) -> None:
    lock = read(vector)
    packages = list(lock.conda)
    random.Random(1).shuffle(packages)
    text = render_explicit(dataclasses.replace(lock, conda=tuple(packages), name="other"))
    text = re.sub(r"https://[a-z.]+/", "https://mirror.example/a/b/", text)
    other = parse_explicit(text, "other", "linux-64")
    assert address_of(other, BASE).digest == address_of(lock, BASE).digest


def test_everything_in_the_canonical_text_matters(vector: Path) -> None:
    lock = read(vector)
    first = lock.conda[0]
    changed = dataclasses.replace(first, sha256=first.sha256[::-1])
    others = [
        address_of(lock, Path("/scratch")),
        address_of(dataclasses.replace(lock, platform="linux-aarch64"), BASE),
        address_of(dataclasses.replace(lock, conda=lock.conda[1:]), BASE),
        address_of(dataclasses.replace(lock, conda=(changed, *lock.conda[1:])), BASE),
        address_of(dataclasses.replace(lock, variables=(*lock.variables, ("X", "1"))), BASE),
        address_of(dataclasses.replace(lock, post_link_scripts=True), BASE),
    ]
    digests = {address_of(lock, BASE).digest, *(address.digest for address in others)}
    assert len(digests) == 1 + len(others)
