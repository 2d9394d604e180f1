"""Lay the executable out by hand: `python -m tests.conda_executable DIRECTORY`."""

import sys
from pathlib import Path

from tests.conda_executable import conda_missing, lay_out, write_installer

if problem := conda_missing():
    sys.exit(f"missing: {problem}")
place = Path(sys.argv[1]).absolute()
if place.suffix == ".sh":
    print(write_installer(place))
else:
    print(lay_out(place))
