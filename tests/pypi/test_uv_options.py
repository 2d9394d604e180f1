"""Every option that pip takes in a requirements file is done by the real uv, or refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from pip._internal.req import req_file

from condainer.inputs import pip_options, requirements
from condainer.inputs.inputs import Inputs
from condainer.lock.locks import PipPackage
from condainer.pypi import uv_options, wheels
from condainer.system.errors import InputError, SolveError
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers import tiny


def sdist(directory: Path, version: str) -> None:
    """Write a source archive whose metadata needs no build."""
    head = f"thing-{version}"
    text = f"Metadata-Version: 2.2\nName: thing\nVersion: {version}\n"
    project = f'[project]\nname = "thing"\nversion = "{version}"\n'
    with tarfile.open(directory / f"{head}.tar.gz", "w:gz") as archive:
        for name, content in (("PKG-INFO", text), ("pyproject.toml", project)):
            member = tarfile.TarInfo(f"{head}/{name}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content.encode()))


@dataclass(frozen=True)
class Shop:
    """Files of `thing`: wheels 1.0 and 3.0rc1, an sdist 2.0, in a directory and on an index."""

    project: Path
    prefix: Path
    hashes: dict[str, str]

    def locked(self, text: str, tmp_path: Path, held: Sequence[PipPackage] = ()) -> str:
        """Return what is locked of `thing`; text can name the shop's places."""
        path = self.project / "requirements.txt"
        words = {"index": (self.project / "simple").as_uri(), **self.hashes}
        path.write_text(text.format(**words))
        lines, _ = requirements.read(path)
        uv_options.check(lines)
        inputs = Inputs("", this_platform(), (), (), (), tuple(lines), (), False, ())
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        found = wheels.resolve(inputs, self.prefix, scratch, Silent(), held).packages
        (package,) = found
        return package.filename


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    project = tmp_path_factory.mktemp("pip-options")
    links = project / "my links"
    links.mkdir()
    for version in ("1.0", "3.0rc1"):
        tiny.wheel(links, "thing", version)
    sdist(links, "2.0")
    page = project / "simple" / "thing"
    page.mkdir(parents=True)
    (page / "index.html").write_text(
        "".join(f'<a href="{path.as_uri()}">{path.name}</a>' for path in sorted(links.iterdir()))
    )
    (project / "links").symlink_to("my links")
    (project / "limits.txt").write_text("thing<2\n")
    (project / "more.txt").write_text("--no-index\n--find-links links\nthing\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / "venv"], check=True)
    hashes = {
        f"h{path.name.split('-')[1][0]}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in links.iterdir()
    }
    return Shop(project, project / "venv", hashes)


OLD, SOURCE, PRE = "thing-1.0-py3-none-any.whl", "thing-2.0.tar.gz", "thing-3.0rc1-py3-none-any.whl"
HERE = "--no-index\n--find-links links\n"
# What is written, and the file that is locked; or what the refusal names.
TABLE = [
    ("--index-url {index}\nthing", SOURCE),
    ("-i {index}\nthing", SOURCE),
    ("-i{index}\nthing", SOURCE),
    ("--pypi-url={index}\nthing", SOURCE),
    ("--no-index\n--extra-index-url {index}\n--find-links links\nthing", SOURCE),
    (f"{HERE}thing", SOURCE),
    ("--no-index\n-f links\nthing", SOURCE),
    ("--no-index\n-flinks\nthing", SOURCE),
    ("--no-index\n-f=links\nthing", SOURCE),
    ("--no-index\n--find-links my links\nthing", SOURCE),
    ("--no-index --find-links links\nthing", SOURCE),
    ("--find-links links --no-index\nthing", SOURCE),
    ("--no-index --find-links 'my links'\nthing", SOURCE),
    (f"{HERE}-c limits.txt\nthing", OLD),
    (f"{HERE}--constraint=limits.txt\nthing", OLD),
    (f"{HERE}-climits.txt\nthing", OLD),
    ("-r more.txt", SOURCE),
    ("--requirement more.txt", SOURCE),
    ("--requirem more.txt", SOURCE),
    ("--req more.txt", "requirements.txt:1"),
    ("-e .", "requirements.txt:1"),
    ("--editable=.", "requirements.txt:1"),
    (f"{HERE}--only-binary :all:\nthing", OLD),
    (f"{HERE}--only-binary=other,thing\nthing", OLD),
    (f"{HERE}--no-binary other --only-binary thing\nthing", OLD),
    (f"{HERE}--prefer-binary\nthing", "requirements.txt:3: --prefer-binary"),
    (f"{HERE}--prefer-b\nthing", "requirements.txt:3: --prefer-binary"),
    (f"{HERE}--require-hashes\nthing", "requirements.txt:4"),
    (f"{HERE}--require-hashes\nthing==1.0 --hash=sha256:{{h1}}", OLD),
    (f"{HERE}--require-hashes\nthing==1.0 --hash=sha256:{{h2}}", "sha256"),
    (f"{HERE}--pre\nthing", PRE),
    ("--pre --no-index --find-links links\nthing", PRE),
    (f"{HERE}--pre\n--only-binary=:all:\n-c limits.txt\nthing", OLD),
    (f"{HERE}--all-releases :all:\nthing", PRE),
    (f"{HERE}--all-releases thing\nthing", "requirements.txt:3: --all-releases"),
    (f"{HERE}--only-final thing\nthing", "requirements.txt:3: --only-final"),
    (f"{HERE}--trusted-host index.example\nthing", "requirements.txt:3: --trusted-host"),
    (f"{HERE}--use-feature=fast-deps\nthing", "requirements.txt:3: --use-feature"),
    (f"{HERE}thing --hash=sha256:{{h2}}", SOURCE),
    (f"{HERE}thing --config-settings a=b", "requirements.txt:3: --config-settings"),
    (f"{HERE}thing -C a=b", "requirements.txt:3: -C"),
    (f"{HERE}thing --global-option a", "requirements.txt:3: --global-option"),
    (f"{HERE}thing --install-option a", "requirements.txt:3: --install-option"),
    (f"{HERE}--process-dependency-links\nthing", "requirements.txt:3"),
    (f"{HERE}--pre=yes\nthing", "requirements.txt:3"),
    (f"{HERE}--pre and\nthing", "requirements.txt:3"),
    (f"{HERE}--find-links\nthing", "requirements.txt:3"),
    (f"{HERE}--no-binary 'thing\nthing", "requirements.txt:3"),
    (f"{HERE}--no\nthing", "requirements.txt:3"),
]
# With these, no version is left.
UNSATISFIABLE = [
    (f"{HERE}--no-binary thing\nthing<2", "thing"),
    (f"{HERE}--only-final=:all:\nthing>2.5", "requirements.txt:4"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_an_option_is_done_or_refused(shop: Shop, tmp_path: Path, text: str, expected: str) -> None:
    if expected in (OLD, SOURCE, PRE):
        assert shop.locked(text, tmp_path) == expected
    else:
        with pytest.raises(InputError) as caught:
            shop.locked(text, tmp_path)
        assert expected in caught.value.message


@pytest.mark.parametrize(("text", "expected"), UNSATISFIABLE)
def test_an_option_that_leaves_nothing(
    shop: Shop, tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(SolveError) as caught:
        shop.locked(text, tmp_path)
    assert expected in caught.value.message


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_hashes_are_required_also_beside_an_older_lock(
    shop: Shop, tmp_path: Path, version: str
) -> None:
    held = [PipPackage("thing", f"https://a.example/thing-{version}-py3-none-any.whl", "0" * 64)]
    text = f"{HERE}--require-hashes\nthing==1.0 --hash=sha256:{{h1}}"
    assert shop.locked(text, tmp_path, held) == OLD


def test_the_table_has_every_option_of_pip() -> None:
    table = [names.split() for names in (*pip_options.FLAGS, *pip_options.WITH_VALUE)]
    known = {name for names in table for name in names}
    tried = {word.partition("=")[0] for text, _ in TABLE for word in text.split()}
    for make in req_file.SUPPORTED_OPTIONS:
        assert {*make()._short_opts, *make()._long_opts} <= known
        assert tried & {*make()._long_opts}
    for make in req_file.SUPPORTED_OPTIONS_REQ:
        assert tried & {*make()._long_opts}
    assert {names[0] for names in table} <= tried


@pytest.mark.parametrize("host", ["index.example", "index.example:8080"])
def test_a_trusted_host_needs_no_trust_where_nothing_is_encrypted(
    tmp_path: Path, host: str
) -> None:
    path = tmp_path / "requirements.txt"
    plain = f"--trusted-host {host}\n--index-url http://index.example:8080/simple\n"
    path.write_text(plain)
    lines, _ = requirements.read(path)
    uv_options.check(lines, {})
    assert [line.text for line in uv_options.spelled(lines)[0]] == [
        "--index-url http://index.example:8080/simple"
    ]
    lines, _ = requirements.from_lines([(f"--trusted-host {host}", "here")], tmp_path)
    uv_options.check(lines, {"UV_INDEX": "mine=http://index.example:8080/simple"})
    with pytest.raises(InputError, match="here: --trusted-host"):
        uv_options.check(lines, {"UV_INDEX": "https://index.example:8080/simple"})
    path.write_text(f"{plain}--extra-index-url https://index.example:8080/simple\n")
    lines, _ = requirements.read(path)
    with pytest.raises(InputError, match="txt:1: --trusted-host"):
        uv_options.check(lines, {})
