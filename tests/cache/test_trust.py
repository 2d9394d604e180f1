"""Whose caches and images are run, by real owners, modes and signatures."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from condainer.cache import entries, publish, signing, trust
from condainer.cache.entries import Entry, Manifest
from condainer.settings.config import POLICIES, Settings
from condainer.settings.load import load_settings
from condainer.system import namespace, ownership, process
from condainer.system.errors import CondainerError, ConfigError, TrustError
from tests.helpers.keys import Key, allow, make_key
from tests.helpers.needed import needs_root

# Numbers that belong to nobody: an owner needs no account.
US, OTHER = 61234, 61235
TEAM, OTHER_TEAM = 62234, 62235
ADDRESS = "0123456789abcdef0123456789abcdef"
LIBC = ctypes.CDLL(None)
PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class Owned:
    """The owner, group and mode of a directory."""

    user: int = US
    group: int = US
    mode: int = 0o755

    def give(self, path: Path) -> None:
        os.chown(path, self.user, self.group)
        path.chmod(self.mode)


OWN = Owned()
ROOTS = Owned(0, 0)
TEAMS = Owned(OTHER, TEAM, 0o3775)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach."""
    needs_root("to make directories of others")
    path = Path(tempfile.mkdtemp(prefix="condainer-trust-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    """The keys of two people."""
    directory = tmp_path_factory.mktemp("keys")
    return make_key(directory / "alice"), make_key(directory / "bob")


def make_cache(root: Path, owned: Owned = OWN, user: int = US) -> Entry:
    """Make a cache of an owner with one entry of a user."""
    entry = make_entry(root)
    for path in (root / "images" / "01", root / "images", root):
        owned.give(path)
    for path in (entry.directory, *entry.directory.iterdir()):
        os.chown(path, user, -1)
    return entry


def make_entry(root: Path, content: bytes = b"an image") -> Entry:
    """Make an entry; nothing of what is tested here looks into the image."""
    directory = root / "images" / ADDRESS[:2] / ADDRESS
    directory.mkdir(parents=True)
    manifest = Manifest(
        address=ADDRESS,
        recipe_sha256="1" * 64,
        prefix=f"/tmp/condainer-{ADDRESS}",
        name="test",
        size=len(content),
        sha256="2" * 64,
        xxh3="3" * 32,
        tree_sha256="4" * 64,
        compressor="zstd",
        compression_level=9,
        builder="somebody",
        host="somewhere",
        created="2026-01-01T00:00:00Z",
        tools={},
    )
    (directory / entries.MANIFEST).write_text(json.dumps(asdict(manifest)))
    (directory / entries.IMAGE).write_bytes(content)
    (directory / entries.LOCK).write_text("@EXPLICIT\n")
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o755)
    entry = entries.read_entry(directory)
    assert entry is not None
    return entry


def settings_with(project: Path, policy: str, *named: Path) -> Settings:
    return replace(load_settings(project), trust=policy, named_caches=named)


def as_us(function: Callable[[], object], groups: tuple[int, ...] = (TEAM,)) -> str:
    """Call a function as an ordinary user; return what it raised, or what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(list(groups))
            os.setresgid(US, US, US)
            os.setresuid(US, US, US)
            # Who changed its user may not enter namespaces otherwise.
            LIBC.prctl(PR_SET_DUMPABLE, 1)
            said = str(function())
        except BaseException as error:
            said = f"{type(error).__name__}: {getattr(error, 'message', error)}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


# Caches

CACHES = {
    "own": (OWN, US, ""),
    "own, closed": (Owned(mode=0o700), US, ""),
    "own, for a group": (Owned(US, TEAM, 0o2775), US, ""),
    "root's": (ROOTS, 0, ""),
    "our group's": (TEAMS, OTHER, ""),
    "our group's, closed": (Owned(OTHER, TEAM, 0o3770), OTHER, ""),
    "our group's, of root": (Owned(0, TEAM, 0o3775), OTHER, ""),
    "another's": (Owned(OTHER, OTHER), OTHER, "belongs to user 61235"),
    "another group's": (Owned(OTHER, OTHER_TEAM, 0o3775), OTHER, "belongs to user 61235"),
    "another group's, of root": (Owned(0, OTHER_TEAM, 0o3775), OTHER, "group that you are not in"),
    "our group's, not sticky": (Owned(OTHER, TEAM, 0o2775), OTHER, "belongs to user 61235"),
    "world-writable": (Owned(mode=0o777), US, "everybody can write"),
    "world-writable, sticky": (Owned(0, 0, 0o1777), US, "everybody can write"),
    "our group's, world-writable": (Owned(OTHER, TEAM, 0o3777), OTHER, "everybody can write"),
}


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("policy", POLICIES)
def test_whose_caches_are_used(place: Path, project: Path, kind: str, policy: str) -> None:
    owned, builder, problem = CACHES[kind]
    entry = make_cache(place / "cache", owned, builder)
    settings = settings_with(project, policy)
    said = as_us(lambda: trust.demand(entry, settings))
    if policy == "anyone":
        assert said == "None"
    elif problem:
        assert said.startswith(f"TrustError: The cache {place}/cache is not used: ")
        assert problem in said
    else:
        # Under `signed` it goes on from there, and nobody who may sign is named.
        assert said == "None" or said.startswith("ConfigError: `trust: signed` needs")
    # The user's own configuration can name any.
    named = settings_with(project, "group", place / "cache")
    assert as_us(lambda: trust.demand(entry, named)) == "None"


@pytest.mark.parametrize(
    ("parent", "problem"),
    [
        (Owned(mode=0o700), ""),
        (ROOTS, ""),
        (Owned(0, 0, 0o1777), ""),
        (Owned(0, 0, 0o777), "others can replace"),
        (Owned(0, TEAM, 0o2775), ""),
        (Owned(0, OTHER_TEAM, 0o2775), "others can replace"),
        (Owned(0, TEAM, 0o2777), "others can replace"),
        (Owned(OTHER, OTHER), "belongs to user 61235"),
    ],
)
def test_directories_in_which_others_could_swap_a_cache(
    place: Path, project: Path, parent: Owned, problem: str
) -> None:
    (place / "parent").mkdir()
    entry = make_cache(place / "parent" / "cache")
    parent.give(place / "parent")
    settings = settings_with(project, "group")
    said = as_us(lambda: trust.demand(entry, settings))
    assert (said == "None") is not bool(problem)
    assert problem in said
    # What is not there yet is not made in such a place either.
    missing = place / "parent" / "new" / "cache"
    said = as_us(lambda: trust.check_cache(missing, settings))
    assert (said == "None") is not bool(problem)


def test_a_group_may_own_what_is_above_its_cache(place: Path, project: Path) -> None:
    (place / "parent").mkdir()
    entry = make_cache(place / "parent" / "cache", TEAMS, OTHER)
    Owned(OTHER, TEAM, 0o2770).give(place / "parent")
    settings = settings_with(project, "group")
    assert as_us(lambda: trust.demand(entry, settings)) == "None"
    (place / "parent").chmod(0o2775)
    assert "belongs to user 61235" in as_us(lambda: trust.demand(entry, settings), groups=())
    (place / "parent").chmod(0o2770)
    assert "Permission denied" in as_us(lambda: trust.demand(entry, settings), groups=())


def test_a_member_of_a_group_of_ours_may_own_what_is_above(place: Path, project: Path) -> None:
    (place / "parent").mkdir()
    entry = make_cache(place / "parent" / "cache")
    member = pwd.getpwnam("daemon")
    Owned(member.pw_uid, member.pw_gid).give(place / "parent")
    settings = settings_with(project, "group")
    assert as_us(lambda: trust.demand(entry, settings), groups=(member.pw_gid,)) == "None"
    assert "which leads there, belongs to daemon" in as_us(lambda: trust.demand(entry, settings))


def test_a_link_is_as_good_as_who_made_it(place: Path, project: Path) -> None:
    make_cache(place / "cache")
    (place / "link").symlink_to("cache")
    (place / "through").symlink_to("../" + place.name + "/link")
    settings = settings_with(project, "group")

    def demanded(name: str) -> str:
        entry = entries.read_entry(place / name / "images" / ADDRESS[:2] / ADDRESS)
        assert entry is not None
        return as_us(lambda: trust.demand(entry, settings))

    assert (demanded("link"), demanded("through")) == ("None", "None")
    os.chown(place / "link", OTHER, OTHER, follow_symlinks=False)
    for name in ("link", "through"):
        assert f"{place}/link, which leads there, belongs to" in demanded(name)
    (place / "link").unlink()
    (place / "link").symlink_to("link")
    assert "Cannot use the cache" in trust.refused(place / "link", settings)


def test_a_named_cache_can_be_named_by_its_link(place: Path, project: Path) -> None:
    make_cache(place / "cache", Owned(mode=0o777))
    (place / "link").symlink_to("cache")
    settings = settings_with(project, "group", place / "link")
    assert not trust.refused(place / "link", settings)
    assert not trust.refused(place / "cache", settings)
    assert trust.refused(place / "link", settings_with(project, "group", place / "other"))


@pytest.mark.parametrize(
    ("kind", "refused"), [("own", False), ("root's", True), ("our group's", True)]
)
def test_where_owners_cannot_be_told_apart(
    place: Path, project: Path, kind: str, refused: bool
) -> None:
    owned, builder, _ = CACHES[kind]
    entry = make_cache(place / "cache", owned, builder)

    def ask(settings: Settings) -> object:
        # As in a private `cnd shell`: all users but us look alike.
        namespace.enter()
        return trust.demand(entry, settings)

    settings = settings_with(project, "group")
    said = as_us(lambda: ask(settings))
    assert said.startswith("TrustError") if refused else said == "None"
    named = settings_with(project, "group", place / "cache")
    assert as_us(lambda: ask(named)) == "None"


# Entries


def drifted(entry: Entry) -> None:
    entry.directory.chmod(0o775)


def writable(entry: Entry) -> None:
    entry.image.chmod(0o666)


def anothers(entry: Entry) -> None:
    os.chown(entry.image, OTHER, OTHER)


def given_away(entry: Entry) -> None:
    for path in (entry.directory, *entry.directory.iterdir()):
        os.chown(path, OTHER, OTHER)


def open_level(entry: Entry) -> None:
    entry.directory.parent.chmod(0o777)


def linked_level(entry: Entry) -> None:
    level = entry.directory.parent
    level.rename(level.with_name("away"))
    level.symlink_to("away")
    os.chown(level, OTHER, OTHER, follow_symlinks=False)


def linked(name: str) -> Callable[[Entry], None]:
    def link(entry: Entry) -> None:
        path = entry.directory / name
        path.rename(entry.root / "moved")
        path.symlink_to(entry.root / "moved")

    return link


def fifo(name: str) -> Callable[[Entry], None]:
    def replace_it(entry: Entry) -> None:
        (entry.directory / name).unlink()
        os.mkfifo(entry.directory / name)

    return replace_it


def directory(name: str) -> Callable[[Entry], None]:
    def replace_it(entry: Entry) -> None:
        (entry.directory / name).unlink()
        (entry.directory / name).mkdir()

    return replace_it


DAMAGES = [drifted, writable, anothers, given_away, open_level, linked_level]
REPLACED = [
    kind(name)
    for name in (entries.IMAGE, entries.MANIFEST, entries.LOCK)
    for kind in (linked, fifo, directory)
]


@pytest.mark.parametrize("damage", [*DAMAGES, *REPLACED])
def test_entries_that_others_could_change(
    place: Path, project: Path, damage: Callable[[Entry], None]
) -> None:
    entry = make_cache(place / "cache")
    settings = settings_with(project, "group")
    assert as_us(lambda: trust.demand(entry, settings)) == "None"
    damage(entry)
    assert as_us(lambda: trust.demand(entry, settings)).startswith(f"TrustError: {place}/cache/")
    assert as_us(lambda: trust.demand(entry, replace(settings, trust="anyone"))) == "None"


@pytest.mark.parametrize("damage", REPLACED)
def test_what_stands_in_the_place_of_a_file_is_not_opened(
    tmp_path: Path, damage: Callable[[Entry], None]
) -> None:
    entry = make_entry(tmp_path)
    damage(entry)
    assert entries.read_entry(entry.directory) is None


def test_an_entry_that_is_a_link_is_none(tmp_path: Path) -> None:
    entry = make_entry(tmp_path)
    entry.directory.rename(tmp_path / "moved")
    entry.directory.symlink_to(tmp_path / "moved")
    assert entries.read_entry(entry.directory) is None


def test_an_entry_that_goes_while_it_is_looked_at(tmp_path: Path, project: Path) -> None:
    entry = make_entry(tmp_path)
    shutil.rmtree(entry.directory)
    with pytest.raises(CondainerError, match="Cannot look at"):
        trust.demand(entry, settings_with(project, "group"))


def test_users_whom_a_policy_trusts(place: Path, project: Path) -> None:
    entry = make_cache(place / "cache", Owned(0, TEAM, 0o3775), OTHER)
    for policy, trusted in (("anyone", True), ("group", True), ("signed", False)):
        settings = settings_with(project, policy)

        def ask(uid: int, settings: Settings = settings) -> str:
            return as_us(lambda: trust.trusts_user(uid, entry, settings))

        assert (ask(0), ask(US), ask(OTHER), ask(63999)) == ("True", "True", str(trusted), "False")


def test_members_of_groups_and_private_groups() -> None:
    assert ownership.is_member(0, (OTHER_TEAM, 0))
    assert not ownership.is_member(0, (OTHER_TEAM,))
    assert not ownership.is_member(OTHER, (TEAM, 0))
    assert as_us(lambda: ownership.is_private(US)) == "False"
    assert ownership.is_private(0)


# Signatures


@pytest.fixture
def signed(tmp_path: Path, project: Path, keys: tuple[Key, Key]) -> tuple[Entry, Settings]:
    """An entry, not signed yet, and settings that demand a signature of Alice."""
    allowed = allow(tmp_path / "allowed", f"alice {keys[0].public}")
    settings = replace(settings_with(project, "signed"), allowed_signers=allowed)
    return make_entry(tmp_path / "cache"), settings


def put(entry: Entry, key: Key, user: int = 1, text: bytes | None = None) -> Path:
    """Put the signature of a user into the cache."""
    if text is None:
        text = (entry.directory / entries.MANIFEST).read_bytes()
    path = entry.root / publish.SIGNATURES / f"{entry.address}.{user}.sig"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(signing.sign(text, key.path))
    return path


def test_only_signed_images_are_run(signed: tuple[Entry, Settings], keys: tuple[Key, Key]) -> None:
    entry, settings = signed
    with pytest.raises(TrustError, match="not signed by anybody"):
        trust.demand(entry, settings)
    put(entry, keys[1], 1)
    with pytest.raises(TrustError, match=f"{entry.address}.1.sig: not of this manifest by a key"):
        trust.demand(entry, settings)
    put(entry, keys[0], 2)
    assert trust.demand(entry, settings) == entry.manifest.sha256


def test_without_a_list_of_signers_nothing_is_signed(signed: tuple[Entry, Settings]) -> None:
    entry, settings = signed
    with pytest.raises(ConfigError, match="needs `allowed_signers:`"):
        trust.demand(entry, replace(settings, allowed_signers=None))
    with pytest.raises(ConfigError, match="cannot be read"):
        trust.demand(entry, replace(settings, allowed_signers=entry.root / "nothing"))


def test_a_list_of_signers_that_others_can_write(signed: tuple[Entry, Settings]) -> None:
    entry, settings = signed
    assert settings.allowed_signers is not None
    settings.allowed_signers.chmod(0o666)
    with pytest.raises(ConfigError, match="others can write"):
        trust.demand(entry, settings)


def test_a_manifest_that_was_changed_after_it_was_signed(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key]
) -> None:
    entry, settings = signed
    put(entry, keys[0])
    path = entry.directory / entries.MANIFEST
    text = path.read_text()
    # Even a blank more: all bytes are signed.
    for changed in (text + " ", text.replace("2" * 64, "5" * 64)):
        path.chmod(0o644)
        path.write_text(changed)
        path.chmod(0o444)
        again = entries.read_entry(entry.directory)
        assert again is not None
        with pytest.raises(TrustError, match="not signed"):
            trust.demand(again, settings)
    # What was read before, and is another now.
    with pytest.raises(TrustError, match="while it was looked at"):
        trust.demand(entry, settings)


def test_a_planted_image_under_a_right_looking_manifest(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key], tmp_path: Path
) -> None:
    entry, settings = signed
    # The signature of the good entry of the same address lies beside the planted one.
    put(entry, keys[0])
    shutil.rmtree(entry.directory)
    planted = make_entry(tmp_path / "cache", b"an evil image")
    assert planted.manifest.recipe_sha256 == entry.manifest.recipe_sha256
    with pytest.raises(TrustError, match="not signed"):
        trust.demand(planted, settings)


def test_signatures_for_something_else(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key]
) -> None:
    entry, settings = signed
    path = put(entry, keys[0], 1, b"another manifest")
    with pytest.raises(TrustError, match="not of this manifest"):
        trust.demand(entry, settings)
    # Made by the right key of the right bytes, but for git.
    message = path.with_name("message")
    message.write_bytes((entry.directory / entries.MANIFEST).read_bytes())
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(keys[0].path), str(message)]
    process.run(argv)
    message.with_name("message.sig").rename(path)
    with pytest.raises(TrustError, match="not of this manifest"):
        trust.demand(entry, settings)


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ('valid-before="20200101"', False),
        ('valid-before="20990101"', True),
        ('valid-after="20990101"', False),
        ('namespaces="git"', False),
        ('namespaces="condainer"', True),
        ("cert-authority", False),
    ],
)
def test_ssh_keygen_decides_which_keys_are_valid(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key], options: str, accepted: bool
) -> None:
    entry, settings = signed
    put(entry, keys[0])
    assert settings.allowed_signers is not None
    allow(settings.allowed_signers, f"alice@example.org,al {options} {keys[0].public}")
    if accepted:
        assert trust.demand(entry, settings) == entry.manifest.sha256
    else:
        with pytest.raises(TrustError, match="valid now"):
            trust.demand(entry, settings)


def test_of_two_signers_one_is_enough(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key]
) -> None:
    entry, settings = signed
    put(entry, keys[0], 1)
    put(entry, keys[1], 2)
    assert settings.allowed_signers is not None
    for key in keys:
        allow(settings.allowed_signers, f"*@example.org {key.public}")
        assert trust.demand(entry, settings)
    text = (entry.directory / entries.MANIFEST).read_bytes()
    told = [item.line() for item in signing.signatures(entry, text, settings.allowed_signers)]
    assert told[1] == "signed by *@example.org"
    told = [item.line() for item in signing.signatures(entry, text, None)]
    assert all("signed by ED25519 key SHA256:" in line for line in told)


def test_what_others_leave_among_the_signatures(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key], tmp_path: Path
) -> None:
    entry, settings = signed
    place = put(entry, keys[0], 9).parent
    os.mkfifo(place / f"{entry.address}.1.sig")
    (place / f"{entry.address}.2.sig").symlink_to("/dev/zero")
    (place / f"{entry.address}.3.sig").mkdir()
    (place / f"{entry.address}.4.sig").write_bytes(b"\xff" * 100)
    (place / f"{entry.address}.5.sig").write_bytes(b"x" * (signing.LIMIT + 1))
    (place / f"{entry.address}.6.sig").write_text("")
    (place / f"{entry.address}.\x1b[2J.sig").write_text("")
    assert trust.demand(entry, settings) == entry.manifest.sha256
    text = (entry.directory / entries.MANIFEST).read_bytes()
    signatures = list(signing.signatures(entry, text, settings.allowed_signers))
    assert [item.allowed for item in signatures] == [False] * 6 + [True]
    assert signatures[4].problem == f"it cannot be read: larger than {signing.LIMIT} bytes"


def test_signatures_in_an_interpreter_of_an_older_c_library(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    entry, settings = signed
    put(entry, keys[0], 1)
    assert trust.demand(entry, settings) == entry.manifest.sha256


def test_a_signature_is_written_where_no_link_leads(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key], tmp_path: Path
) -> None:
    entry, settings = signed
    text = (entry.directory / entries.MANIFEST).read_bytes()
    path = entry.root / publish.SIGNATURES / f"{entry.address}.{os.geteuid()}.sig"
    path.parent.mkdir()
    (tmp_path / "precious").write_text("kept")
    path.symlink_to(tmp_path / "precious")
    assert signing.add(entry, text, keys[0].path) == path
    assert (tmp_path / "precious").read_text() == "kept"
    assert trust.demand(entry, settings) == entry.manifest.sha256


def test_a_squatted_signature_is_an_error(
    signed: tuple[Entry, Settings], keys: tuple[Key, Key]
) -> None:
    entry, _ = signed
    path = put(entry, keys[1], os.geteuid())
    os.chown(path, OTHER, OTHER)
    with pytest.raises(CondainerError, match="has no business there"):
        signing.add(entry, b"", keys[0].path)


def test_keys_that_cannot_be_used(
    tmp_path: Path, project: Path, keys: tuple[Key, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = make_key(tmp_path / "locked", "a passphrase")
    with pytest.raises(CondainerError, match="passphrase was wrong, or there is no terminal"):
        signing.sign(b"", locked.path)
    public = tmp_path / "alone.pub"
    public.write_text(keys[0].public)
    with pytest.raises(CondainerError, match="is a public key"):
        signing.sign(b"", public)
    (tmp_path / "garbage").write_text("garbage")
    with pytest.raises(CondainerError, match="cannot be used to sign"):
        signing.sign(b"", tmp_path / "garbage")
    settings = load_settings(project)
    with pytest.raises(ConfigError, match="nowhere is no file"):
        signing.key_of(settings, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="There is no key in"):
        signing.key_of(settings)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CondainerError, match="ssh-keygen is not installed"):
        signing.sign(b"", keys[0].path)


def test_which_key_signs(
    project: Path, keys: tuple[Key, Key], isolated_user: Path, tmp_path: Path
) -> None:
    settings = load_settings(project)
    (isolated_user / ".ssh").mkdir()
    for name in ("id_rsa", "id_ed25519"):
        (isolated_user / ".ssh" / name).write_text("")
        assert signing.key_of(settings).name == name
    configured = replace(settings, signing_key=keys[0].path)
    assert signing.key_of(configured) == keys[0].path
    assert signing.key_of(configured, keys[1].path) == keys[1].path
