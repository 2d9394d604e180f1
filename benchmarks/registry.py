"""Images to and from a registry, here and at the end of a cable, beside curl, skopeo, a build."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ethernet import SERVER, Ethernet, ethernet
from benchmarks.large import Large, locked, noise
from benchmarks.measure import Contender, Effort, command, interleaved
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.system.files import remove_tree
from tests.helpers import flaky_registry, registry

# Bytes of a package, of which an image has ten.
SIZE = 100_000_000
# Rates of networks, in gigabits a second, and the key of the first row.
RATES = (1, 10)
FAR = f"pull_{RATES[0]}gbit"


@dataclass(frozen=True)
class Transfer:
    """An image, the registry that it goes to and comes from, and where others put it."""

    place: Place
    large: Large
    registry: registry.Registry
    image: Path
    address: str
    digest: str
    # Before each command: what leads to where the registry is reached from.
    before: tuple[str, ...] = ()

    @property
    def blob(self) -> str:
        return f"{self.url}/blobs/{self.digest}"

    @property
    def repository(self) -> str:
        return f"{self.registry.authority}/group/images"

    @property
    def url(self) -> str:
        return f"http://{self.registry.authority}/v2/group/images"

    @property
    def copy(self) -> Path:
        """Where curl writes to, or skopeo."""
        return self.large.root / "copy"

    @property
    def effort(self) -> Effort:
        return Effort(3, 0.0) if self.place.quick else Effort(7, 0.0)

    def cnd(self, *words: str) -> Callable[[], None]:
        """Return a run of cnd in the project."""
        return command(
            [*self.before, self.place.cnd, *words],
            self.large.project,
            {**self.large.environment, "CONDAINER_REGISTRIES": f"oci+http://{self.repository}"},
        )

    def build(self) -> None:
        """Build the image, without asking the registry."""
        command([self.place.cnd, "build"], self.large.project, self.large.environment)()

    def skopeo(self, source: str, target: str) -> Callable[[], None]:
        """Return a copy by skopeo, which knows nothing of earlier ones."""
        home = self.large.root / "skopeo"
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        environment = {**self.large.environment, "HOME": str(home), "XDG_DATA_HOME": str(home)}
        argv = [tool("skopeo"), "--insecure-policy", "copy", "--quiet", *plain, source, target]
        return command([*self.before, *argv], env=environment)

    def curl(self) -> Callable[[], None]:
        """Return a download of the image's bytes, which are not looked at."""
        silent: list[str | Path] = [tool("curl"), "--silent", "--fail", "--output"]
        return command([*self.before, *silent, self.copy / "blob", self.blob])

    def copy_image(self) -> Callable[[], None]:
        """Return a download of all that belongs to the image by skopeo."""
        return self.skopeo(f"docker://{self.repository}:{self.address}", f"dir:{self.copy}")

    def clear_cache(self) -> None:
        """Take away what was pulled, built or copied, and let the disk come to rest."""
        remove_tree(self.large.cache)
        self._clear_copies()

    def clear_registry(self) -> None:
        """Take away what was pushed, and let the disk come to rest."""
        remove_tree(self.registry.storage / "docker")
        self._clear_copies()

    def _clear_copies(self) -> None:
        remove_tree(self.large.root / "skopeo")
        remove_tree(self.copy)
        self.copy.mkdir()
        os.sync()


def transfers(place: Place) -> Sequence[Row]:
    """Return the rows of a pull, of a push, and of the look-up of what a registry does not have."""
    with _pushed(place) as transfer:
        rows = (_pull(transfer), *_push(transfer))
    return (*rows, _look_up(place))


def far(place: Place) -> Sequence[Row]:
    """Return the rows of pulls by networks of several rates."""
    with ethernet() as network, _pushed(place, network) as transfer:
        return [_far(transfer, network, rate) for rate in RATES]


@contextmanager
def _pushed(place: Place, network: Ethernet | None = None) -> Iterator[Transfer]:
    """Have an image that is in a registry: on loopback, or at the other end of a network."""
    # A missing program is told as for all contenders, not as in a test.
    tool("docker-registry")
    before = network.inside(network.client) if network else ()
    serve = functools.partial(registry.serve, place.root / "noise" / "registry")
    if network:
        serve = functools.partial(serve, address=SERVER, before=network.inside(network.server))
    large = locked(place, "noise", 10, SIZE // 10 if place.quick else SIZE, noise)
    try:
        with serve() as running:
            built = place.built(large.project, **large.environment)
            # Pulls empty the cache.
            image = large.root / "image.squashfs"
            os.link(built["image"], image)
            digest = f"sha256:{built['sha256']}"
            transfer = Transfer(place, large, running, image, built["address"], digest, before)
            transfer.cnd("push")()
            yield transfer
    finally:
        remove_tree(large.root)


def _pull(transfer: Transfer) -> Row:
    file = transfer.copy / "blob"
    curl: list[str | Path] = [tool("curl"), "--silent", "--fail", transfer.blob]
    whole: list[str | Path] = ["sh", "-c", '"$@" | tee "$0" | sha256sum && sync "$0"', file, *curl]
    before = transfer.clear_cache
    samples = interleaved(
        [
            Contender("cnd pull", transfer.cnd("pull"), before),
            Contender("curl", transfer.curl(), before),
            Contender("curl, sha256sum, sync", command(whole), before),
            Contender("skopeo copy", transfer.copy_image(), before),
        ],
        transfer.effort,
    )
    # By itself, for it leaves more behind than the others.
    samples += interleaved([Contender("cnd build", transfer.build, before)], Effort(2, 0.0))
    ours, bare, checked, skopeo, build = (sample.median for sample in samples)
    claims = (
        Claim("the rate of curl", bare / ours, 0.85, at_least=True),
        Claim("the rate of curl, sha256sum, sync", checked / ours, 0.85, at_least=True),
        Claim("skopeo copy", ours / skopeo, 1.0),
        Claim("building it", ours / build, 1.0),
    )
    return Row("pull", "`cnd pull`, empty cache", samples, claims, _note(transfer))


def _far(transfer: Transfer, network: Ethernet, rate: int) -> Row:
    """A pull by a network of so many gigabits a second, also by the build of a CI job."""
    network.limit(1000 * rate)
    before = transfer.clear_cache
    samples = interleaved(
        [
            Contender("cnd pull", transfer.cnd("pull"), before),
            Contender("cnd build", transfer.cnd("build", "--locked", "--pull-only"), before),
            Contender("curl", transfer.curl(), before),
            Contender("skopeo copy", transfer.copy_image(), before),
        ],
        transfer.effort,
    )
    ours, build, curl, skopeo = (sample.median for sample in samples)
    claims = (
        Claim("the rate of curl", curl / ours, 0.85, at_least=True),
        Claim("the rate of curl, `cnd build --locked`", curl / build, 0.85, at_least=True),
        Claim("skopeo copy", ours / skopeo, 1.0),
    )
    what = f"`cnd pull`, empty cache, {rate} Gbit/s"
    note = f"{_note(transfer)}, tbf on a veth between two network namespaces"
    return Row(f"pull_{rate}gbit", what, samples, claims, note)


def _push(transfer: Transfer) -> tuple[Row, Row]:
    """Push to an empty repository, and then push again what is there."""
    kept = transfer.large.root / "kept"
    push = transfer.cnd("push")
    transfer.build()
    reference = f"docker://{transfer.repository}:{transfer.address}"
    transfer.skopeo(reference, f"dir:{kept}")()
    before = transfer.clear_registry
    samples = interleaved(
        [
            Contender("cnd push", push, before),
            Contender("curl", lambda: _put(transfer), before),
            Contender("skopeo copy", transfer.skopeo(f"dir:{kept}", reference), before),
        ],
        transfer.effort,
    )
    remove_tree(kept)
    ours, curl, skopeo = (sample.median for sample in samples)
    claims = (
        Claim("the rate of curl", curl / ours, 0.85, at_least=True),
        Claim("skopeo copy", ours / skopeo, 1.0),
    )
    row = Row("push", "`cnd push` to an empty repository", samples, claims, _note(transfer))
    push()
    again = interleaved([Contender("cnd push", push)], transfer.place.effort)
    claim = Claim("", again[0].median, 1.0, "s")
    return row, Row("push_again", "`cnd push` of what is there", again, (claim,), _note(transfer))


def _put(transfer: Transfer) -> None:
    """Send the image as a blob in one piece."""
    silent: list[str | Path] = [tool("curl"), "--silent", "--fail", "--output", "/dev/null"]
    ask = [*silent, "--request", "POST", "--write-out", "%header{location}"]
    place = subprocess.run(
        [*ask, f"{transfer.url}/blobs/uploads/"], check=True, capture_output=True, text=True
    ).stdout
    kind = ["--header", "Content-Type: application/octet-stream"]
    send = [*silent, *kind, "--upload-file", str(transfer.image)]
    subprocess.run([*send, f"{place}&digest={transfer.digest}"], check=True)


def _look_up(place: Place) -> Row:
    """How often a registry is asked before a build of what it does not have."""
    project = place.project("look-up")
    place.run(project, "lock")
    place.discard()
    with flaky_registry.serve() as running:
        place.run(project, "build", CONDAINER_REGISTRIES=f"oci+http://{running.authority}/images")
        count = len(running.asked)
    claim = Claim("to the registry", count, 1, "requests", digits=0)
    samples = (Sample("cnd build", (count,), "requests"),)
    return Row("look_up", "a miss that a registry does not have, either", samples, (claim,))


def _note(transfer: Transfer) -> str:
    size = transfer.image.stat().st_size
    return f"{size / 1e6:.0f} MB; Debian's docker-registry on this machine and disk, http"
