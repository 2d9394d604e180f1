"""The bytes of an image are a function of its canonical text alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.channel import ChannelServer
from tests.helpers.projects import Project

ENVIRONMENT = """\
name: first
channels: [conda-forge]
dependencies:
  - python
  - six
  - probe-prefix
  - probe-activate
  - probe-files
  - probe-old
variables:
  GREETING: hello
"""
OTHERWISE = """\
# The same packages by other words, through another host and another name.
variables: {GREETING: 'hello'}
dependencies: [probe-old, probe-files, conda-forge::probe-activate, six >=1, probe-prefix,
  python >=3, {pip: [tabulate]}]
name: second
"""


def build(project: Project, umask: int = 0o022, **environment: str) -> Any:
    """Build under another umask than the test's own."""
    previous = os.umask(umask)
    try:
        return project.json("build", **environment)
    finally:
        os.umask(previous)


def test_two_builds_give_the_same_bytes(
    make_project: Any, tmp_path: Path, server: ChannelServer
) -> None:
    base = str(tmp_path / "mounts")
    first = make_project("first", ENVIRONMENT, CONDAINER_MOUNT_BASE=base)
    first.write("tabulate\n", "requirements.txt")
    one = build(first, LC_ALL="C.UTF-8", TZ="UTC")
    second = make_project(
        "second",
        OTHERWISE,
        CONDAINER_MOUNT_BASE=base,
        CONDAINER_CACHE=str(tmp_path / "another cache"),
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "other packages"),
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_STAGING=str(tmp_path / "staging größe"),
        CONDAINER_PROCESSORS="1",
        UV_CACHE_DIR=str(tmp_path / "uv"),
        LC_ALL="C",
        LANG="C",
        TZ="Asia/Kathmandu",
        PYTHONHASHSEED="7",
    )
    two = build(second, umask=0o077)
    assert not two["hit"]
    assert two["address"] == one["address"]
    assert Path(two["image"]) != Path(one["image"])
    manifests = [
        json.loads(Path(r["image"]).with_name("manifest.json").read_text()) for r in (one, two)
    ]
    assert manifests[0]["tree_sha256"] == manifests[1]["tree_sha256"]
    assert two["sha256"] == one["sha256"]
    assert Path(two["image"]).read_bytes() == Path(one["image"]).read_bytes()


def test_the_image_shows_no_trace_of_its_making(make_project: Any, tmp_path: Path) -> None:
    project = make_project("project", ENVIRONMENT)
    project.write("tabulate\n", "requirements.txt")
    built = project.json("build")
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tree, built["image"]], check=True)
    traces = [str(tmp_path / "project"), "condainer-stage", ".channel/", str(tmp_path / "cache")]
    found = [
        (path, trace)
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
        for trace in traces
        if trace.encode() in path.read_bytes()
    ]
    assert found == []
    times = {path.lstat().st_mtime for path in tree.rglob("*")}
    assert times == {315619200.0}
    modes = {path.stat().st_mode & 0o7777 for path in tree.rglob("*") if not path.is_symlink()}
    assert modes == {0o755, 0o644}
    dist_info = next(tree.glob("lib/python3*/site-packages/tabulate-*.dist-info"))
    assert not (dist_info / "direct_url.json").exists()
    assert "direct_url" not in (dist_info / "RECORD").read_text()
    record = json.loads(next(tree.glob("conda-meta/probe-prefix-*.json")).read_text())
    assert record["url"].startswith("https://channel.invalid/")
    assert (tree / "conda-meta" / "history").read_text() == ""
    assert json.loads((tree / "conda-meta" / "state").read_text())["env_vars"] == {
        "GREETING": "hello"
    }


def test_compiled_modules_are_used_and_not_written_again(make_project: Any) -> None:
    project = make_project("project", "dependencies: [python]\n")
    project.json("build")
    code = (
        "import json, importlib.util, sys\n"
        "path = importlib.util.cache_from_source(json.__file__)\n"
        "flags = open(path, 'rb').read(16)[4]\n"
        "print(flags, json.__cached__ == path)"
    )
    # Flag 1: checked against nothing but the format, so that the fixed times do not matter.
    assert project.cnd("exec", "--", "python", "-c", code).stdout == "1 True\n"


def test_probe_packages_are_installed_as_conda_would(make_project: Any) -> None:
    project = make_project()
    built = project.json("build")
    run = project.cnd("exec", "--", "probe-prefix").stdout.strip()
    assert run == built["prefix"]
    script = (
        'cat "$CONDA_PREFIX/share/probe/prefix.txt"; echo; probe-script; '
        'ls "$CONDA_PREFIX/share/probe files"'
    )
    done = project.cnd("exec", "--", "sh", "-c", script)
    assert built["prefix"] in done.stdout
    assert "größe – Daten.txt" in done.stdout or "größe" in done.stdout


def test_post_link_scripts_run_only_where_enabled(make_project: Any) -> None:
    project = make_project("project", "dependencies: [probe-postlink]\n")
    done = project.cnd("build")
    assert "probe-postlink" in done.stderr
    assert "post_link_scripts" in done.stderr
    without = project.json("build")
    created = "share/probe-postlink/created"
    cat = ["exec", "--", "sh", "-c", f'cat "$CONDA_PREFIX/{created}"']
    assert project.cnd(*cat, status=1).stdout == ""
    project.cnd("umount", "--force")
    project.write("post_link_scripts: true\n", "condainer.yml")
    with_scripts = project.json("build")
    assert with_scripts["address"] != without["address"]
    assert with_scripts["prefix"] in project.cnd(*cat).stdout


def test_images_of_other_compressors_hold_the_same_tree(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    digests = set()
    images = set()
    for compressor in ("zstd", "gzip", "xz", "lz4"):
        arguments = ["--set", f"compressor={compressor}"]
        built = project.json(*arguments, "build")
        manifest = json.loads(Path(built["image"]).with_name("manifest.json").read_text())
        assert manifest["compressor"] == compressor
        digests.add(manifest["tree_sha256"])
        images.add(built["sha256"])
        shutil.rmtree(project.cache)
    assert len(digests) == 1
    assert len(images) == 4
