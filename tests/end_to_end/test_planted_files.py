"""What a member of the group planted in a cache, met by every command that looks at it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.helpers.projects import Project

# `cnd umount --all` unmounts what other tests of the same user have mounted.
pytestmark = pytest.mark.xdist_group("accounts")

HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x9b1m\r\u202e\nforged"
TWO = ("aa" + "0" * 30, "aa" + "0" * 29 + "1")


@pytest.fixture
def planted(project: Project) -> Project:
    """Return a project whose cache holds hostile entries, notes, leases, signatures and claims."""
    address = project.json("build")["address"]
    root = project.cache
    (good,) = root.glob("images/*/*")
    for name in TWO:
        entry = root / "images" / "aa" / name
        shutil.copytree(good, entry)
        manifest = json.loads((entry / "manifest.json").read_text())
        texts = ("name", "builder", "host", "created", "sha256", "compressor", "recipe_sha256")
        manifest.update(dict.fromkeys(texts, HOSTILE), address=name)
        manifest.update(tools={HOSTILE: HOSTILE}, built_from_source=[HOSTILE])
        manifest.update(prefix=f"/tmp/{HOSTILE}")
        (entry / "manifest.json").chmod(0o644)
        (entry / "manifest.json").write_text(json.dumps(manifest))
        lock = (entry / "explicit.lock").read_text()
        (entry / "explicit.lock").chmod(0o644)
        (entry / "explicit.lock").write_text(f"{lock}{HOSTILE}\n")
    host = HOSTILE.replace("/", "_")
    for name in (*TWO, address):
        (root / "leases" / f"{name}.{host}-12345678.1.abcd").touch()
        (root / "signatures").mkdir(exist_ok=True)
        (root / "signatures" / f"{name}.7.sig").write_text(HOSTILE)
        note = {"project": f"/tmp/{HOSTILE}", "address": name, "platform": "linux-64"}
        note |= {"host": HOSTILE, "inode": 1, "parent": 1}
        (root / "projects" / f"{name}.7").write_text(json.dumps(note))
    (root / "tmp" / f"{address}.{host}.1.abcd").mkdir()
    key = HOSTILE.encode("unicode_escape").decode()
    (root / "policy.yml").write_text(f'grace: 1d\n"{key}": 1\n')
    return project


CACHE = "the cache"
COMMANDS = (
    ("list",),
    ("status",),
    ("show", "aa00"),
    ("show", TWO[0]),
    ("show", "aaff"),
    ("show", "."),
    ("diff", *TWO),
    ("diff", "aa00", TWO[1]),
    ("verify", "--keep", TWO[0]),
    ("verify", "--keep", "aa00"),
    ("verify", "--keep", "--all"),
    ("verify", "--rebuild", TWO[0]),
    ("sign", "--key", "key", TWO[0]),
    ("export", TWO[0], "exported"),
    ("-y", "export", TWO[0], "exported"),
    ("gc", "--dry-run"),
    ("gc", "--dry-run", "--older-than", "1s", "--max-size", "0"),
    ("-y", "rm", *TWO),
    ("rm", *TWO),
    ("rm", "aa00"),
    ("-y", "share", CACHE),
    ("share", CACHE),
    *(("--set", f"address={TWO[0]}", *rest) for rest in (("build",), ("exec", "--", "true"))),
    *(("--set", f"address={TWO[0]}", *rest) for rest in (("mount",), ("-y", "mount"), ("cache",))),
    ("--set", f"address={TWO[0]}", "umount"),
    ("build",),
    ("prereq",),
    ("lock", "--check"),
    ("verify",),
    ("umount", "--all"),
)


@pytest.mark.parametrize("policy", [True, False])
def test_no_command_hands_escapes_to_the_terminal(planted: Project, policy: bool) -> None:
    if not policy:
        (planted.cache / "policy.yml").unlink()
    met = 0
    for command in COMMANDS:
        words = [str(planted.cache) if word == CACHE else word for word in command]
        done = planted.cnd(*words, status=None)
        said = done.stdout + done.stderr
        bad = {char for char in said if not (char.isprintable() or char in "\n\t")}
        assert not bad, f"{words}: {said!r}"
        assert not [line for line in said.splitlines() if line.startswith("forged")], said
        assert done.returncode != 70, said
        met += "PWNED" in said
    # They do show what was planted.
    assert met >= 8


def test_who_builds_is_told_without_escapes(planted: Project) -> None:
    from condainer.cache import publish

    (address,) = {path.name for path in planted.cache.glob("images/*/*")} - set(TWO)
    told = publish._other(planted.cache, address)
    assert "PWNED" in told
    assert told.isprintable()


@pytest.mark.parametrize("words", [["nosuch"], ["show"], ["verify"], ["export", "aa00"], ["-d"]])
def test_an_argument_of_a_command_line_is_harmless_as_well(
    project: Project, words: list[str]
) -> None:
    done = project.cnd(*words, "x\x1b[2J", status=None)
    assert done.returncode not in (0, 70)
    assert "\x1b" not in done.stdout + done.stderr
