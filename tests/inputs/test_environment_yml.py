"""The grammar of environment.yml: each form read by us, and by rattler as it is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from condainer.inputs.conda_specs import Spec
from condainer.inputs.inputs import Inputs
from condainer.inputs.read import read_inputs
from condainer.packages.by_url import Wanted, wanted_of
from condainer.packages.channels import Channel, expanded
from condainer.settings.load import load_settings
from condainer.solve.conda_solver import _on_mirrors, match_specs
from condainer.system.errors import InputError

Write = Callable[[str, str | bytes], Path]

# What stands in the file, and what it means: name, version, build, the rest in brackets.
SPECS = [
    ("numpy", "numpy"),
    ("NumPy", "numpy"),
    ("_libgcc_mutex", "_libgcc_mutex"),
    ("ruamel.yaml", "ruamel.yaml"),
    ("numpy=1.2", "numpy 1.2.*"),
    ("numpy =1.2", "numpy 1.2.*"),
    ("numpy = 1.2", "numpy 1.2.*"),
    ("numpy==1.2", "numpy ==1.2"),
    ("numpy 1.2", "numpy ==1.2"),
    ("numpy 1.2.*", "numpy 1.2.*"),
    ("numpy=1.2.*", "numpy 1.2.*"),
    ("numpy==1.2.*", "numpy 1.2.*"),
    ("numpy >=1.2.*", "numpy >=1.2"),
    ("numpy>=1,<2", "numpy >=1,<2"),
    ("numpy >= 1 , < 2", "numpy >=1,<2"),
    ("numpy=", "numpy"),
    ("channel::numpy =", "channel::numpy"),
    ("python = 3.8 = h_0", "python ==3.8 h_0"),
    ("python = 3.8 = *cuda*", "python ==3.8 *cuda*"),
    ("python 3.8 =h_0", "python ==3.8 h_0"),
    ("python>=3.8 = h_0", "python >=3.8 h_0"),
    ("numpy[name=NumPy]", "numpy"),
    ("numpy[name='numpy', version='>=1']", "numpy >=1"),
    ("numpy <2.0a0,>1.2", "numpy <2.0a0,>1.2"),
    ("numpy !=1.5.*,>1", "numpy !=1.5.*,>1"),
    ("numpy ~=1.2.0", "numpy ~=1.2.0"),
    ("numpy 1.2|1.3", "numpy ==1.2|==1.3"),
    ("numpy >=1.8,<2|==1.9", "numpy >=1.8,<2|==1.9"),
    ("numpy (>=1.8,<2|==1.9)", "numpy >=1.8,<2|==1.9"),
    ("numpy=1!2.0", "numpy 1!2.0.*"),
    ("numpy *", "numpy *"),
    ("numpy 1.2 py_0", "numpy ==1.2 py_0"),
    ("numpy=1.2=py_0", "numpy ==1.2 py_0"),
    ("numpy==1.2=py_0", "numpy ==1.2 py_0"),
    ("numpy=1.2.3=py38*_0", "numpy ==1.2.3 py38*_0"),
    ("pytorch=1.11.0=py3.8_cuda11.3_cudnn8.2.0_0", "pytorch ==1.11.0 py3.8_cuda11.3_cudnn8.2.0_0"),
    ("python 3.8.* *_cpython", "python 3.8.* *_cpython"),
    ("libblas=*=*openblas", "libblas * *openblas"),
    ("blas[build=mkl]", 'blas[build="mkl"]'),
    ("name[version='>=1',build=*cuda*]", "name >=1 *cuda*"),
    ('name[version=">=1,<2"]', "name >=1,<2"),
    ("name[version='1.2|1.3']", "name ==1.2|==1.3"),
    ("name[build_number='>=3']", 'name[build_number=">=3"]'),
    ("name[license=MIT]", 'name[license="MIT"]'),
    ("name >=1 # why", "name >=1"),
    ("channel::name", "channel::name"),
    ("channel/label/dev::name=1", "channel/label/dev::name 1.*"),
    ("channel/linux-64::name", "channel/linux-64::name"),
    ("channel::name[version='>=1',build=*cuda*]", "channel::name >=1 *cuda*"),
    ("name[channel=channel,subdir=noarch]", "channel/noarch::name"),
    ("https://a.example/ch::name", 'name[channel="https://a.example/ch/"]'),
    ("https://a.example/t/x::name", 'name[channel="https://a.example/t/x/"]'),
    ("file:///srv/ch::name>2", 'name >2[channel="file:///srv/ch/"]'),
    ("name[md5=cf985617d679990418c380099620b01a]", 'name[md5="cf985617d679990418c380099620b01a"]'),
    (
        "https://a.example/ch/linux-64/name-1.2-0.tar.bz2",
        'name[url="https://a.example/ch/linux-64/name-1.2-0.tar.bz2"]',
    ),
    (
        "file:///srv/noarch/my-name-1.2-0.conda",
        'my-name[url="file:///srv/noarch/my-name-1.2-0.conda"]',
    ),
]


@pytest.fixture
def read(project: Path, write: Write) -> Callable[[str | bytes], Inputs]:
    def read(content: str | bytes) -> Inputs:
        write("environment.yml", content)
        return read_inputs(load_settings(project), "linux-64")

    return read


Read = Callable[[str | bytes], Inputs]


@pytest.mark.parametrize(("text", "meaning"), SPECS)
def test_a_spec_means_to_rattler_what_it_says(read: Read, text: str, meaning: str) -> None:
    (spec,) = read(yaml.safe_dump({"dependencies": [text]})).specs
    assert spec.text == text
    assert str(match_specs([spec])[0]) == meaning


NO_SPECS = [
    "numpy >>1",
    "numpy =>1",
    "numpy<=>1",
    "numpy >=1,",
    "numpy >1 <2",
    "numpy >=1; python_version>3",
    "numpy[version='1'",
    "numpy[nonsense=1]",
    "num py py py py",
    "*",
    "^numpy$",
    "git+https://a.example/b",
    "-e .",
    "@numpy",
]


@pytest.mark.parametrize("text", NO_SPECS)
def test_what_is_no_spec_is_refused_with_its_place(read: Read, project: Path, text: str) -> None:
    (spec,) = read(yaml.safe_dump({"dependencies": [text]})).specs
    with pytest.raises(InputError, match=r"environment\.yml:2: not a valid conda package spec"):
        match_specs([spec])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("numpy=>1.2", "Write `>=`"),
        ("numpy = <2", "Write `>=`"),
        ("numpy[features=x]", "No channel has features"),
        ("numpy[name=foo]", "another one"),
        ("numpy(1.2)", "parentheses"),
        ("numpy^1.2", "`name>=1.2,<2`"),
        ("numpy==", "Write it as"),
    ],
)
def test_what_conda_takes_for_something_else_is_refused(text: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        match_specs([Spec(text, "x:1")])
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("defaults::numpy", "/pkgs/main::numpy"),
        ("defaults::r-base>=4", "/pkgs/r::r-base>=4"),
        ("defaults::rich", "/pkgs/main::rich"),
        ("pkgs/r::rstudio", "/pkgs/r::rstudio"),
    ],
)
def test_the_channels_behind_defaults(text: str, ending: str) -> None:
    found = match_specs([Spec(text, "x:1")])[0]
    name, channel = ending.rpartition("::")[2], ending.rpartition("::")[0]
    assert str(getattr(found.name, "normalized", "")) == name.partition(">")[0]
    assert found.channel is not None
    url = str(found.channel.base_url).rstrip("/")
    assert url.endswith(channel)
    assert expanded([channel[1:]]) == [url]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("https://a.example/c::n", 'n[channel="file:///m/"]'),
        ("https://a.example/c/linux-64::n>=1", 'n >=1[channel="file:///m/", subdir="linux-64"]'),
        ("n[channel='https://a.example/c',build_number=3]", None),
        ("n 1 b[channel='https://a.example/c',subdir=noarch]", None),
    ],
)
def test_a_channel_in_a_spec_means_its_mirror(text: str, meaning: str | None) -> None:
    channel = Channel("https://a.example/c", ("file:///m",))
    spec = match_specs([Spec(text, "x:1")])[0]
    (found,) = _on_mirrors([spec], [channel], ["file:///m"])
    assert meaning is None or str(found) == meaning
    assert "a.example" not in str(found)
    kept = (str(found.version), str(found.build), found.subdir, str(found.build_number))
    assert kept == (str(spec.version), str(spec.build), spec.subdir, str(spec.build_number))


MD5 = "cf985617d679990418c380099620b01a"
ARCHIVE = "https://a.example/c/noarch/six-1.17.0-py_0.conda"


@pytest.mark.parametrize(
    ("text", "md5", "sha256"),
    [
        (ARCHIVE, "", ""),
        (f"{ARCHIVE}#{MD5.upper()}", MD5, ""),
        (f"{ARCHIVE}#sha256:{'a' * 64}", "", "a" * 64),
        (f"{ARCHIVE}#sha256={'a' * 64}", "", "a" * 64),
        (f"six[url={ARCHIVE}]", "", ""),
        (f"six[url='{ARCHIVE}', md5={MD5}]", MD5, ""),
        (f'six[sha256={"b" * 64},url="{ARCHIVE}"]', "", "b" * 64),
    ],
)
def test_an_archive_by_its_url(text: str, md5: str, sha256: str) -> None:
    assert wanted_of(Spec(text, "e:1"), "linux-64") == Wanted(ARCHIVE, "e:1", md5, sha256)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"{ARCHIVE}#abc", "neither an md5 nor a sha256"),
        ("https://a.example/c/osx-64/six-1.17.0-py_0.conda", "not a package for linux-64"),
        ("https://a.example/six-1.17.0-py_0.conda", "not a package for linux-64"),
        ("https://a.example/noarch/six.conda", "not the URL of a conda package"),
        ("https://u:s3cret@a.example/noarch/six-1-0.conda", "user, password or token"),
        ("https://a.example/t/s3cret/c/noarch/six-1-0.conda", "user, password or token"),
        ("https://a.example/noarch/%2e%2e%2fsix-1-0.conda", "not the URL of a conda package"),
    ],
)
def test_an_archive_that_cannot_be_locked(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        wanted_of(Spec(text, "e:1"), "linux-64")
    assert caught.value.message.startswith("e:1: ")
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "text", ["numpy", "https://a.example/c::six", "six[build=conda]", "a/b::c"]
)
def test_other_specs_name_no_archive(text: str) -> None:
    assert wanted_of(Spec(text, "e:1"), "linux-64") is None


def test_the_path_of_an_archive_is_a_url(read: Read, project: Path, isolated_user: Path) -> None:
    inputs = read(
        "dependencies: [./noarch/a-1-0.conda, ../b-1-0.tar.bz2, /c-1-0.conda, ~/d-1-0.conda]"
    )
    assert [spec.text for spec in inputs.specs] == [
        f"file://{project}/noarch/a-1-0.conda",
        f"file://{project.parent}/b-1-0.tar.bz2",
        "file:///c-1-0.conda",
        f"file://{isolated_user}/d-1-0.conda",
    ]


@pytest.mark.parametrize(
    ("spec", "added"),
    [
        ("https://a.example/linux-64/python-3.11.7-0_cpython.conda", False),
        ("https://a.example/noarch/python-six-1-0.conda", True),
        ("conda-forge::python", False),
        ("python[version='>=3']", False),
        ("https://a.example/python::six", True),
    ],
)
def test_python_is_added_for_pip_only_if_it_is_not_there(
    read: Read, spec: str, added: bool
) -> None:
    inputs = read(yaml.safe_dump({"dependencies": [spec, {"pip": ["rich"]}]}))
    assert [item.text for item in inputs.specs[1:]] == ["python"] * added


FILES = [
    ("duplicates", "dependencies: [a, a, a]\n"),
    ("anchors", "x-common: &c\n  - a\ndependencies: *c\n"),
    ("merge keys", "x: &x {dependencies: [a]}\n<<: *x\n"),
    ("CRLF", "name: x\r\ndependencies:\r\n  - a\r\n"),
    ("CR", "name: x\rdependencies:\r  - a\r"),
    ("BOM", "\ufeffdependencies: [a]\n"),
    ("document marks", "---\ndependencies: [a]\n...\n"),
    ("tabs after values", "name: x\t\ndependencies:\t\n  - a\t\n  - b\t# tab\n"),
    ("quotes", "dependencies: ['a', \"b\"]\n"),
    ("folded", "dependencies:\n  - >-\n    a\n"),
    ("prefix", "prefix: /opt/x\ndependencies: [a]\n"),
    ("platforms", "platforms: [linux-64, osx-arm64]\ndependencies: [a]\n"),
    ("variables", "variables:\n  A: 1\n  B: 'x y'\ndependencies: [a]\n"),
    ("nodefaults", "channels: [c, nodefaults]\ndependencies: [a]\n"),
    ("no indentation", "dependencies:\n- a\n"),
    ("name as a number", "name: 310\ndependencies: [a]\n"),
    ("category", "category: main\ndependencies: [a]\n"),
    ("selectors", "dependencies:\n  - a  # [linux64]\n  - c  # [osx]\n"),
]


@pytest.mark.parametrize("text", [text for _, text in FILES], ids=[name for name, _ in FILES])
def test_files_as_people_write_them(read: Read, text: str) -> None:
    inputs = read(text.encode())
    assert inputs.specs[0].text == "a"
    assert {spec.text for spec in inputs.specs} <= {"a", "b"}


def test_tabs_as_indentation_are_named(read: Read, project: Path) -> None:
    with pytest.raises(InputError, match=r"environment\.yml:2") as caught:
        read("dependencies:\n\t- a\n")
    assert "tab" in caught.value.message + caught.value.hint


def test_ignored_keys_are_named(read: Read, project: Path) -> None:
    inputs = read("tasks: [x]\nname: x\nfoo: 1\n1: 2\ndependencies: [a]\n")
    path = project / "environment.yml"
    assert [note.partition(" has")[0] for note in inputs.notes] == [
        f"{path}:1: `tasks`",
        f"{path}:3: `foo`",
        f"{path}:4: `1`",
    ]
    (note,) = read("category: dev\ndependencies: [a]\n").notes
    assert "environment.yml:1: `category: dev` is ignored" in note
    assert not read(
        "name: x\ncategory: main\nprefix: /x\nchannels: [c]\nplatforms: []\ndependencies: [a]\n"
    ).notes


PIP = """\
dependencies:
  - python
  - pip:
    - --index-url https://index.example/simple
    - --extra-index-url=https://extra.example/simple
    - --find-links https://a.example/wheels
    - --pre
    - '--no-binary :all:'
    - -r more.txt
    - -c limits.txt
    - rich[jupyter]>=13 ; python_version > "3.8"
    - six==1.16.0 --hash=sha256:{digest}
    - thing @ https://a.example/thing-1.0-py3-none-any.whl
    - -e git+https://a.example/b.git@main#egg=b
"""


def test_pip_lines_with_options_and_files(read: Read, write: Write) -> None:
    write("more.txt", "click\n")
    write("limits.txt", "click<9\n")
    inputs = read(PIP.replace("{digest}", "a" * 64))
    assert [line.text for line in inputs.requirements] == [
        "--index-url https://index.example/simple",
        "--extra-index-url=https://extra.example/simple",
        "--find-links https://a.example/wheels",
        "--pre",
        "--no-binary :all:",
        "click",
        "click<9",
        'rich[jupyter]>=13 ; python_version > "3.8"',
        f"six==1.16.0 --hash=sha256:{'a' * 64}",
        "thing @ https://a.example/thing-1.0-py3-none-any.whl",
        "git+https://a.example/b.git@main#egg=b",
    ]
    assert len(inputs.notes) == 1


@pytest.mark.parametrize(
    "channel", ["https://u:s3cret@a.example/c", "https://a.example/t/s3cret/c", "https://$U:$P@a/c"]
)
def test_a_channel_with_a_secret_is_refused(read: Read, project: Path, channel: str) -> None:
    with pytest.raises(InputError, match="user, password or token") as caught:
        read(f"channels: [a, '{channel}']\ndependencies: [a]\n")
    assert caught.value.message.startswith(f"{project}/environment.yml:1: ")
    assert "s3cret" not in caught.value.message
    assert "netrc" in caught.value.hint


@pytest.mark.parametrize("channel", ["https://$HOST/c", "${CHANNEL}", "file://$HOME/channel"])
def test_a_channel_cannot_be_a_variable(read: Read, project: Path, channel: str) -> None:
    with pytest.raises(InputError, match="variable of the environment") as caught:
        read(f"channels:\n  - a\n  - '{channel}'\ndependencies: [a]\n")
    assert caught.value.message.startswith(f"{project}/environment.yml:3: ")


@pytest.mark.parametrize(
    "spec",
    [
        "https://u:s3cret@a.example/c::name",
        "https://a.example/t/s3cret/c::name",
        "name[channel='https://u:s3cret@a.example/c']",
    ],
)
def test_a_spec_with_a_secret_is_refused(read: Read, spec: str) -> None:
    with pytest.raises(InputError, match="user, password or token") as caught:
        read(yaml.safe_dump({"dependencies": [spec]}))
    assert "s3cret" not in caught.value.message
