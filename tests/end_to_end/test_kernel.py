"""Jupyter kernels in an image, started by the real jupyter_client, which is in another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny
from tests.helpers.projects import SMALL, Project, mounted
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.long

KERNEL = "name: My Env\ndependencies: [python, {pip: [ipykernel]}]\n"
CLIENT = "dependencies: [python, {pip: [jupyter_client]}]\n"
# Says what a notebook would see, as one JSON object.
DRIVER = """\
import json, os, sys
from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name=sys.argv[1])
own = ("CONDA", "__CONDA", "PATH", "PYTHON")
bare = {k: v for k, v in os.environ.items() if not k.startswith(own)}
manager.start_kernel(env={**bare, "PATH": "/usr/bin:/bin"}, cwd=sys.argv[2])
client = manager.client()
client.start_channels()
client.wait_for_ready()

def run(code):
    said = []
    reply = client.execute_interactive(
        code, output_hook=lambda m: said.append(m["content"].get("text", ""))
    )
    return reply["content"].get("ename", ""), "".join(said)

report = {"first": run("import sys, os; x = 1; print(sys.prefix, os.getcwd())")}
report["debugger"] = manager.kernel_spec.metadata.get("debugger")
message = client.execute("import time\\nprint('begun')\\ntime.sleep(3600)")
while client.get_iopub_msg()["content"].get("text") != "begun\\n":
    pass
manager.interrupt_kernel()
while (reply := client.get_shell_msg())["parent_header"]["msg_id"] != message:
    pass
report["interrupted"] = reply["content"]["ename"]
report["kept"] = run("print(x)")
manager.restart_kernel()
client.wait_for_ready()
report["restarted"] = run("print('x' in dir())")
client.stop_channels()
manager.shutdown_kernel()
print(json.dumps(report))
"""


@pytest.fixture
def kernel(make_project: Any, tmp_path: Path) -> Project:
    project: Project = make_project("kernel", KERNEL, JUPYTER_DATA_DIR=str(tmp_path / "jupyter"))
    project.cnd("build")
    return project


def test_a_kernel_starts_is_interrupted_restarted_and_ended(
    kernel: Project, make_project: Any, tmp_path: Path
) -> None:
    (made,) = kernel.json("kernel", "install", "--display-name", "Mine")
    assert (made["name"], made["display_name"]) == ("my-env", "Mine")
    prefix = Path(kernel.json("status")["prefix"])
    client: Project = make_project("client", CLIENT, JUPYTER_DATA_DIR=str(tmp_path / "jupyter"))
    client.cnd("build")
    driver = client.write(DRIVER, "driver.py")
    elsewhere = tmp_path / "notebooks"
    elsewhere.mkdir()
    done = client.cnd("exec", "--", "python", str(driver), "my-env", str(elsewhere))
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["first"] == ["", f"{prefix} {elsewhere}\n"]
    assert report["debugger"]
    assert report["interrupted"] == "KeyboardInterrupt"
    assert report["kept"] == ["", "1\n"]
    assert report["restarted"] == ["", "False\n"]
    assert wait_until(lambda: not mounted(prefix))


def test_kernels_are_listed_and_removed(kernel: Project, tmp_path: Path) -> None:
    place = tmp_path / "jupyter/kernels"
    assert "No kernels yet" in kernel.cnd("kernel", "list").stderr
    assert f"Would write them below {place}\n" in kernel.cnd("-y", "kernel", "install").stderr
    for name in ("a b", ".", ".."):
        done = kernel.cnd("kernel", "install", "--name", name, status=3)
        assert "not the name" in done.stderr
    assert not place.exists()
    assert not (place.parent / "kernel.json").exists()
    kernel.cnd("tag", "tools/1")
    kernel.cnd("kernel", "install")
    kernel.cnd("kernel", "install", "--name", "named", "--env", "tools/1")
    spec = json.loads((place / "named/kernel.json").read_text())
    assert spec["argv"][1:10] == [
        "--quiet",
        "-d",
        f"{place}/named",
        "--set",
        f"cache_directory={kernel.json('status')['cache']}",
        "exec",
        "--env",
        "tools/1",
        "--",
    ]
    assert Path(spec["argv"][0]).is_absolute()
    assert spec["interrupt_mode"] == "signal"
    assert {path.name for path in (place / "named").iterdir()} > {"logo-64x64.png"}
    assert {path.stat().st_mode & 0o777 for path in (place / "named").iterdir()} == {0o644}
    assert [item["name"] for item in kernel.json("kernel", "list")] == ["my-env", "named"]
    assert "Python 3 (ipykernel) [My Env]" in kernel.cnd("kernel", "list").stdout
    # Installing again renews it; what others have made stays.
    kernel.cnd("kernel", "install", "--display-name", "New")
    assert kernel.json("kernel", "list")[0]["display_name"] == "New"
    (place / "theirs").mkdir()
    (place / "theirs/kernel.json").write_text('{"argv": ["x"], "display_name": "x"}')
    for words in (("install", "--name", "theirs"), ("remove", "theirs"), ("remove", "none")):
        kernel.cnd("kernel", *words, status=3)
    assert (place / "theirs/kernel.json").read_text().startswith('{"argv": ["x"]')
    kernel.cnd("kernel", "remove", "named")
    assert [item["name"] for item in kernel.json("kernel", "list")] == ["my-env"]
    shared = kernel.path / "hub"
    (made,) = kernel.json("kernel", "install", "--prefix", str(shared))
    assert made["directory"] == f"{shared}/share/jupyter/kernels/my-env"
    assert kernel.json("kernel", "list", "--prefix", "hub") == [made]
    kernel.cnd("kernel", "install", "--user", "--prefix", str(shared), status=2)


def test_the_kernel_of_a_project_follows_its_lock(kernel: Project, tmp_path: Path) -> None:
    kernel.cnd("tag", "tools/1")
    kernel.cnd("kernel", "install", CONDAINER_ENV="tools/1")
    spec = json.loads((tmp_path / "jupyter/kernels/my-env/kernel.json").read_text())
    own = ["--quiet", "-d", str(kernel.path), "exec", "--frozen", "--"]
    assert spec["argv"][1:7] == own


def test_an_image_without_a_kernel(make_project: Any) -> None:
    project: Project = make_project(text=SMALL)
    assert "`cnd build`" in project.cnd("kernel", "install", status=None).stderr
    project.cnd("build")
    told = project.cnd("kernel", "install", status=4).stderr
    assert "has no Jupyter kernel" in told
    assert "`cnd add ipykernel`" in told


def test_kernels_of_other_languages(make_project: Any, tmp_path: Path) -> None:
    """What R or Julia packages put into an image is started as it says."""
    spec = json.dumps({"argv": ["R", "{connection_file}"], "display_name": "R", "language": "R"})
    channel = tmp_path / "channel"
    names = ("ir", "two")
    files = [(f"share/jupyter/kernels/{name}/kernel.json", spec) for name in names]
    tiny.package(channel, "kernels", "1", files=files)
    tiny.index(channel)
    text = f"name: r\nchannels: ['{channel.as_uri()}']\ndependencies: [kernels]\n"
    project: Project = make_project("other", text, JUPYTER_DATA_DIR=str(tmp_path / "jupyter"))
    project.cnd("build")
    installed = project.json("kernel", "install")
    assert [item["name"] for item in installed] == ["r-ir", "r-two"]
    written = json.loads((tmp_path / "jupyter/kernels/r-ir/kernel.json").read_text())
    assert written["argv"][-3:] == ["--", "R", "{connection_file}"]
    assert (written["language"], written["display_name"]) == ("R", "R [r]")
    # The settings of this shell, which a hub does not have.
    assert written["env"]["CONDAINER_CACHE"] == str(project.cache)
    # All or none.
    place = tmp_path / "jupyter/kernels"
    (place / "q-two").mkdir()
    project.cnd("kernel", "install", "--name", "q", status=3)
    assert not (place / "q-ir").exists()


def test_environments_of_one_file_have_kernels_of_their_own(
    make_project: Any, tmp_path: Path
) -> None:
    spec = json.dumps({"argv": ["R", "{connection_file}"], "display_name": "R", "language": "R"})
    channel = tmp_path / "channel"
    tiny.package(channel, "ir", "1", files=[("share/jupyter/kernels/ir/kernel.json", spec)])
    tiny.index(channel)
    text = f"name: r\nchannels: ['{channel.as_uri()}']\ndependencies: [ir]\n"
    project: Project = make_project("several", text, JUPYTER_DATA_DIR=str(tmp_path / "jupyter"))
    project.write("environments: {default: {}, gpu: {}}\n", "condainer.yml")
    project.cnd("build", "--all")
    for chosen in ((), ("-e", "gpu")):
        project.cnd("kernel", "install", *chosen)
    shown = {item["name"]: item["display_name"] for item in project.json("kernel", "list")}
    assert shown == {"r": "R [r]", "r-gpu": "R [r-gpu]"}
    written = json.loads((tmp_path / "jupyter/kernels/r-gpu/kernel.json").read_text())
    assert written["argv"][4:6] == ["-e", "gpu"]
