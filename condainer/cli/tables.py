"""What `cnd list`, `show`, `diff`, `share` and `gc` print for people, as lines of text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from condainer.lock.locks import escape
from condainer.system.files import user_name
from condainer.system.text import human_size, printable

if TYPE_CHECKING:
    # A list of ten thousand images should not wait for what reads lockfiles.
    from condainer.cache.names import Name
    from condainer.images.inventory import Item
    from condainer.images.show import Subject
    from condainer.lock.contents import Difference, Package
    from condainer.materials.audit import Finding
    from condainer.packages.installed import Licensed
    from condainer.upkeep.choice import Image
    from condainer.upkeep.collection import Collected
    from condainer.upkeep.share import Shared

# Digits of an address that are enough for people, and for commands unless two images share them.
SHORT = 12
UNITS = ((365 * 86400, "y"), (86400, "d"), (3600, "h"), (60, "min"))
# The least width of a column that is cut.
LEAST = 8
NAME = 1
# What is said of an image that is not whole.
BROKEN = "(broken)"


def aligned(rows: Sequence[Sequence[str]], width: int = 0, elastic: int = 0) -> Iterator[str]:
    """Yield the rows with their columns aligned.

    Parameters: `width` is what they have to fit into, 0 for any; the column `elastic` is cut to.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    if width and over > 0 and widths:
        widths[elastic] = max(min(LEAST, widths[elastic]), widths[elastic] - over)
    for row in rows:
        cells = (_fit(cell, size) for cell, size in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _fit(cell: str, size: int) -> str:
    return f"{cell:{size}}" if len(cell) <= size else f"{cell[: size - 1]}…"


def ago(seconds: float, now: float) -> str:
    """Return how long ago something was, for people: `3 d`."""
    if seconds <= 0:
        return "-"
    for unit, name in UNITS:
        if now - seconds >= unit:
            return f"{int((now - seconds) // unit)} {name}"
    return "now"


def images(items: Sequence[Item], width: int) -> Iterator[str]:
    """Yield a line for each image, below a line of titles."""
    several = len({item.root for item in items}) > 1
    named = any(item.names for item in items)
    now = time.time()
    titles = ["ADDRESS", "NAME", "SIZE", "BUILDER", "AGE", "USED", "MOUNTED", "PINNED"]
    rows = [titles + ["TAGS"] * named + ["CACHE"] * several]
    for item in items:
        tags = [" ".join(item.names) or "-"] * named
        rows.append(_image(item, now) + tags + [printable(str(item.root))] * several)
    return aligned(rows, width, NAME)


def names(given: Sequence[Name]) -> Iterator[str]:
    """Yield a line for each name, below a line of titles."""
    rows = [["TAG", "ADDRESS", "OWNER", "SINCE", "BEFORE"]]
    for name in given:
        before = " ".join(past.address[:SHORT] for past in name.before)
        owner = printable(user_name(name.user))
        rows.append([name.name, name.address[:SHORT], owner, printable(name.since), before or "-"])
    return aligned(rows)


def _image(item: Item, now: float) -> list[str]:
    used = ago(item.last_used, now)
    if item.entry is None:
        return [item.address[:SHORT], BROKEN, "-", "-", "-", used, "-", "-"]
    manifest = item.entry.manifest
    return [
        item.address[:SHORT],
        printable(manifest.name) or "-",
        human_size(manifest.size),
        printable(manifest.builder),
        ago(item.created, now),
        used,
        _mounted(item),
        str(len(item.pinned_by) or "-"),
    ]


def _mounted(item: Item) -> str:
    if item.mounted:
        return "staged" if item.staged else "yes"
    return "elsewhere" if item.leases else "-"


def subject(shown: Subject) -> Iterator[str]:
    """Yield the lines of `cnd show`: the manifest, the packages, the variables."""
    contents = shown.contents
    counts = f"{contents.count('conda')} conda, {contents.count('pip')} pip"
    rows = [("address", shown.address), (shown.kind, str(shown.source))]
    rows += [("prefix", str(shown.prefix)), *_manifest(shown.item)]
    rows += [("platform", contents.platform), ("packages", counts)]
    if contents.post_link_scripts:
        rows.append(("scripts", "post-link scripts of packages have run"))
    yield from aligned([(title, printable(value)) for title, value in rows])
    if contents.packages:
        yield ""
        yield from aligned([_package(package) for package in contents.packages])
    if contents.variables:
        yield ""
    for name, value in contents.variables:
        yield printable(f"{name}={escape(value)}")


def _manifest(item: Item | None) -> list[tuple[str, str]]:
    if item is None or item.entry is None:
        return []
    manifest = item.entry.manifest
    level = f" {manifest.compression_level}" if manifest.compression_level else ""
    sources = ", ".join(str(name) for name in manifest.built_from_source)
    return [
        ("name", manifest.name),
        ("size", f"{human_size(manifest.size)} ({manifest.compressor}{level})"),
        ("sha256", manifest.sha256),
        ("built", f"{manifest.created} by {manifest.builder} on {manifest.host}"),
        ("with", ", ".join(f"{name} {value}" for name, value in manifest.tools.items())),
        *([("source", f"built from source: {sources}")] if sources else []),
        ("used", f"{ago(item.last_used, time.time())} ago".replace("now ago", "now")),
        ("mounted", "yes" if item.mounted else "no"),
        *([("staged", str(item.staged))] if item.staged else []),
        *(("leased", f"by {lease}") for lease in item.leases),
        *(("pinned", f"by {project}") for project in item.pinned_by),
        *(("tag", name) for name in item.names),
    ]


def _package(package: Package) -> list[str]:
    return [package.kind, package.name, package.version, package.build]


def licenses(packages: Sequence[Licensed]) -> Iterator[str]:
    """Yield a line for each package by its license, unknown ones last, below a line of titles."""
    from condainer.packages.installed import UNKNOWN

    def place(item: Licensed) -> tuple[bool, str, str, str]:
        return item.license == UNKNOWN, item.license.lower(), item.name.lower(), item.kind

    rows = [["LICENSE", "KIND", "NAME", "VERSION"]]
    for item in sorted(packages, key=place):
        rows.append([printable(t) for t in (item.license, item.kind, item.name, item.version)])
    return aligned(rows)


def vulnerabilities(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each vulnerability, below a line of titles."""
    rows = [["ID", "KIND", "PACKAGE", "VERSION", "FIXED", "SEVERITY", "MATCH", "SUMMARY"]]
    for item in findings:
        texts = (item.id, item.kind, item.package, item.version, item.fixed, item.severity)
        rows.append([printable(text) or "-" for text in (*texts, item.match, item.summary)])
    return aligned(rows)


def changes(difference: Difference) -> Iterator[str]:
    """Yield the lines of `cnd diff`: `-` what goes, `+` what comes, `~` what changes."""
    rows = [["-", *_package(package)] for package in difference.removed]
    rows += [["+", *_package(package)] for package in difference.added]
    for old, new in difference.changed:
        before, after = f"{old.version} {old.build}".strip(), f"{new.version} {new.build}".strip()
        if before == after:
            before, after = f"{before} {old.sha256[:SHORT]}", f"{after} {new.sha256[:SHORT]}"
        rows.append(["~", new.kind, new.name, f"{before} -> {after}", ""])
    for kind, changed in (("variable", difference.variables), ("setting", difference.settings)):
        for change in changed:
            sign = "+" if change.old is None else "-" if change.new is None else "~"
            values = [escape(value) for value in (change.old, change.new) if value is not None]
            rows.append([sign, kind, change.name, printable(" -> ".join(values)), ""])
    if rows:
        yield from aligned(rows)


# How many images that cannot go are named, and places that are changed in one way.
LARGEST = 20
# Why an image stays, for people.
STAYS = {
    "project": "named by a project",
    "name": "with a name",
    "lease": "mounted on some node",
    "mounted": "mounted here",
    "building": "being built",
    "recent": "used or made just now",
    "owner": "of another owner",
    "limits": "within the limits",
    "order": "before one that stays",
    "unknown": "not understood",
    "refused": "that cannot be moved",
}
GOES = {"unused": "not used for long", "space": "least recently used", "broken": "not whole"}


def collection(done: Collected) -> Iterator[str]:
    """Yield what `cnd gc` says: what it takes, what that frees, and what keeps the rest."""
    move, delete, free = ("Moved", "Deleted", "Freed")
    if done.dry:
        move, delete, free = ("Would move", "Would delete", "Would free")
    if done.policy.ignored:
        yield f"Warning: {printable(done.policy.ignored)}"
    now = time.time()
    for image in done.moved:
        used = f"used {ago(image.used, now)} ago".replace("now ago", "now")
        what = f"{printable(image.item.name) or '-'}, {human_size(image.size)}, {used}"
        yield f"{move} {image.item.address} to the trash: {GOES[image.why]} ({what})"
    for image in done.back:
        yield f"Put back {_kept(image)}"
    for left in (*done.deleted, *(left for left in done.cleared if left.size)):
        yield f"{delete} {printable(str(left.path))}: {left.what} ({human_size(left.size)})"
    later = f"{human_size(done.later)} more after the grace period"
    yield f"{free} {human_size(done.freed)}; {later}"
    yield from _rest(done)


def _rest(done: Collected) -> Iterator[str]:
    """Yield how much is kept and why, and the largest images if that is more than is allowed."""
    sizes: dict[str, list[int]] = {}
    for image in done.kept:
        sizes.setdefault(image.why, []).append(image.size)
    parts = [
        f"{len(kept)} {STAYS[why]} ({human_size(sum(kept))})" for why, kept in sorted(sizes.items())
    ]
    if parts:
        yield f"Kept {', '.join(parts)}"
    if done.too_large and done.policy.max_size is not None:
        wanted = human_size(done.policy.max_size)
        yield f"Warning: {human_size(done.after)} cannot be removed; the limit is {wanted}:"
        stay = sorted((i for i in done.kept if i.why != "limits"), key=lambda i: -i.size)
        yield from (f"  {_kept(image)} ({human_size(image.size)})" for image in stay[:LARGEST])
        if len(stay) > LARGEST:
            yield f"  and {len(stay) - LARGEST} smaller ones (`--json` names all)"


def _kept(image: Image) -> str:
    detail = f": {printable(image.detail)}" if image.detail else ""
    return f"{image.item.address[:SHORT]}, {STAYS[image.why]}{detail}"


def sharing(done: Shared) -> Iterator[str]:
    """Yield what `cnd share` says of its work."""
    yield from (f"Repaired {line}" for line in _changed(done))
    for note in done.refused:
        yield f"Warning: {printable(str(note.path))}: {note.what}"
    for path in done.closed:
        yield f"Warning: members may not pass through {path}, which is above the cache"
    yield f"{done.root} is a cache of the group {done.group} (mode {done.mode:04o})"


def sharing_plan(done: Shared) -> list[str]:
    """Return what `cnd share --dryrun` would do."""
    return [f"set right {line}" for line in _changed(done)]


def _changed(done: Shared) -> Iterator[str]:
    """Yield each place that is changed; of many that are changed in one way, how many there are."""
    places: dict[str, list[str]] = {}
    for note in done.repaired:
        places.setdefault(note.what, []).append(printable(str(note.path)))
    for what, paths in places.items():
        if len(paths) > LARGEST:
            paths = [f"{paths[0]} and {len(paths) - 1} other places in {done.root}"]
        yield from (f"{path}: {what}" for path in paths)
