"""contrib/ci: the steps of its templates, run as the services run them, in containers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import string
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from tests.channel import ChannelServer
from tests.helpers import documents, pins
from tests.helpers.container import HOME, Container, container, ensure_root, missing
from tests.helpers.needed import needs
from tests.helpers.projects import TOP, Project

ACTION = "contrib/ci/github"
TEMPLATE = "contrib/ci/gitlab/condainer.gitlab-ci.yml"
ENVIRONMENT = "dependencies: [python, numpy, six]\n"
# What of this repository pip needs, and the services.
REPOSITORY = ("bin", "condainer", "contrib", "pyproject.toml", "setup.py", "README.md", "LICENSE")
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
LISTED = "/tmp/saved-paths"
ARCHIVE = "/tmp/saved.tar"

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("containers")]


@pytest.fixture(scope="module")
def base() -> Path:
    """The archive of all containers' root directory; it is kept between runs."""
    if lacking := missing():
        needs(", ".join(lacking))
    return ensure_root(TOP / ".container")


@pytest.fixture(scope="module")
def wheels(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip installs in containers, in the versions of tools/pins.txt."""
    directory = tmp_path_factory.mktemp("wheels")
    with tarfile.open(base) as archive:
        names = "\n".join(archive.getnames())
    (version,) = re.findall(r"^\./usr/bin/python(3\.\d+)$", names, re.MULTILINE)
    pins.download(directory, version)
    return directory


@dataclass
class Service:
    """What a service has from one run to the next, and the machines that it starts."""

    base: Path
    wheels: Path
    place: Path
    server: ChannelServer
    saved: dict[str, Path] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the administrator of the machines has configured."""
        mirrors = f"conda-forge={self.server.url}/conda-forge"
        return {
            "CI": "true",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
            "CONDAINER_MIRRORS": mirrors,
        }

    @contextmanager
    def start(self, fuse: bool, repository: Path | str) -> Iterator[Container]:
        """Start a machine that has this repository and nothing else of ours."""
        with container(self.base, self.place, fuse) as machine:
            shutil.copytree(self.wheels, machine.path("/wheels"))
            machine.path(repository).mkdir(parents=True)
            subprocess.run(["cp", "-r", *REPOSITORY, machine.path(repository)], cwd=TOP, check=True)
            machine.give(repository, "/wheels")
            yield machine

    def save(self, key: str, paths: list[str], machine: Container, directory: str) -> None:
        """Keep files and directories of a machine, as `tar` of its user sees them."""
        script = f"tar --create --posix --absolute-names --file {ARCHIVE} --files-from {LISTED}"
        machine.path(LISTED).write_text("".join(f"{path}\n" for path in paths))
        done = machine.run(*script.split(), environment={}, directory=directory)
        assert done.returncode == 0, done.stderr
        self.saved[key] = self.place / hashlib.sha256(key.encode()).hexdigest()
        shutil.move(machine.path(ARCHIVE), self.saved[key])

    def restore(self, key: str, machine: Container, directory: str) -> bool:
        """Give a machine what was kept under a key; tell whether there was anything."""
        if key not in self.saved:
            return False
        shutil.copy(self.saved[key], machine.path(ARCHIVE))
        script = f"tar --extract --absolute-names --file {ARCHIVE}"
        done = machine.run(*script.split(), environment={}, directory=directory)
        assert done.returncode == 0, done.stderr
        machine.path(ARCHIVE).unlink()
        return True


@pytest.fixture
def service(base: Path, wheels: Path, tmp_path: Path, server: ChannelServer) -> Service:
    return Service(base, wheels, tmp_path, server)


@pytest.fixture
def locked(make_project: Callable[..., Project]) -> Project:
    """A project with its lock, as it is committed."""
    project = make_project("locked", ENVIRONMENT)
    project.cnd("lock")
    return project


@pytest.fixture
def small(make_project: Callable[..., Project]) -> Project:
    """Another one, that takes less time."""
    project = make_project("small", "dependencies: [probe-prefix]\n")
    project.cnd("lock")
    return project


@pytest.mark.parametrize(
    ("schema", "file"),
    [("github-actions", f"{ACTION}/action.yml"), ("gitlab-ci", TEMPLATE)],
)
def test_the_files_are_what_the_services_accept(schema: str, file: str) -> None:
    check_schema(schema, TOP / file)


def test_the_examples_are_what_the_services_accept(tmp_path: Path) -> None:
    for schema, words in (("github-workflows", "jobs:"), ("gitlab-ci", "extends:")):
        example = tmp_path / f"{schema}.yml"
        example.write_text(example_with(words))
        check_schema(schema, example)


def check_schema(schema: str, file: Path) -> None:
    """Raise AssertionError unless a file is right by one of check-jsonschema's own schemas."""
    program = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [program, "--builtin-schema", f"vendor.{schema}", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def example_with(words: str) -> str:
    """Return the example in docs/how-to/ci.md that has these words."""
    return next(b.text for b in documents.blocks("how-to/ci.md") if words in b.text)


# GitHub


@dataclass
class Runner:
    """One job on a machine: what a step leaves for the next, as GitHub's runner keeps it."""

    service: Service
    machine: Container
    path: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    said: list[CompletedProcess[str]] = field(default_factory=list)

    work = HOME / "work"
    workspace = str(work / "project/project")
    temp = str(work / "_temp")
    actions = work / "_actions"

    def __post_init__(self) -> None:
        for directory in (self.workspace, self.temp):
            self.machine.path(directory).mkdir(parents=True)
        self.machine.give(HOME)

    def check_out(self, project: Project, directory: str = ".") -> None:
        shutil.copytree(
            project.path, self.machine.path(self.workspace) / directory, dirs_exist_ok=True
        )
        self.machine.give(self.workspace)

    def job(self, steps: list[dict[str, Any]], project: Project) -> dict[str, str]:
        """Run the steps of a workflow's job; return the outputs of our action."""
        outputs: dict[str, str] = {}
        for step in steps:
            name = step.get("uses", "").partition("@")[0]
            if name == "actions/checkout":
                self.check_out(project)
            elif name.endswith(ACTION):
                outputs = self.action(step.get("with", {}))
            else:
                self.run(step, {}, ("bash", "-e"))
        return outputs

    def action(self, given: Mapping[str, str], status: int = 0) -> dict[str, str]:
        """Run our action with the given inputs; return its outputs, none if it is to fail."""
        action = yaml.safe_load((TOP / ACTION / "action.yml").read_text(encoding="utf-8"))
        assert given.keys() <= action["inputs"].keys()
        inputs = {name: given.get(name, item["default"]) for name, item in action["inputs"].items()}
        values = {f"inputs.{name}": value for name, value in inputs.items()}
        for step in action["runs"]["steps"]:
            if "if" in step and not holds(step["if"], values):
                continue
            if "uses" in step:
                outputs = self.cache(step, values)
            else:
                assert step["shell"] == "bash"
                shell = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
                outputs = self.run(step, values, shell, status=None)
                if self.said[-1].returncode:
                    assert self.said[-1].returncode == status, self.said[-1].stderr
                    return {}
            for name, value in outputs.items():
                values[f"steps.{step['id']}.outputs.{name}"] = value
        assert status == 0
        return {name: evaluated(item["value"], values) for name, item in action["outputs"].items()}

    def run(
        self,
        step: Mapping[str, Any],
        values: Mapping[str, str],
        shell: tuple[str, ...],
        status: int | None = 0,
    ) -> dict[str, str]:
        """Run one step with the files through which it speaks to later ones; return its outputs."""
        # What is pasted into a script is run, whatever it is.
        assert "${{" not in step["run"]
        script = f"{self.temp}/script.sh"
        self.machine.path(script).write_text(step["run"])
        files = {f"GITHUB_{name}": f"{self.temp}/{name}" for name in ("ENV", "OUTPUT", "PATH")}
        for file in files.values():
            self.machine.path(file).write_text("")
            self.machine.give(file)
        own = {k: evaluated(v, values) for k, v in step.get("env", {}).items()}
        environment = {
            **self.service.environment,
            "RUNNER_TEMP": self.temp,
            "GITHUB_WORKSPACE": self.workspace,
            "GITHUB_ACTION_PATH": str(self.actions / ACTION),
            **files,
            **self.environment,
            **own,
            "PATH": ":".join((*self.path, "/usr/local/bin:/usr/bin:/bin")),
        }
        done = self.machine.run(*shell, script, environment=environment, directory=self.workspace)
        self.said.append(done)
        assert status is None or done.returncode == status, f"{done.stdout}\n{done.stderr}"
        left = {name: self.machine.path(file).read_text() for name, file in files.items()}
        self.path[:0] = reversed(left["GITHUB_PATH"].splitlines())
        self.environment.update(assignments(left["GITHUB_ENV"]))
        return assignments(left["GITHUB_OUTPUT"])

    def way(self) -> str:
        """Return by what the image of the project is at its place, as a step of the job sees it."""
        self.run({"run": "cnd status --json"}, {}, ("bash", "-e"))
        found: str = json.loads(self.said[-1].stdout)["mount"]["with"]
        return found

    def cache(self, step: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
        """Do what the actions for GitHub's cache do; return their outputs."""
        assert step["with"].keys() == {"key", "path"}
        key, paths = (evaluated(step["with"][name], values) for name in ("key", "path"))
        if step["uses"] == "actions/cache/save@v5":
            assert key not in self.service.saved
            self.service.save(key, paths.splitlines(), self.machine, self.workspace)
            return {}
        assert step["uses"] == "actions/cache/restore@v5"
        restored = self.service.restore(key, self.machine, self.workspace)
        return {"cache-hit": "true"} if restored else {}


def evaluated(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the values in place of its expressions, all of which are names."""
    return EXPRESSION.sub(lambda found: values[found[1]], text)


def holds(condition: str, values: Mapping[str, str]) -> bool:
    """Tell whether all parts of a condition hold; what a step has not put out is empty."""
    parts = [re.fullmatch(r"(\S+) ([!=]=) '(.*)'", part) for part in condition.split(" && ")]
    return all(part and (values.get(part[1], "") == part[3]) == (part[2] == "==") for part in parts)


def assignments(text: str) -> dict[str, str]:
    """Return what a file of lines `NAME=VALUE` says."""
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def steps() -> list[dict[str, Any]]:
    """The steps of the workflow in docs/how-to/ci.md."""
    (job,) = yaml.safe_load(example_with("jobs:"))["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_github(
    service: Service, locked: Project, small: Project, steps: list[dict[str, Any]]
) -> None:
    with service.start(fuse=False, repository=Runner.actions) as machine:
        runner = Runner(service, machine)
        first = runner.job(steps, locked)
        assert first["cache-hit"] == "false"
        assert f"/.condainer-wrappers/{first['address']}/" in runner.said[-1].stdout
        assert runner.way() == "unsquashfs"
        assert service.server.downloads
    assert list(service.saved) == [f"condainer-{first['address']}"]

    service.server.requests.clear()
    with service.start(fuse=True, repository=Runner.actions) as machine:
        runner = Runner(service, machine)
        again = runner.job(steps, locked)
        assert again == {**first, "cache-hit": "true"}
        assert f"/.condainer-wrappers/{first['address']}/" in runner.said[-1].stdout
        assert runner.way() == "squashfuse_ll"
        assert service.server.requests == []

        # A second project, in a directory whose name a shell would take for something else.
        odd = "a b; touch pwned $(touch pwned)"
        runner.check_out(small, odd)
        programs = list(runner.path)
        own_cache = {"cache-directory": f"{HOME}/images", "cache": "false", "wrap": "false"}
        other = runner.action({"directory": odd, **own_cache})
        assert other["cache-hit"] == "false"
        assert machine.path(HOME / "images/images").is_dir()
        assert runner.path == programs
        assert len(service.saved) == 1
        assert not list(machine.path(HOME).rglob("pwned"))

        # The lock says something else than what is asked for.
        (machine.path(runner.workspace) / "environment.yml").write_text("dependencies: [six]\n")
        runner.action({}, status=7)
        assert "Run `cnd lock`" in runner.said[-1].stderr


# GitLab


@dataclass(frozen=True)
class Docker:
    """GitLab's runner, where it starts containers: root checks out what everybody may write."""

    service: Service
    machine: Container
    job: dict[str, Any]
    shell: str
    path: str = ""

    directory = "/builds/group/project"

    def check_out(self, project: Project) -> None:
        place = self.machine.path(self.directory)
        shutil.copytree(project.path, place)
        for path in (*place.rglob("*"), place, place.parent, place.parent.parent):
            path.chmod(0o777 if path.is_dir() else 0o666)

    def run(self) -> CompletedProcess[str]:
        """Run the job, with the cache before and after it."""
        self.service.restore(self.key, self.machine, self.directory)
        done = self.script()
        assert done.returncode == 0, done.stderr
        self.service.save(self.key, self.job["cache"]["paths"], self.machine, self.directory)
        return done

    def script(self) -> CompletedProcess[str]:
        """Run what the job says, which is one script."""
        script = "\n".join(["set -e", *self.job["before_script"], *self.job["script"]])
        predefined = {**self.service.environment, "CI_PROJECT_DIR": self.directory}
        variables = {
            name: string.Template(value).substitute(predefined)
            for name, value in self.job["variables"].items()
        }
        return self.machine.run(
            *(self.shell, "-c", script),
            environment={**predefined, **variables, "PATH": f"{self.path}/usr/bin:/bin"},
            directory=self.directory,
            umask=0,
        )

    @property
    def key(self) -> str:
        key = self.job["cache"]["key"]
        texts = [(self.machine.path(self.directory) / name).read_bytes() for name in key["files"]]
        return f"{key['prefix']}-{hashlib.sha256(b''.join(texts)).hexdigest()}"


@pytest.fixture
def job() -> dict[str, Any]:
    """The job in docs/how-to/ci.md, with what it extends."""
    written = yaml.safe_load(example_with("extends:"))
    assert [item["file"] for item in written["include"]] == [TEMPLATE]
    (job,) = (item for item in written.values() if "extends" in item)
    template = yaml.safe_load((TOP / TEMPLATE).read_text(encoding="utf-8"))[job["extends"]]
    # The repository is where the machine of the tests has it.
    variables = {**template["variables"], **job["variables"], "CONDAINER_SOURCE": "/repository"}
    return {**template, **job, "variables": variables}


def test_gitlab(service: Service, locked: Project, job: dict[str, Any]) -> None:
    installed = [".condainer/bin", ".condainer/venv"]
    with service.start(fuse=True, repository="/repository") as machine:
        runner = Docker(service, machine, job, "bash")
        runner.check_out(locked)
        first = runner.run()
        assert first.stdout.splitlines()[-1].startswith("/tmp/condainer-")
        assert "unpacked" not in first.stderr
        assert service.server.downloads
        service.save("installed", installed, machine, runner.directory)

        nameless = {**job, "variables": {**job["variables"], "CONDAINER_SOURCE": ""}}
        done = Docker(service, machine, nameless, "sh").script()
        assert done.returncode != 0
        assert "CONDAINER_SOURCE: must say what pip installs cnd from" in done.stderr

    # Another machine, which has cnd already.
    service.server.requests.clear()
    with service.start(fuse=False, repository="/repository") as machine:
        runner = Docker(service, machine, job, "sh", f"{Docker.directory}/.condainer/bin:")
        runner.check_out(locked)
        service.restore("installed", machine, runner.directory)
        again = runner.run()
        assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
        assert "not mounted, but unpacked" in again.stderr

        # What was damaged is not used, nor kept.
        saved = machine.path(runner.directory) / ".condainer"
        (image,) = (saved / "images").iterdir()
        size = image.stat().st_size
        os.truncate(image, size // 2)
        done = runner.script()
        assert done.returncode == 0
        assert "it was cut off" in done.stderr
        assert image.stat().st_size == size
        assert service.server.requests == []

        (machine.path(runner.directory) / "environment.yml").write_text("dependencies: [six]\n")
        done = runner.script()
        assert done.returncode == 7
        assert "Run `cnd lock`" in done.stderr
