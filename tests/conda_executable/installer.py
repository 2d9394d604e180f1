"""Write a shell installer that takes the options of Miniforge's and behaves as that does."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from tests.conda_executable.layout import lay_out

PLACEHOLDER = "/placeholder-of-the-prefix"
HEADER = r"""#!/bin/bash
# Installs a conda. Like those that constructor makes, it is a script with an archive behind
# it, writes its prefix into its files, and refuses a directory that exists unless it is forced.
set -eu
BATCH=0
FORCE=0
PREFIX=$HOME/miniforge3
while getopts "bfhp:su" option; do
    case $option in
        b) BATCH=1 ;;
        f) FORCE=1 ;;
        p) PREFIX=$OPTARG ;;
        s | u) ;;
        *) echo "usage: $0 [-b] [-f] [-p PREFIX]" >&2; exit 2 ;;
    esac
done
if [ "$BATCH" = 0 ]; then
    echo "In order to continue the installation process, please review the license agreement." >&2
    exit 1
fi
case $PREFIX in
    *\ *) echo "ERROR: Cannot install into directories with spaces" >&2; exit 1 ;;
esac
if [ "$FORCE" = 0 ] && [ -e "$PREFIX" ]; then
    echo "ERROR: File or directory already exists: '$PREFIX'" >&2
    echo "If you want to update an existing installation, use the -u option." >&2
    exit 1
fi
mkdir -p "$PREFIX"
PREFIX=$(cd "$PREFIX" && pwd)
echo "PREFIX=$PREFIX"
tail -n +@LINES@ "$0" | tar -xzf - -C "$PREFIX"
sed -i "s|@PLACEHOLDER@|$PREFIX|" "$PREFIX/bin/conda"
"$PREFIX/bin/conda" --version
echo "installation finished."
exit 0
"""


def write_installer(path: Path) -> Path:
    """Write the installer and return its path."""
    header = HEADER.replace("@PLACEHOLDER@", PLACEHOLDER)
    header = header.replace("@LINES@", str(header.count("\n") + 1))
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as place:
        lay_out(Path(place, "base"), Path(PLACEHOLDER))
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
            tar.add(Path(place, "base"), ".")
    path.write_bytes(header.encode() + archive.getvalue())
    return path
