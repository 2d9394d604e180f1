"""Projects that demand signatures, and images that are changed with their manifests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.helpers.keys import Key, allow
from tests.helpers.projects import Project


def configure(project: Project, **values: object) -> None:
    """Write the user's own configuration, which the tests keep in XDG_CONFIG_HOME."""
    path = Path(project.environment["XDG_CONFIG_HOME"], "condainer", "condainer.yml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))


def demand_signatures(project: Project, key: Key, **more: object) -> Path:
    """Let the user trust what a key has signed, and nothing else."""
    allowed = allow(project.path.parent / "allowed", f"alice {key.public}")
    configure(project, trust="signed", allowed_signers=allowed, **more)
    return allowed


def repack(image: Path, work: Path, change: Callable[[Path], None]) -> None:
    """Change what is in an image, and what its manifest says of its bytes."""
    tree = work / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tree, image], check=True)
    change(tree)
    owner = image.stat()
    image.unlink()
    subprocess.run(["mksquashfs", tree, image, "-quiet", "-no-progress"], check=True)
    manifest = image.with_name("manifest.json")
    papers = json.loads(manifest.read_text())
    papers["size"] = image.stat().st_size
    for name, tool in (("sha256", "sha256sum"), ("xxh3", None)):
        papers[name] = digest_of(image, tool)
    manifest.unlink()
    manifest.write_text(json.dumps(papers))
    for path in (image, manifest):
        path.chmod(0o444)
        os.chown(path, owner.st_uid, owner.st_gid)


def digest_of(path: Path, tool: str | None) -> str:
    if tool is None:
        import xxhash

        return xxhash.xxh3_128_hexdigest(path.read_bytes())
    done = subprocess.run([tool, path], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]
