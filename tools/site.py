"""What the site has of the repository's other documents; mkdocs runs these hooks.

Some documents stand at the top of the repository, where people look for them. The site has them
among its pages, and links between both are bent accordingly.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Where in the site a document of the repository is.
PLACES = {
    "cache_layout.md": "reference/cache-layout.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents that are not below docs/."""
    top = Path(config.config_file_path).parent
    for name in ("cache_layout.md", "CHANGELOG.md"):
        content = (top / name).read_text(encoding="utf-8")
        files.append(File.generated(config, PLACES[name], content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Bend links that lead out of docs/, or come from outside of it."""
    path = page.file.src_uri
    outside = {place: name for name, place in PLACES.items() if name != "README.md"}
    # Where the document is in the repository.
    home = os.path.dirname(outside.get(path, f"docs/{path}"))

    def bent(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(home, match[1]))
        place = PLACES.get(target) or target.removeprefix("docs/")
        if place == target:
            # Only the repository has it.
            return match[0] if path not in outside else f"]({target})"
        return f"]({os.path.relpath(place, os.path.dirname(path) or '.')}{match[2] or ''})"

    return LINK.sub(bent, markdown)
