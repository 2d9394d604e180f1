"""The choice of an engine, and what is made of an executable's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condainer.inputs.read import read_inputs
from condainer.settings import config
from condainer.settings.config import Settings
from condainer.solve import engines
from condainer.solve.conda_solver import no_solution, solve_embedded
from condainer.solve.external import conda_exe, plan, solver
from condainer.solve.external.conda_exe import Executable
from condainer.system.errors import (
    CondainerError,
    ConfigError,
    NetworkError,
    SolveError,
    ToolError,
)
from condainer.system.reporter import Silent

Write = Callable[[str, str], Path]
MAMBA = Executable(Path("/opt/bin/mamba"), "mamba", "2.0.5")
SOURCE = "https://mirror.example/conda-forge"


def test_the_embedded_engine_is_the_default(load: Callable[..., Settings]) -> None:
    for overrides in ((), ("conda_exe=embedded", "installer=/nowhere")):
        settings = load(*overrides)
        assert not engines.is_external(settings)
        assert engines.chosen(settings, Silent()) is solve_embedded


def test_a_name_stays_a_name_and_a_path_is_the_files(
    load: Callable[..., Settings], write: Write, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("condainer.yml", "conda_exe: mamba\ninstaller: ../Miniforge3.sh\n")
    assert load().conda_exe == "mamba"
    assert load().installer == project.parent / "Miniforge3.sh"
    write("condainer.yml", "conda_exe: ./bin/conda\n")
    assert load().conda_exe == str(project / "bin" / "conda")
    monkeypatch.setenv("CONDAINER_CONDA_EXE", "micromamba")
    assert load().conda_exe == "micromamba"
    write("condainer.yml", "conda_exe: 7\n")
    monkeypatch.delenv("CONDAINER_CONDA_EXE")
    with pytest.raises(ConfigError, match="conda_exe: must be a path"):
        load()


def test_the_originals_installer_url_is_refused_with_a_remedy(
    load: Callable[..., Settings], write: Write
) -> None:
    write("condainer.yml", "installer_url: https://example.org/Miniforge3.sh\n")
    with pytest.raises(ConfigError, match="CONDAINER_INSTALLER"):
        load()


@pytest.mark.parametrize("line", ["conda_exe: ./conda", "conda_exe: conda", "installer: i.sh"])
def test_a_project_names_no_programs_where_signatures_count(
    load: Callable[..., Settings], write: Write, line: str
) -> None:
    write("condainer.yml", f"{line}\n")
    load()
    config.user_file().parent.mkdir(parents=True)
    config.user_file().write_text("trust: signed\n")
    with pytest.raises(ConfigError, match="is not allowed in a project"):
        load()
    write("condainer.yml", "")
    config.user_file().write_text(f"trust: signed\n{line}\n")
    assert engines.is_external(load())


def test_the_environment_of_an_executable_is_clean(tmp_path: Path, isolated_user: Path) -> None:
    (isolated_user / ".netrc").touch()
    ours = {
        "CONDA_PREFIX": "/x",
        "CONDA_EXE": "/x/conda",
        "CONDARC": "/x/rc",
        "MAMBA_ROOT_PREFIX": "/x",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x/so",
        "https_proxy": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/certificates",
        "CONDA_OVERRIDE_CUDA": "12.4",
    }
    found = conda_exe.environment(Path("/opt/bin/conda"), tmp_path, ours)
    assert "/x" not in " ".join(found.values())
    assert found["https_proxy"] == "http://proxy.example:3128"
    assert found["CONDA_OVERRIDE_CUDA"] == "12.4"
    assert found["NETRC"] == str(isolated_user / ".netrc")
    for name in ("CONDA_SSL_VERIFY", "MAMBA_SSL_VERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        assert found[name] == "/certificates"
    assert found["HOME"] == str(tmp_path)
    assert found["CONDA_PKGS_DIRS"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            {"status": 1, "stdout": '{"solver_problems": ["nothing provides x"]}', "stderr": ""},
            SolveError,
            "environment.yml:1",
        ),
        (
            {"status": 1, "stdout": "", "stderr": "error  libmamba Could not solve for x"},
            SolveError,
            "Could not solve",
        ),
        (
            {"status": 1, "stdout": '{"exception_name": "CondaSSLError", "message": "no"}'},
            NetworkError,
            "mirror.example",
        ),
        ({"status": 1, "stdout": "", "stderr": "Download error (7)"}, NetworkError, "(7)"),
        ({"status": -9, "stdout": "", "stderr": ""}, ToolError, "SIGKILL"),
        ({"status": 2, "stdout": "Traceback", "stderr": ""}, ToolError, "Traceback"),
        ({"unusable": "KeyError: 'actions'"}, ToolError, "cannot be used"),
    ],
)
def test_what_an_executable_says_instead_of_a_plan(
    load: Callable[..., Settings],
    write: Write,
    answer: dict[str, Any],
    kind: type[CondainerError],
    said: str,
) -> None:
    write("environment.yml", "dependencies: [x]\n")
    inputs = read_inputs(load(), "linux-64")
    error = solver._refusal(MAMBA, {"stderr": "", **answer}, [SOURCE], inputs)
    assert type(error) is kind
    assert said in error.message


def test_only_the_specs_that_the_solver_names_are_blamed(
    load: Callable[..., Settings], write: Write
) -> None:
    write("environment.yml", "dependencies:\n- git\n- numpy>=2\n- c::foo\n")
    inputs = read_inputs(load(), "linux-64")
    error = no_solution(inputs, "numpy >=2 needs digits, and git-lfs needs foo-1.2-0")
    assert "environment.yml:3" in error.message
    assert "environment.yml:4: no solution" in error.message
    assert "environment.yml:2" not in error.message


GOOD = {
    "name": "x",
    "version": "1.0",
    "build_string": "h_0",
    "build_number": 0,
    "url": f"{SOURCE}/noarch/x-1.0-h_0.conda",
    "sha256": "0" * 64,
    "depends": ["python >=3.10"],
}


def test_a_planned_package_is_read() -> None:
    (record,) = plan.planned(MAMBA, [GOOD], [SOURCE])
    assert (record.file_name, str(record.url)) == ("x-1.0-h_0.conda", GOOD["url"])
    assert str(record.build) == "h_0"
    assert record.sha256 == bytes(32)
    assert record.md5 is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "https://elsewhere.example/noarch/x-1.0-h_0.conda"},
        {"url": f"{SOURCE}/a/b/x-1.0-h_0.conda"},
        {"url": None},
        {"sha256": "zz"},
        {"build_number": "many"},
        {"depends": 7},
        {"name": "a b"},
        {"version": "//"},
    ],
)
def test_a_planned_package_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="cannot be used"):
        plan.planned(MAMBA, [{**GOOD, **wrong}], [SOURCE])


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("x >=1,<2", "x >=1,<2"),
        ("https://h.example/c::x", "https://h.example/c::x"),
        ("https://h.example/c::x[build=py*]", 'https://h.example/c::x[build="py*"]'),
        ("https://h.example/c::x=1=*cuda*", "https://h.example/c::x ==1 *cuda*"),
    ],
)
def test_specs_as_executables_take_them(spec: str, text: str) -> None:
    import rattler

    assert solver._text(rattler.MatchSpec(spec, strict=False)) == text
