"""The script that shows what becomes of files that others wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
ITEM = (
    "- {name: x, manager: conda, platform: PLATFORM, url: 'https://a.example/PLATFORM/x-1-0.conda'"
)

CONDA = "conda: https://a.example/c/noarch/x-1-0.conda"


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.corpus", *options, str(directory)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_file_is_read_or_refused(tmp_path: Path) -> None:
    files = {
        "a/environment.yml": "foo: 1\ndependencies: [Zlib=1, {pip: [rich]}]\nvariables: {A: b}\n",
        "b/conda-lock.yml": "version: 1\npackage:\n"
        + "".join(
            f"{ITEM}, hash: {{md5: {'0' * 32}}}}}\n".replace("PLATFORM", platform)
            for platform in ("linux-64", "osx-64")
        ),
        "c.lock": "# platform: osx-64\n@EXPLICIT\n"
        f"https://a.example/osx-64/x-1-0.conda#{'0' * 64}\n",
        "d/pixi.lock": "version: 6\nenvironments:\n"
        + "".join(
            f"  {name}:\n    channels: []\n    packages:\n      linux-64:\n      - {item}\n"
            for name, item in (("default", CONDA), ("dev", "pypi: ./"))
        )
        + f"packages:\n- {CONDA}\n  md5: {'a' * 32}\n- pypi: ./\n  name: mine\n  version: '1'\n",
        "e/conda.lock": "version: 1\nenvironments: {}\npackages: {}\n",
        "requirements.txt": "six\n-e .\n",
        "ignored.md": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = run(tmp_path)
    assert done.returncode == 1
    for part in (
        "    default: linux-64: 1 conda packages (1 by md5 only)",
        "    dev: linux-64: refused: ",
        "pixi.lock:12: mine stands in a local directory",
        "e/conda.lock: REFUSED: ",
        "    conda: zlib 1.*\n",
        "    pip: rich\n",
        "    variable: A=b\n",
        "`foo` has no meaning here",
        "linux-64: 1 conda packages (1 by md5 only)",
        "osx-64: 1 conda packages (1 by md5 only)",
        "osx-64: 1 conda packages (0 by md5 only)",
        "requirements.txt: REFUSED: ",
    ):
        assert part in done.stdout
    assert done.stderr == "6 files, 2 refused\n"
    quiet = run(tmp_path, "--quiet")
    assert quiet.stdout.count("\n") == 2
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "e/conda.lock").unlink()
    assert run(tmp_path).returncode == 0
