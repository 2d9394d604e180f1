"""Small packages, each of which shows one thing an installer or a solver has to get right."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from tests.channel.debian import Unavailable
from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file, write_tar_bz2

PREFIX_PROGRAM = """\
#include <stdio.h>
/* volatile: the compiler must not bake in the length of a text that is patched later */
static volatile char prefix[] = PLACEHOLDER;
static volatile char data[] = PLACEHOLDER "/share/probe";
int main(int argc, char **argv) {
    puts((const char *)(argc > 1 ? data : prefix));
    return 0;
}
"""

ACTIVATE = {
    "activate.d/probe.sh": 'export PROBE_ACTIVE="$CONDA_PREFIX"\n',
    "activate.d/probe.fish": 'set -gx PROBE_ACTIVE "$CONDA_PREFIX"\n',
    "activate.d/probe.csh": 'setenv PROBE_ACTIVE "$CONDA_PREFIX"\n',
    "deactivate.d/probe.sh": "unset PROBE_ACTIVE\n",
    "deactivate.d/probe.fish": "set -e PROBE_ACTIVE\n",
    "deactivate.d/probe.csh": "unsetenv PROBE_ACTIVE\n",
}

POST_LINK = """\
#!/bin/sh
mkdir -p "$PREFIX/share/probe-postlink/empty directory"
printf '%s\\n' "$PREFIX" > "$PREFIX/share/probe-postlink/created"
"""

BROKEN = Recipe("probe-broken", "1.0")


def write_probes(work: Path, channel: Path) -> None:
    """Write all probe packages that need no compiler.

    Args:
        work: an empty directory to stage the files in.
        channel: the channel's directory.
    """
    activate, postlink, files, old = (_tree(work, n) for n in ("activate", "link", "files", "old"))
    for name, text in ACTIVATE.items():
        write_file(activate / "etc/conda" / name, text)
    write_file(postlink / "bin/.probe-postlink-post-link.sh", POST_LINK, 0o755)
    _write_files(files)
    write_file(old / "share/probe-old/format.txt", "tar.bz2\n")
    write_file(old / "share/probe-old/prefix.txt", f"{PLACEHOLDER}\n")
    write_conda(activate, Recipe("probe-activate", "1.0"), channel)
    write_conda(postlink, Recipe("probe-postlink", "1.0"), channel)
    write_conda(files, Recipe("probe-files", "1.0"), channel)
    write_tar_bz2(old, Recipe("probe-old", "1.0"), channel)
    empty = _tree(work, "empty")
    write_conda(empty, Recipe("probe-conflict-a", "1.0", depends=("numpy >=2",)), channel)
    write_conda(empty, Recipe("probe-conflict-b", "1.0", depends=("numpy <2",)), channel)
    # What every compiled package of conda-forge needs of its host.
    write_conda(empty, Recipe("probe-virtual", "1.0", depends=("__glibc >=2.17",)), channel)
    write_broken(work, channel, "as it was indexed")


def write_broken(work: Path, channel: Path, text: str) -> None:
    """Write the package that is replaced after indexing, so that its sha256 is wrong.

    It stays a sound archive: nothing but the comparison of hashes can find it out.

    Args:
        work: a directory to stage the files in.
        channel: the channel's directory.
        text: the content that makes the difference.
    """
    tree = _tree(work, "broken")
    write_file(tree / "share/probe-broken/content.txt", f"{text}\n")
    write_conda(tree, BROKEN, channel)


def write_prefix_probe(work: Path, channel: Path) -> None:
    """Write the package with its prefix in a compiled program, a text and a script.

    Args:
        work: an empty directory to stage the files in.
        channel: the channel's directory.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise Unavailable("probe-prefix: no C compiler on this machine")
    tree = _tree(work, "prefix")
    write_file(tree / "share/probe/prefix.txt", f"prefix={PLACEHOLDER}\n")
    shell = f'#!{PLACEHOLDER}/bin/probe-shell\necho "{PLACEHOLDER}"\n'
    write_file(tree / "bin/probe-script", shell, 0o755)
    (tree / "bin/probe-shell").symlink_to("/bin/sh")
    source = work / "probe-prefix.c"
    write_file(source, PREFIX_PROGRAM)
    define = f'-DPLACEHOLDER="{PLACEHOLDER}"'
    options = ["-O1", "-s", "-Wl,--build-id=none", define, "-o", "prefix/bin/probe-prefix"]
    subprocess.run([compiler, *options, source.name], check=True, cwd=work)
    (tree / "bin/probe-prefix").chmod(0o755)
    recipe = replace(Recipe("probe-prefix", "1.0"), subdir="linux-64", noarch=None)
    write_conda(tree, recipe, channel)


def _write_files(tree: Path) -> None:
    share = tree / "share/probe files"
    write_file(share / "größe – データ.txt", "größe\n")
    write_file(share / "empty.txt", "")
    write_file(share / "directory/inside.txt", "inside\n")
    write_file(share / "private.txt", "for its owner only\n", 0o600)
    write_file(tree / "bin/probe-files", "#!/bin/sh\necho probe-files\n", 0o755)
    (share / "empty directory").mkdir()
    (share / "link to file").symlink_to("größe – データ.txt")
    (share / "link to directory").symlink_to("../probe files/directory")
    (tree / "bin/probe-files-link").symlink_to("probe-files")


def _tree(work: Path, name: str) -> Path:
    (work / name).mkdir(exist_ok=True)
    return work / name
