"""Images in a registry: pushed once, pulled anywhere, and never anything wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from condainer.oci import image_manifest
from tests.helpers import flaky, flaky_registry, keys, registry
from tests.helpers.needed import needs_program
from tests.helpers.projects import CLEAN, Project, left, runner
from tests.helpers.registry import Registry

OTHER = "dependencies: [probe-prefix, probe-old]\n"
# For what a second make of registry could see in another way.
each_registry = pytest.mark.parametrize("served", registry.MAKES, indirect=True)


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Registry]:
    place = tmp_path / "registry"
    if getattr(request, "param", "") == "zuul-registry":
        serving = registry.serve_zuul(place, request.getfixturevalue("zuul_registry"))
    else:
        serving = registry.serve(place)
    with serving as running:
        registry.log_in(running.authority)
        yield running


@pytest.fixture
def pushing(make_project: Any, served: Registry) -> Project:
    """A project whose image is built, with a registry in the settings."""
    project: Project = make_project("built", "dependencies: [probe-prefix]\n")
    project.environment["CONDAINER_REGISTRIES"] = f"oci://{served.authority}/group/images"
    project.cnd("build")
    return project


@each_registry
def test_pushed_once_and_pulled_anywhere(pushing: Project) -> None:
    (first,) = pushing.json("push")
    assert first["sent"] > 0
    (again,) = pushing.json("push")
    assert (again["sent"], again["digest"]) == (0, first["digest"])
    other = runner(pushing, "other")
    built = other.cnd("build", "--locked")
    assert "Pulled " in built.stderr
    assert "Compressing" not in built.stderr
    # From now on it is an entry like any other.
    assert "Pulled" not in other.cnd("build", "--locked").stderr
    status = other.json("status")
    assert status["address"] == pushing.json("status")["address"]
    assert other.cnd("exec", "--", "probe-prefix").stdout == f"{status['prefix']}\n"
    manifests = [
        next(Path(p.environment["CONDAINER_CACHE"]).glob("images/*/*/manifest.json")).read_bytes()
        for p in (pushing, other)
    ]
    assert manifests[0] == manifests[1]
    # Two who push the same files push one digest.
    (pushed,) = other.json("push")
    assert (pushed["sent"], pushed["digest"]) == (0, first["digest"])
    assert not left(other)


def test_a_bill_of_materials_is_attached(pushing: Project) -> None:
    (pushed,) = pushing.json("push", "--sbom")
    # A second one is the same.
    pushing.cnd("push", "--sbom")
    place = pushing.environment["CONDAINER_REGISTRIES"].removeprefix("oci://")
    base = f"http://{place.replace('/', '/v2/', 1)}"

    def get(path: str, kind: str = "") -> requests.Response:
        return requests.get(f"{base}/{path}", headers={"Accept": kind})

    tag = pushed["digest"].replace(":", "-")
    (item,) = get(f"manifests/{tag}", image_manifest.INDEX_TYPE).json()["manifests"]
    assert item["artifactType"] == "application/vnd.cyclonedx+json"
    manifest = get(f"manifests/{item['digest']}", item["mediaType"]).json()
    assert manifest["subject"]["digest"] == pushed["digest"]
    (layer,) = manifest["layers"]
    assert get(f"blobs/{layer['digest']}").text == pushing.cnd("sbom").stdout


@each_registry
def test_names_lead_to_images(pushing: Project, tmp_path: Path) -> None:
    pushing.cnd("tag", "tools/1.0")
    (pushed,) = pushing.json("push", "tools/1.0")
    assert pushed["names"] == ["tools/1.0"]
    address = pushing.json("status")["address"]
    (tmp_path / "nowhere").mkdir()
    nowhere = Project(tmp_path / "nowhere", runner(pushing, "other").environment)
    listed = nowhere.json("pull", "--list")
    assert [(item["name"], item["address"]) for item in listed] == [
        ("tools/1.0", None),
        (None, address),
    ]
    pulled = nowhere.json("pull", "tools/1.0")
    assert (pulled["address"], pulled["present"]) == (address, False)
    prefix = pushing.json("status")["prefix"]
    assert nowhere.cnd("exec", "--env", "tools/1.0", "probe-prefix").stdout == f"{prefix}\n"
    assert nowhere.json("pull", address[:8])["present"]
    assert nowhere.json("pull", CONDAINER_ENV="tools/1.0")["name"] == "tools/1.0"
    set_here = nowhere.json("pull", "--set", f"address={address}", CONDAINER_ENV="tools/2.0")
    assert (set_here["address"], set_here["name"]) == (address, None)
    # A name moves with the next push.
    pushing.write(OTHER)
    second = pushing.json("build")["address"]
    pushing.cnd("tag", "tools/1.0")
    pushing.cnd("push", "tools/1.0")
    assert nowhere.json("pull", "tools/1.0")["address"] == second
    told = nowhere.cnd("pull", "tools/2.0", status=15).stderr
    assert "tools/2.0 is not in oci://" in told


def test_what_is_built_is_pushed_where_that_is_configured(pushing: Project) -> None:
    pushing.write(OTHER)
    built = pushing.cnd("build", CONDAINER_PUSH="true")
    assert "Pushed " in built.stderr
    other = runner(pushing, "other", CONDAINER_PULL_ONLY="true")
    assert "Pulled " in other.cnd("build").stderr


def test_a_missing_unsquashfs_is_told_before_an_image_is_pulled(pushing: Project) -> None:
    pushing.cnd("push")
    other = runner(pushing, "other", PATH="/nowhere")
    told = other.cnd("build", "--pull-only", status=10).stderr
    assert "unsquashfs is not installed" in told
    assert "Pulling" not in told


def test_nothing_is_built_where_that_is_forbidden(pushing: Project) -> None:
    other = runner(pushing, "other")
    told = other.cnd("build", "--pull-only", status=15).stderr
    assert "`pull_only` forbids to build it" in told
    away = {"CONDAINER_REGISTRIES": "oci://127.0.0.1:9/group/images"}
    told = other.cnd("build", "--pull-only", status=6, **away).stderr
    assert "oci://127.0.0.1:9/group/images" in told
    assert "would" not in told
    planned = other.cnd("-y", "build").stderr
    assert "Would take" in planned
    planned = other.cnd("-y", "build", "--pull-only").stderr
    assert planned.endswith("Would refuse to build the image (`pull_only`), if it is not there\n")
    other.write(OTHER)
    planned = other.cnd("-y", "build", "--pull-only").stderr
    assert "Would refuse to build the image (`pull_only`), unless a cache has the one" in planned


def test_a_registry_that_is_away_is_a_miss(pushing: Project) -> None:
    pushing.write(OTHER)
    built = pushing.cnd("build", CONDAINER_REGISTRIES="oci://127.0.0.1:9/group/images")
    assert built.stderr.count("127.0.0.1:9") == 1
    assert "Warning: " in built.stderr
    assert "Built " in built.stderr


def test_offline_no_registry_is_asked(pushing: Project) -> None:
    pushing.cnd("push")
    other = runner(pushing, "other")
    assert "Pulled" not in other.cnd("--offline", "build", status=None).stderr
    assert "offline" in other.cnd("--offline", "pull", status=6).stderr


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("registry.example.org/images", "not a repository"),
        ("oci://user:word@registry.example.org/images", "a user in it"),
        ("oci://registry.example.org/Images", "capital letters"),
    ],
)
def test_what_is_no_registry(project: Project, value: str, told: str) -> None:
    said = project.cnd("pull", "tools/1.0", status=3, CONDAINER_REGISTRIES=value).stderr
    assert told in said
    assert "word" not in said


def test_a_command_without_a_registry_says_where_to_name_one(project: Project) -> None:
    project.cnd("build")
    assert "`registries:`" in (pull := project.cnd("pull", "tools/1.0", status=3).stderr)
    # It has no such option.
    assert "--to" not in pull
    assert "`--to oci://HOST/PATH`" in project.cnd("push", status=3).stderr


def test_a_project_names_no_registry(project: Project) -> None:
    project.write("registries: [oci://127.0.0.1:9/x]\n", "condainer.yml")
    assert "not allowed here" in project.cnd("build", status=3).stderr


def test_a_registry_is_asked_through_the_proxy_of_the_site(
    make_project: Any, tmp_path: Path, isolated_user: Path
) -> None:
    authority, certificate = flaky.certificates(tmp_path / "tls", "registry.invalid")
    project: Project = make_project("built", "dependencies: [probe-prefix]\n")
    project.cnd("build")
    with flaky_registry.serve(certificate) as server, flaky.proxy(server) as proxy:
        # As for channels.
        (isolated_user / ".condarc").write_text(
            f"proxy_servers: {{https: '{proxy.url}'}}\nssl_verify: {authority}\n"
        )
        for variable in CLEAN:
            project.environment.pop(variable, None)
        project.environment["CONDAINER_REGISTRIES"] = "oci://registry.invalid/images"
        project.cnd("push")
        assert "Pulled " in runner(project, "other").cnd("build").stderr
        assert set(proxy.asked) == {"registry.invalid:443"}


def test_another_client_finds_usable_files(pushing: Project, tmp_path: Path) -> None:
    pushing.cnd("push")
    address, cache = (pushing.json("status")[key] for key in ("address", "cache"))
    place = pushing.environment["CONDAINER_REGISTRIES"].removeprefix("oci:")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo(*("copy", *plain, f"docker:{place}:{address}", f"dir:{tmp_path}/copied"), home=tmp_path)
    entry = Path(cache) / "images" / address[:2] / address
    copied = json.loads((tmp_path / "copied/manifest.json").read_text())
    assert copied["artifactType"] == "application/vnd.condainer.image.v1"
    for layer in copied["layers"]:
        name = layer["annotations"]["org.opencontainers.image.title"]
        blob = tmp_path / "copied" / layer["digest"].removeprefix("sha256:")
        assert blob.read_bytes() == (entry / name).read_bytes()
    # What it copies back in is pulled.
    skopeo(
        *("copy", *plain, f"dir:{tmp_path}/copied", f"docker:{place}/back:{address}"),
        home=tmp_path,
    )
    registries = {"CONDAINER_REGISTRIES": pushing.environment["CONDAINER_REGISTRIES"] + "/back"}
    assert "Pulled " in runner(pushing, "other", **registries).cnd("build").stderr


def skopeo(*words: str, home: Path) -> None:
    subprocess.run(
        [needs_program("skopeo"), "--insecure-policy", *words],
        env={"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        check=True,
    )


@each_registry
def test_many_at_once_download_once(pushing: Project, served: Registry) -> None:
    pushing.cnd("push")
    other = runner(pushing, "other")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "condainer", "build", "--json"],
            cwd=other.path,
            env=other.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(6)
    ]
    ended = [(process.communicate()[0], process.returncode) for process in started]
    assert [status for _, status in ended] == [0] * len(started)
    assert len({json.loads(text)["image"] for text, _ in ended}) == 1
    assert not left(other)


def test_an_object_store_whose_files_cannot_be_listed(make_project: Any) -> None:
    project: Project = make_project()
    project.cnd("lock")
    address = project.json("status")["address"]
    with flaky.serve() as server:
        server.files[f"/images/{address[:2]}/{address}/manifest.json"] = b""
        server.plan.append(lambda handler, content: handler.answer(403, b""))
        web: Any = {"CONDAINER_READONLY_CACHES": server.url}
        refused = project.cnd("build", "--pull-only", status=6, **web).stderr
    assert "answers 403" in refused
    assert "object store" in refused


def test_a_cache_behind_a_web_server(pushing: Project) -> None:
    status = pushing.json("status")
    handler = partial(SimpleHTTPRequestHandler, directory=status["cache"])
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            other = runner(pushing, "other", CONDAINER_READONLY_CACHES=url, CONDAINER_REGISTRIES="")
            assert f"Would take {status['address']} from {url}" in other.cnd("-y", "build").stderr
            assert f"Pulled {url}/images/" in other.cnd("build").stderr
            assert other.cnd("exec", "--", "probe-prefix").stdout == f"{status['prefix']}\n"
            # What it does not have is built, and what is damaged there is not taken.
            other.write(OTHER)
            mirrors: Any = {"CONDAINER_MIRRORS": pushing.environment["CONDAINER_MIRRORS"]}
            assert "Built " in other.cnd("build", **mirrors).stderr
            image = Path(pushing.json("status")["image"])
            image.chmod(0o644)
            with image.open("r+b") as stream:
                stream.seek(100)
                stream.write(b"\0\0\0\0")
            third = runner(pushing, "third", CONDAINER_READONLY_CACHES=url, CONDAINER_REGISTRIES="")
            assert "does not have the sha256" in third.cnd("build", "--pull-only", status=9).stderr
            assert not left(third)
        finally:
            server.shutdown()
            thread.join()


def test_what_a_registry_has_lost_is_pushed_again(pushing: Project, served: Registry) -> None:
    pushing.cnd("push")
    links = served.storage / "docker/registry/v2/repositories/group/images/_layers/sha256"
    image = Path(pushing.json("status")["image"])
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    shutil.rmtree(links / digest)
    other = runner(pushing, "other")
    told = other.cnd("build", "--pull-only", status=9).stderr
    assert "is incomplete" in told
    assert "done" not in told
    (again,) = pushing.json("push")
    assert again["sent"] == image.stat().st_size
    assert "Pulled " in other.cnd("build", "--pull-only").stderr


def test_a_damaged_entry_is_not_pushed(pushing: Project) -> None:
    image = Path(pushing.json("status")["image"])
    image.chmod(0o644)
    with image.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\0\0\0\0")
    told = pushing.cnd("push", status=9).stderr
    assert f"{image} does not have the sha256" in told
    assert "cnd verify" in told
    failed = json.loads(pushing.cnd("push", "--json", status=9).stdout)
    assert failed["exit_code"] == 9


def test_signatures_of_another_build_are_told(pushing: Project, tmp_path: Path) -> None:
    pushing.cnd("push")
    other = runner(pushing, "other", CONDAINER_MIRRORS=pushing.environment["CONDAINER_MIRRORS"])
    other.cnd("--set", "compression_level=1", "build", CONDAINER_REGISTRIES="")
    key = keys.make_key(tmp_path / "key")
    other.cnd("sign", "--key", str(key.path))
    told = other.cnd("push").stderr
    assert "has another build of" in told


@each_registry
def test_signatures_that_come_later_are_pulled(pushing: Project, tmp_path: Path) -> None:
    key = keys.make_key(tmp_path / "key")
    allowed = keys.allow(tmp_path / "allowed", f"me {key.public}")
    other = runner(pushing, "other")
    pushing.cnd("push")
    other.cnd("build", "--pull-only")
    configuration = other.path.parent / "config/condainer/condainer.yml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(f"trust: signed\nallowed_signers: {allowed}\n")
    other.environment["XDG_CONFIG_HOME"] = str(configuration.parents[1])
    other.cnd("pull", status=16)
    pushing.cnd("sign", "--key", str(key.path))
    pushing.cnd("push")
    assert other.json("pull")["present"]
    assert other.json("build", "--pull-only")["hit"]


def test_a_login_that_fails_does_not_stop_a_build(pushing: Project, tmp_path: Path) -> None:
    with registry.serve(tmp_path / "closed", login=True) as closed:
        pushing.cnd("push")
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker/config.json").write_text('{"credsStore": "absent"}')
        both = (
            f"oci://{closed.authority}/group/images {pushing.environment['CONDAINER_REGISTRIES']}"
        )
        other = runner(pushing, "other", DOCKER_CONFIG=f"{tmp_path}/docker")
        built = other.cnd("build", CONDAINER_REGISTRIES=both).stderr
        assert "docker-credential-absent" in built
        assert "Pulled " in built


def test_a_name_that_leads_elsewhere_here_is_told(pushing: Project, tmp_path: Path) -> None:
    pushing.cnd("tag", "tools/1.0")
    pushing.cnd("push", "tools/1.0")
    other = runner(pushing, "other")
    other.write(OTHER)
    other.cnd("build", CONDAINER_MIRRORS=pushing.environment["CONDAINER_MIRRORS"])
    other.cnd("tag", "tools/1.0")
    theirs: Any = {
        "CONDAINER_READONLY_CACHES": other.environment["CONDAINER_CACHE"],
        "CONDAINER_CACHE": f"{tmp_path}/mine",
    }
    done = other.cnd("pull", "tools/1.0", "--json", **theirs)
    assert json.loads(done.stdout)["name"] is None
    assert "does not get the name tools/1.0 here" in done.stderr
