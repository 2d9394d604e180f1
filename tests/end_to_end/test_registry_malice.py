"""What a registry could give in place of an image: nothing of it is ever published."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from condainer.oci import image_manifest
from condainer.oci.image_manifest import Descriptor, ImageManifest
from tests.helpers import flaky_registry, keys, tiny
from tests.helpers.flaky import whole
from tests.helpers.needed import needs
from tests.helpers.projects import Project, left, runner, unmeasured
from tests.helpers.waiting import PATIENCE, until

NAMES = ("image.squashfs", "manifest.json", "explicit.lock")
OTHER = "dependencies: [probe-prefix, probe-old]\n"
KILLS = 8


@dataclass
class Image:
    """An image that a registry is to offer under an address: its three files."""

    address: str
    files: list[bytes]

    def described(self) -> ImageManifest:
        pairs = [(hashlib.sha256(content).hexdigest(), len(content)) for content in self.files]
        return image_manifest.of_files(*pairs)

    def offer(self, server: flaky_registry.Registry, manifest: ImageManifest | None = None) -> None:
        for content in self.files:
            server.add_blob(content)
        text = image_manifest.write(manifest or self.described())
        for reference in (self.address, image_manifest.digest_of(text)):
            server.files[f"/v2/images/manifests/{reference}"] = text

    def tells(self, **values: object) -> None:
        """Change what manifest.json says."""
        self.files[1] = json.dumps({**json.loads(self.files[1]), **values}).encode()


@pytest.fixture
def server() -> Iterator[flaky_registry.Registry]:
    with flaky_registry.serve() as running:
        yield running


@pytest.fixture
def built(make_project: Any, server: flaky_registry.Registry) -> Project:
    project: Project = make_project("built", "dependencies: [probe-prefix, probe-files]\n")
    project.environment["CONDAINER_REGISTRIES"] = f"oci+http://{server.authority}/images"
    project.cnd("build")
    return project


def image_of(project: Project) -> Image:
    status = project.json("status")
    entry = Path(status["cache"]) / "images" / status["address"][:2] / status["address"]
    return Image(status["address"], [(entry / name).read_bytes() for name in NAMES])


def other_of(project: Project) -> Image:
    before = (project.path / "environment.yml").read_text()
    project.write(OTHER)
    project.cnd("build", CONDAINER_REGISTRIES="")
    found = image_of(project)
    project.write(before)
    project.cnd("build", CONDAINER_REGISTRIES="")
    return found


def other_bytes(image: Image, other: Image) -> None:
    image.files[0] = other.files[0]


def other_bytes_told(image: Image, other: Image) -> None:
    image.files[0] = other.files[0]
    told = json.loads(other.files[1])
    image.tells(**{key: told[key] for key in ("size", "sha256", "xxh3")})


def other_papers(image: Image, other: Image) -> None:
    image.files[1:] = other.files[1:]


def other_image(image: Image, other: Image) -> None:
    image.files = other.files


def other_lock(image: Image, other: Image) -> None:
    image.files[2] = other.files[2]


def wrong_xxh3(image: Image, other: Image) -> None:
    image.tells(xxh3="0" * 32)


def wrong_prefix(image: Image, other: Image) -> None:
    image.tells(prefix=f"/elsewhere/condainer-{image.address}")


def no_manifest(image: Image, other: Image) -> None:
    image.files[1] = b"[]"


def another_platform(image: Image, other: Image) -> None:
    image.files[2] = image.files[2].replace(b"platform: linux-64", b"platform: linux-s390x")


@pytest.mark.parametrize(
    "forge",
    [
        *(other_bytes, other_bytes_told, other_papers, other_image, other_lock),
        *(wrong_xxh3, wrong_prefix, no_manifest, another_platform),
    ],
)
def test_what_does_not_fit_together(
    built: Project, server: flaky_registry.Registry, forge: Callable[[Image, Image], None]
) -> None:
    image = image_of(built)
    forge(image, other_of(built))
    image.offer(server)
    other = runner(built, "other")
    said = other.cnd("pull", image.address, status=9).stderr
    assert image.address in said
    assert not list(other.path.parent.glob("cache/images/*/*"))
    assert not left(other)
    # A build warns, and goes on by itself; where it may not, that is an error.
    other.cnd("build", "--pull-only", status=9)
    mirrors: Any = {"CONDAINER_MIRRORS": built.environment["CONDAINER_MIRRORS"]}
    said = other.cnd("build", **mirrors).stderr
    assert "the image is not pulled from there" in said
    assert "Built " in said


def test_sizes_that_are_too_large_are_not_downloaded(
    built: Project, server: flaky_registry.Registry
) -> None:
    image = image_of(built)
    described = image.described()
    large = Descriptor(
        described.lock.media_type, described.lock.digest, 10**12, described.lock.title
    )
    image.offer(server, replace(described, lock=large))
    said = runner(built, "other").cnd("pull", image.address, status=9).stderr
    assert "too large" in said
    assert not [asked for asked in server.asked if "/blobs/" in asked.path]


def test_layers_of_other_sizes_or_in_other_places(
    built: Project, server: flaky_registry.Registry
) -> None:
    image = image_of(built)
    right = image.described()
    parts = ("squashfs", "manifest", "lock")
    wrong = [
        replace(right, **{part: replace(told, size=told.size - 1)})
        for part in parts
        for told in [getattr(right, part)]
    ]
    for one, two in itertools.combinations(parts, 2):
        first, second = getattr(right, one), getattr(right, two)
        swapped = {
            one: replace(first, digest=second.digest, size=second.size),
            two: replace(second, digest=first.digest, size=first.size),
        }
        wrong.append(replace(right, **swapped))
    other = runner(built, "other")
    for manifest in wrong:
        image.offer(server, manifest)
        assert server.authority in other.cnd("pull", image.address, status=9).stderr
        assert not list(other.path.parent.glob("cache/images/*/*"))
        assert not left(other)
    image.offer(server)
    assert not other.json("pull", image.address)["present"]


def test_a_tag_that_moves_between_look_up_and_pull(
    built: Project, server: flaky_registry.Registry
) -> None:
    """What was looked up is what is pulled."""
    image, other = image_of(built), other_of(built)
    other.offer(server)
    second = server.files[f"/v2/images/manifests/{other.address}"]
    image.offer(server)

    def moved(handler: Any, content: bytes) -> None:
        server.files[f"/v2/images/manifests/{image.address}"] = second
        whole(handler, content)

    server.plan.append(moved)
    pulled = runner(built, "other").json("pull", image.address)
    assert pulled["address"] == image.address


def test_a_name_for_another_platform_only(built: Project, server: flaky_registry.Registry) -> None:
    image = image_of(built)
    image.offer(server)
    text = server.files[f"/v2/images/manifests/{image.address}"]
    item = image_manifest.describe(text, image_manifest.IMAGE_TYPE, "linux-s390x")
    server.files["/v2/images/manifests/tools__1.0"] = image_manifest.write_index([item])
    said = runner(built, "other").cnd("pull", "tools/1.0", status=15).stderr
    assert "has tools/1.0 for linux-s390x, but this machine is linux-64" in said


def test_under_signed_only_what_an_allowed_key_signed(
    built: Project, server: flaky_registry.Registry, tmp_path: Path
) -> None:
    mine, theirs = (keys.make_key(tmp_path / name) for name in ("mine", "theirs"))
    allowed = keys.allow(tmp_path / "allowed", f"me {mine.public}")
    other = runner(built, "other")
    configuration = other.path.parent / "config"
    other.environment["XDG_CONFIG_HOME"] = str(configuration)
    (configuration / "condainer").mkdir(parents=True)
    (configuration / "condainer/condainer.yml").write_text(
        f"trust: signed\nallowed_signers: {allowed}\n"
    )
    address = image_of(built).address
    built.cnd("push")
    for key in (None, theirs):
        if key is not None:
            built.cnd("sign", "--key", str(key.path))
            assert built.json("push")[0]["signatures"] == 1
        assert "is not signed by anybody" in other.cnd("pull", address, status=16).stderr
        assert not list(other.path.parent.glob("cache/images/*/*"))
    built.cnd("sign", "--key", str(mine.path))
    (pushed,) = built.json("push")
    assert (pushed["sent"], pushed["signatures"]) == (0, 1)
    other.cnd("pull", address)
    assert other.cnd("exec", "--address", address, "--", "probe-prefix").stdout


@pytest.fixture
def large(make_project: Any, server: flaky_registry.Registry, tmp_path: Path) -> Project:
    """A project whose image has some megabytes."""
    channel = tmp_path / "channel"
    tiny.package(channel, "large", "1.0", files=[("share/large/data", os.urandom(3 << 20).hex())])
    tiny.index(channel)
    project: Project = make_project(
        "large", f"channels: ['{channel.as_uri()}']\ndependencies: [large]\n"
    )
    project.cnd("build")
    project.environment["CONDAINER_REGISTRIES"] = f"oci+http://{server.authority}/images"
    return project


@pytest.mark.parametrize("command", ["push", "pull"])
def test_killed_at_random(large: Project, server: flaky_registry.Registry, command: str) -> None:
    address = large.json("status")["address"]
    other = runner(large, "other")
    if command == "pull":
        large.cnd("push")
    who, words = (large, ["push"]) if command == "push" else (other, ["pull", address])
    begun = time.monotonic()
    who.cnd("--dryrun", *words)
    start = time.monotonic() - begun
    for number in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "condainer", *words],
            cwd=who.path,
            env=who.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(random.Random(number).uniform(start / 2, start * 2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        for entry in other.path.parent.glob("cache/images/*/*"):
            assert {path.name for path in entry.iterdir()} == {*NAMES}
    who.cnd(*words)
    if command == "push":
        other.cnd("pull", address)
    assert not left(other)
    assert other.json("verify", address)["ok"]


def test_a_push_that_is_interrupted_ends_and_cancels_its_upload(
    large: Project, server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def take_little(handler: flaky_registry.RegistryHandler) -> None:
        handler.rfile.read(1)
        begun.set()
        ended.wait()
        handler.close_connection = True

    ended = threading.Event()
    monkeypatch.setattr(flaky_registry.RegistryHandler, "do_PATCH", take_little)
    with subprocess.Popen(
        [sys.executable, "-m", "condainer", "push"],
        cwd=large.path,
        env=unmeasured(large.environment),
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert begun.wait(PATIENCE)
            child.send_signal(signal.SIGINT)
            told = child.communicate()[1]
        finally:
            ended.set()
            child.kill()
    assert child.returncode == 130
    assert "Traceback" not in told
    until(lambda: server.cancelled == [0])


def test_a_full_disk(large: Project, server: flaky_registry.Registry) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        needs("root, to mount a small disk")
    large.cnd("push")
    address = large.json("status")["address"]
    other = runner(large, "other")
    cache = Path(other.environment["CONDAINER_CACHE"])
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "none", cache], check=True)
    try:
        assert "No space left" in other.cnd("pull", address, status=12).stderr
        assert not list(cache.glob("images/*/*"))
        assert not left(other)
    finally:
        subprocess.run(["umount", cache], check=True)
