"""Tell package managers, in the places where they look, that an image cannot be changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from condainer.build import normalise

# One line: pip and uv print it as the reason, conda as the message.
REASON = (
    "It is a read-only Condainer image: add the package to environment.yml or requirements.txt "
    "and run `cnd build`, or install into a virtual environment on top of it (`python -m venv "
    "--system-site-packages DIR`) or with `--target DIR`."
)
# PEP 668; a virtual environment made from the interpreter is not concerned.
PIP_MARKER = "EXTERNALLY-MANAGED"
# CEP 22.
CONDA_MARKER = "frozen"


def unchangeable(directory: Path, libraries: Sequence[Path]) -> None:
    """Write the markers into a finished prefix; installing something after that is refused.

    Parameters: `directory` is where the prefix is staged, `libraries` its directories of Python
    modules. The same for all images, so that bytes depend on the recipe's number alone.
    """
    for library in libraries:
        normalise.replace(library / PIP_MARKER, f"[externally-managed]\nError={REASON}\n")
    text = json.dumps({"message": REASON}) + "\n"
    normalise.replace(directory / "conda-meta" / CONDA_MARKER, text)
