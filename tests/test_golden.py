"""The golden vectors: locks, and the addresses they must give now and in every later version."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from pathlib import Path

import pytest
import xxhash

from condainer.address import address_of
from condainer.explicit import parse_explicit, read_explicit, render_explicit
from condainer.lock import Lock

BASE = Path("/tmp")
VECTORS = sorted((Path(__file__).resolve().parents[1] / "lockfiles").glob("*.lock"))
NAMES = [path.stem for path in VECTORS]


@pytest.fixture(params=VECTORS, ids=NAMES)
def vector(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def read(path: Path) -> Lock:
    return read_explicit(path, "linux-64")


def test_the_vectors_are_there() -> None:
    assert {"conda-only", "conda-and-pypi", "variables", "demo"} <= set(NAMES)


def test_a_lock_gives_its_canonical_text_and_address(vector: Path) -> None:
    address = address_of(read(vector), BASE)
    assert address.text == vector.with_suffix(".recipe").read_text(encoding="utf-8")
    assert address.digest == vector.with_suffix(".address").read_text().strip()
    assert str(address.prefix) == f"/tmp/condainer-{address.digest}"


def test_the_address_is_the_hash_of_the_canonical_text(vector: Path) -> None:
    text = vector.with_suffix(".recipe").read_bytes()
    assert xxhash.xxh3_128(text).hexdigest() == vector.with_suffix(".address").read_text().strip()
    assert address_of(read(vector), BASE).sha256 == hashlib.sha256(text).hexdigest()


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
