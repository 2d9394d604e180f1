"""An image that a registry or a web server has, before its bytes are here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from condainer.cache.papers import Papers, disagreements, read_papers
from condainer.oci.errors import NotThere, WrongContent
from condainer.system.errors import IntegrityError
from condainer.system.machine import this_platform

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Offer:
    """An image that can be pulled: where it is, and its papers, which agree.

    `image` writes the bytes into an open file, and tells how many have come; `signatures` yields
    unchecked signatures of the manifest.
    """

    where: str
    host: str
    papers: Papers
    image: Callable[[BinaryIO, Tell], None]
    signatures: Callable[[], Iterator[bytes]]


def checked(manifest_text: bytes, lock_text: bytes, where: str, address: str = "") -> Papers:
    """Return the papers of an image for this machine.

    Parameters: `address` is the one that was asked for, if any. Raises IntegrityError for papers
    that do not agree.
    """
    papers = read_papers(manifest_text, lock_text, where)
    problems = disagreements(papers)
    if address and papers.address.digest != address:
        problems.append(f"the lock has the address {papers.address.digest}")
    if papers.lock.platform != this_platform():
        problems.append(f"it is for {papers.lock.platform}, and this machine is {this_platform()}")
    refuse(where, problems)
    return papers


@contextmanager
def promised(where: str) -> Iterator[None]:
    """Turn NotThere, for what a manifest promises, into WrongContent."""
    try:
        yield
    except NotThere as error:
        raise WrongContent(
            f"{where} is incomplete: {error.message}", "Push it again: `cnd push`."
        ) from None


def refuse(where: str, problems: list[str]) -> None:
    """Raise IntegrityError if an image somewhere has problems."""
    if problems:
        raise IntegrityError(
            f"{where} is not what it should be: {'; '.join(problems)}",
            "It is not used. Ask who put it there, or the administrator.",
        )
