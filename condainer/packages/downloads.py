"""The files that a lock names, fetched into the package cache by URL and sha256."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import TypeVar

from condainer.network import http, rattler_client, silence
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import pages
from condainer.settings.config import Settings
from condainer.system import threads
from condainer.system.errors import IntegrityError, NetworkError, OfflineError
from condainer.system.files import storage_errors
from condainer.system.reporter import Reporter, Silent
from condainer.system.text import reason
from condainer.system.urls import PAGE, redacted

Item = TypeVar("Item")
Result = TypeVar("Result")

# Files that are named one by one before the rest is only counted.
NAMED = 20
# Locks do not tell sizes. No package has so many bytes, but an answer may have no end.
LARGEST = 32 << 30
# Seconds between two looks whether there was a ^C.
TICK = 0.5


def fetch(
    files: Sequence[File], settings: Settings, reporter: Reporter, title: str
) -> tuple[Path, ...]:
    """Return where files stand in the package caches, downloading what is missing.

    Every file is checked against its sha256. Raises IntegrityError when what a server gives has
    another one, NetworkError when it cannot be downloaded, OfflineError when it must not be.
    """
    paths = find(files, settings)
    missing = [file for file, path in paths.items() if path is None]
    if settings.offline and (lines := remote(missing)):
        raise offline_error(lines)
    if missing:
        reporter.step(title, "packages")
        with storage_errors(f"keep downloaded packages in {settings.package_cache}"):
            paths.update(at_once(missing, _fetch, settings, reporter))
    return tuple(path for file in files if (path := paths[file]) is not None)


def find(files: Sequence[File], settings: Settings) -> dict[File, Path | None]:
    """Return where files stand whose bytes are right, or None."""
    # Hashing leaves the interpreter to others.
    with threads.pool(settings.jobs) as pool:
        paths = pool.map(lambda file: archives.find(file, settings), files)
        return dict(zip(files, paths, strict=True))


def fetch_unknown(url: str, path: Path, stop: threading.Event) -> str:
    """Write a file of unknown sha256, until `stop` is set, and return its sha256.

    Raises NetworkError when it cannot be downloaded, OSError.
    """
    with path.open("w+b") as stream:
        received = http.Received(stream, most=LARGEST)
        _get(url, received, stop)
        _refuse_page(url, received)
    return received.sha256.hexdigest()


def remote(files: Sequence[File]) -> list[str]:
    """Return a line for each file that only a connection can bring."""
    return [
        f"{file.filename} from {redacted(file.url)}"
        for file in files
        if not any(place.removeprefix(PAGE).startswith("file://") for place in file.places)
    ]


def offline_error(lines: Sequence[str]) -> OfflineError:
    """Return the error that names what is missing and where it would come from."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    listed = "\n".join(f"  {line}" for line in [*lines[:NAMED], *more])
    count = "1 file is" if len(lines) == 1 else f"{len(lines)} files are"
    return OfflineError(
        f"Nothing may be downloaded (`offline`), and {count} missing in the package cache:\n"
        f"{listed}",
        "Run `cnd fetch` where there is a network and the same package cache, or carry the "
        "packages over: `cnd bundle FILE` there, `cnd build --from FILE` here.",
    )


def at_once(
    items: Sequence[Item],
    get: Callable[[Item, Path, Settings, threading.Event], Result],
    settings: Settings,
    reporter: Reporter,
) -> dict[Item, Result]:
    """Get several different things at a time, and return what `get` does for each.

    Parameters: `get` is told where to write, in a private directory of the package cache, and what
    is set when it should stop. Raises what the first that fails does, OSError.
    """
    stop = threading.Event()
    fetched: dict[Item, Result] = {}
    root = archives.writable_root(settings)
    with archives.partials(root) as directory, threads.pool(http.PARALLEL) as pool:
        try:
            tasks = {
                pool.submit(get, item, directory / str(number), settings, stop): item
                for number, item in enumerate(items)
            }
            waiting = set(tasks)
            while waiting:
                # Python can miss a ^C just before it begins to wait, until that ends.
                done, waiting = wait(waiting, TICK, FIRST_COMPLETED)
                for task in done:
                    fetched[tasks[task]] = task.result()
                    reporter.progress(len(fetched), len(items))
        finally:
            stop.set()
    return fetched


def _fetch(file: File, partial: Path, settings: Settings, stop: threading.Event) -> Path:
    problem: Exception | None = None
    for url in file.places:
        try:
            with partial.open("w+b") as stream:
                received = http.Received(stream, most=LARGEST, wanted=file.sha256)
                _fetch_from(url, file, received, stop)
            return archives.publish(partial, file, settings)
        except (NetworkError, IntegrityError) as error:
            problem = error
        if stop.is_set():
            break
    assert problem is not None
    raise problem


def _fetch_from(url: str, file: File, received: http.Received, stop: threading.Event) -> None:
    """Get a file from one place; raises IntegrityError if it is another one there, NetworkError."""
    if url.startswith(PAGE):
        url = _linked(url.removeprefix(PAGE), file, stop)
    _get(url, received, stop)
    if not received.is_wrong:
        return
    _refuse_page(url, received)
    raise IntegrityError(
        f"{redacted(url)} has the sha256 {received.sha256.hexdigest()}, but the lock says "
        f"{file.sha256}",
        "Do not use it before the server's administrator has explained the difference; "
        "`cnd lock` accepts what the index says now.",
    )


def _refuse_page(url: str, received: http.Received) -> None:
    if received.is_page:
        raise NetworkError(
            f"{redacted(url)} cannot be downloaded: the server sends a web page, not the file",
            "Open the URL in a browser: the page may be that of a login or of a proxy. "
            "User and password belong in ~/.netrc; `mirrors:` in condainer.yml names a mirror.",
        )


def _linked(page: str, file: File, stop: threading.Event) -> str:
    try:
        return pages.find(page, file.filename, stop)
    except http.Unavailable as error:
        raise _unreachable(page, str(error)) from None


def _get(url: str, received: http.Received, stop: threading.Event) -> None:
    if not url.startswith(("http://", "https://", "file://")):
        _by_rattler(url, received, "")
        return
    try:
        http.fetch(url, received, stop)
    except http.Unavailable as error:
        if error.status not in http.DENIED:
            raise _unreachable(url, str(error)) from None
        _by_rattler(url, received, str(error))


def _by_rattler(url: str, received: http.Received, refused: str) -> None:
    """Get a file through rattler, which knows other protocols and the logins of conda channels."""
    from rattler.package_streaming import download_to_writer

    received.restart()
    client = rattler_client.client()
    try:
        download = download_to_writer(client, url, received)
        asyncio.run(silence.watched(download, [url], Silent()))
    except NetworkError:
        raise
    except Exception as error:
        # rattler has errors of the network that are OSErrors, too.
        if isinstance(received.failure, OSError):
            raise received.failure from None
        told = str(received.failure or refused or redacted(reason(error)))
        raise _unreachable(url, told) from None


def _unreachable(url: str, reason: str) -> NetworkError:
    return NetworkError(
        f"{redacted(url)} cannot be downloaded: {reason}",
        "Check the network, or name a mirror (`mirrors:` in condainer.yml).",
    )
