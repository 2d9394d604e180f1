"""Locks of every kind, for tests of what holds for all of them."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from condainer.lock.locks import ABSENT, CondaPackage, Lock, PipPackage, Source

CHANNEL = "https://channel.example/conda-forge"
LOWER, DIGITS = string.ascii_lowercase, string.digits


def names(first: str, others: str) -> st.SearchStrategy[str]:
    """Return names of up to ten characters; regular expressions take three times as long."""
    return st.builds(str.__add__, st.sampled_from(first), st.text(others, max_size=9))


words = names(LOWER + DIGITS + "_", LOWER + DIGITS + "_.")
hashes = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
conda_packages = st.builds(
    lambda name, version, build, subdir, ending, digest: CondaPackage(
        f"{CHANNEL}/{subdir}/{name}-{version}-{build}{ending}", digest
    ),
    words,
    words,
    words,
    st.sampled_from(["linux-64", "noarch"]),
    st.sampled_from([".conda", ".tar.bz2"]),
    hashes,
)
pip_packages = st.builds(
    lambda name, version, digest: PipPackage(
        name, f"https://wheels.example/{name}/{name}-{version}-py3-none-any.whl", digest
    ),
    names(LOWER, LOWER + DIGITS),
    words,
    hashes,
)
# Whatever a file in UTF-8 can hold, but NUL, which no variable and no path can.
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
locks = st.builds(
    Lock,
    st.just("linux-64"),
    st.lists(conda_packages, min_size=1, max_size=4, unique_by=lambda p: p.name).map(tuple),
    st.lists(pip_packages, max_size=3, unique_by=lambda p: p.name).map(tuple),
    st.dictionaries(
        names(string.ascii_letters + "_", string.ascii_letters + DIGITS + "_"), values, max_size=3
    ).map(lambda items: tuple(items.items())),
    st.booleans(),
    hashes,
    st.lists(
        st.builds(Source, values.filter(bool), hashes | st.just(ABSENT)), min_size=1, max_size=3
    ).map(tuple),
    values,
    values,
)
