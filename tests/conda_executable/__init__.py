"""A real conda executable, and a real installer of it in the manner of Miniforge's.

The wheel of conda-lock carries the whole of conda 24.7.1 under another name. Here it gets its own
name back, and with its solver, pycosat, and what else conda needs from the test extra it is the
conda that `conda create`, `install`, `info` and the rest are: it solves, downloads and links by
itself, and nothing of it is replaced. Not here: its libmamba solver (the classic one is configured
in its .condarc, as a site can), and mamba and micromamba, which no registry at hand has.
"""

from tests.conda_executable.installer import write_installer
from tests.conda_executable.layout import MISSING, conda_missing, lay_out

__all__ = ["MISSING", "conda_missing", "lay_out", "write_installer"]
