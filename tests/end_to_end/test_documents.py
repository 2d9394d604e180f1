"""The tutorial and the how-tos: their blocks are run as they are written, by a clean account."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import slurm
from tests.helpers import documents, registry
from tests.helpers.accounts import PATH, Account, accounts
from tests.helpers.documents import DOCS, NOT_RUN
from tests.helpers.installed import install
from tests.helpers.jobs import OPEN_MPI
from tests.helpers.needed import LMOD, needs, needs_lmod, needs_program, needs_root
from tests.slurm import Cluster
from tests.slurm.settings import AS_LOCALHOST

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = [pytest.mark.timeout(3600), pytest.mark.xdist_group("accounts")]

PAGES = [str(page.relative_to(DOCS)) for page in documents.pages()]
# What runs a block that bash alone does not.
BEFORE = {"": "", "modules": f". {LMOD}\n"}
# Kinds of blocks that other tests run.
ELSEWHERE = {
    "how-to/ci.md": "test_contrib_ci.py",
    "how-to/registry.md": "test_sharing.py",
    "how-to/slurm.md": "test_contrib_slurm.py",
    "how-to/workflows.md": "test_workflows.py",
}
# What a page's blocks say, in this order.
SAID = {
    "tutorial.md": [
        r"mksquashfs +ok",
        r"Built .*image\.squashfs",
        r"Found .*image\.squashfs",
        r"numpy [\d.]+ from \S+/condainer-[0-9a-f]{32}/",
        r"^\S+/condainer-[0-9a-f]{32}$",
        r"^click$",
        r"^Python 3",
        r"rank [01] has numpy",
        r"rank [01] has numpy",
        r"task 1\ntask 2\ntask 3\n",
        r"Climate",
    ],
    "how-to/ci.md": [r'"hit": true'],
    "how-to/slurm.md": [r"^[01] [\d.]+\n[01] [\d.]+\n", r"task 1\ntask 2\ntask 3\n"],
    "how-to/mpi.md": [r"rank [01] of 2\nrank [01] of 2\n"],
    "how-to/cuda.md": [r"virtual-package: cuda=12\.4"],
    "how-to/names.md": [r"climate/2026\.1", r"/own$", r"/condainer-[0-9a-f]{32}$"],
    "how-to/jupyter.md": [r"Climate"],
    "how-to/modules.md": [r"^\d+\.\d+"],
    "how-to/cleaning.md": [r"climate"],
    "how-to/signing.md": [r"^Python 3"],
    "how-to/sharing.md": [r"Built .*/srv/team/", r"climate"],
    "how-to/registry.md": [r"climate/2026\.1"],
    "how-to/offline.md": [r"Found"],
    "how-to/changing.md": [r"click", r"Found|Built"],
    "how-to/install.md": [r"squashfuse_ll +ok"],
}
# What the tutorial writes into environment.yml.
ENVIRONMENT = re.split(r"<<'END'\n|END\n", documents.blocks("tutorial.md")[1].text)[1]
TEAM = 61000
# A place for a group, as it is called in the documents, in a mount namespace of the shell's own.
OWN_SRV = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
    'mount -t tmpfs -o mode=1777 tmpfs /srv; mount --bind "$0" /etc/group; exec "$@"',
)


def runnable(page: str) -> list[documents.Block]:
    """Return the blocks of a page that a reader types."""
    return [b for b in documents.blocks(page) if b.language == "bash" and b.test in BEFORE]


@dataclass(frozen=True)
class Login:
    """A login node: `cnd` for everybody, a cluster, and an environment that is built."""

    place: Path
    cluster: Cluster
    environment: dict[str, str]

    def home_of(self, account: Account) -> None:
        """Give an account the project of the tutorial, and a cache with its image."""
        for name in ("climate", ".cache"):
            shutil.copytree(self.place / "built" / name, account.home / name, symlinks=True)
        self._hand_over(account)

    def byte_code_of(self, account: Account) -> None:
        """Spare an account the compiling of Python, and nothing else."""
        compiled = ".cache/condainer/packages/compiled"
        shutil.copytree(self.place / "built" / compiled, account.home / compiled)
        self._hand_over(account)

    def _hand_over(self, account: Account) -> None:
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", account.home], check=True)

    def walk(self, account: Account, script: str, team: bool, more: dict[str, str]) -> str:
        """Return what a script says, in the shell of an account."""
        # Another user's mount there would be reported to the next reader.
        script = f"trap 'cnd -q umount --all --force' EXIT\n{script}"
        become = [word for word in account.become if word != "--clear-groups"]
        before = [*AS_LOCALHOST]
        if team:
            group = self.place / "group"
            group.write_text(f"{Path('/etc/group').read_text()}team:x:{TEAM}:{account.name}\n")
            before += [*OWN_SRV, str(group)]
        environment = {**self.environment, **self.cluster.environment, **more}
        done = subprocess.run(
            [
                *before,
                *become,
                f"--groups={TEAM}" if team else "--clear-groups",
                "bash",
                "-c",
                script,
            ],
            cwd=account.home,
            env={**environment, "HOME": str(account.home), "USER": account.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3000,
            umask=0o022,
        )
        assert done.returncode == 0, f"{done.stdout}\n{self.cluster.log_ends()}"
        return done.stdout


@pytest.fixture(scope="module")
def login(channel: Path) -> Iterator[Login]:
    """The login node, on which root has built the tutorial's environment."""
    needs_root("to make accounts")
    needs_program("useradd")
    if missing := slurm.missing_tools():
        needs(", ".join(missing))
    place = Path(tempfile.mkdtemp(prefix="cnd-docs-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        stack.callback(_unmount_below, place)
        place.chmod(0o755)
        (place / "m").mkdir()
        (place / "m").chmod(0o1777)
        try:
            programs = install(place)
        except LookupError as error:
            needs(str(error))
        handed_on = ("UV_", "PIP_", "SSL_", "REQUESTS_", "http", "https", "no_proxy")
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(handed_on)},
            "PATH": f"{programs}:{PATH}",
            "LANG": "C.UTF-8",
            "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
            "CONDAINER_MOUNT_BASE": str(place / "m"),
            "CONDAINER_LINGER": "0.3",
        }
        project = place / "built/climate"
        project.mkdir(parents=True)
        (project / "environment.yml").write_text(ENVIRONMENT, encoding="utf-8")
        subprocess.run(
            ["cnd", "-q", "build"],
            cwd=project,
            env={**environment, "HOME": str(place / "built")},
            check=True,
        )
        (place / "slurm").mkdir()
        cluster = stack.enter_context(slurm.cluster(place / "slurm", slurm.harshest()))
        yield Login(place, cluster, environment)


def _unmount_below(place: Path) -> None:
    """Unmount what an account that is gone has left mounted."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    for point in (line.split()[1] for line in lines):
        if point.startswith(f"{place}/"):
            subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def account(login: Login) -> Iterator[Account]:
    """A clean account."""
    with accounts(login.place, 1) as (made,):
        yield made


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)])
def test_a_reader_copies_the_blocks(
    page: str, login: Login, account: Account, channel: Path
) -> None:
    run = runnable(page)
    if any(block.test == "modules" for block in run):
        needs_lmod()
    if page == "how-to/names.md" and shutil.which("direnv") is None:
        needs("direnv")
    script = "set -e\n"
    if page == "tutorial.md":
        login.byte_code_of(account)
    else:
        login.home_of(account)
        script += "cd ~/climate; cnd -q build; cnd -q tag climate/2026.1; cd\n"
    for block in run:
        script += f"echo '# {page}:{block.line}'\n{BEFORE[block.test]}{block.text}"
    more = {**OPEN_MPI, "OMPI_MCA_plm": "isolated", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    with ExitStack() as stack:
        if page == "how-to/registry.md":
            running = stack.enter_context(registry.serve(login.place / "registry"))
            more["CONDAINER_REGISTRIES"] = f"oci+http://{running.authority}/group/images"
        said = login.walk(account, script, "/srv" in script, more)
    position = 0
    for words in SAID.get(page, ()):
        match = re.compile(words, re.MULTILINE).search(said, position)
        assert match, f"{words!r} is not in:\n{said[position:]}"
        position = match.end()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_run_or_says_why_not(page: str) -> None:
    for block in documents.blocks(page):
        where = f"docs/{page}:{block.line}"
        assert block.language, f"{where}: a language is missing; `text` is one"
        if block.test and block.test not in BEFORE and not block.test.startswith(NOT_RUN):
            assert page in ELSEWHERE, f"{where}: no test runs blocks of the kind {block.test}"
            test = Path(__file__).with_name(ELSEWHERE[page]).read_text(encoding="utf-8")
            assert f'"{block.test}"' in test, f"{ELSEWHERE[page]} does not read {where}"


def test_few_blocks_are_not_run() -> None:
    left = [b for page in PAGES for b in documents.blocks(page) if b.test.startswith(NOT_RUN)]
    assert len(left) <= 13
    assert all(len(block.test) > len(NOT_RUN) + 10 for block in left)
