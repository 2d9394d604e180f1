"""What a site's condarc files say: merged as conda does it, honoured, or named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.network import client_settings
from condainer.packages import channels
from condainer.settings import condarc
from condainer.settings.condarc import Condarc
from condainer.settings.config import Settings
from condainer.system.errors import InputError
from condainer.system.reporter import Silent

NO_LOGIN = "https://host/conda"


@pytest.fixture
def rc(isolated_user: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Condarc]:
    """Write a condarc file below the home directory and return what is in force."""
    for name in ("CONDARC", "MAMBARC", "CONDA_EXE", "CONDA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(condarc, "SITE", (isolated_user / "etc",))

    def write(text: str, name: str = ".condarc") -> Condarc:
        path = isolated_user / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        condarc._read.cache_clear()
        return condarc.in_force()

    return write


def test_nothing_is_in_force_without_files(rc: Callable[..., Condarc]) -> None:
    assert condarc.in_force() == Condarc()
    assert rc("") == Condarc()
    assert rc("# only a comment\n") == Condarc()


def test_what_cannot_be_looked_at_is_not_there(
    rc: Callable[..., Condarc], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name is too long for every file system; root may look into all directories.
    monkeypatch.setenv("CONDARC", f"/{'x' * 300}")
    assert condarc.in_force() == Condarc()


def test_a_channel_alias_is_what_names_stand_for(
    rc: Callable[..., Condarc], load: Callable[..., Settings]
) -> None:
    rc("channel_alias: https://host/conda/\n")
    assert channels.channel_of("conda-forge", load()).url == "https://host/conda/conda-forge"
    assert channels.channel_of("https://other/x", load()).url == "https://other/x"
    assert condarc.in_force().spec("conda-forge::numpy") == (
        "https://host/conda/conda-forge::numpy"
    )
    for text in ("numpy", "https://a/b::numpy", "numpy[channel=a::b]"):
        assert condarc.in_force().spec(text) == text
    # A mirror is given to the channel by its name here, too.
    mirrored = channels.channel_of("conda-forge", load("mirrors=conda-forge=http://m/cf"))
    assert mirrored.mirrors == ("http://m/cf",)


def test_custom_channels(rc: Callable[..., Condarc], load: Callable[..., Settings]) -> None:
    rc(
        "custom_channels:\n  ours: https://host/conda\n  conda-forge: file:///srv/mirror\n"
        "  local: /srv/channels\ncustom_multichannels:\n  both: [ours, conda-forge]\n"
    )
    settings = load()
    assert channels.channel_of("ours", settings).url == "https://host/conda/ours"
    assert (
        channels.channel_of("ours/label/dev", settings).url == "https://host/conda/ours/label/dev"
    )
    assert channels.channel_of("conda-forge", settings).url == "file:///srv/mirror/conda-forge"
    assert channels.channel_of("local", settings).url == "file:///srv/channels/local"
    assert channels.expanded(["both", "x"]) == ["ours", "conda-forge", "x"]


def test_default_channels(rc: Callable[..., Condarc]) -> None:
    builtin = channels.expanded(["defaults"])
    assert len(builtin) > 1
    rc("default_channels: [https://host/main, https://host/r]\n")
    assert channels.expanded(["x", "defaults"]) == ["x", "https://host/main", "https://host/r"]


def test_mirrored_channels_keep_the_canonical_url(
    rc: Callable[..., Condarc], load: Callable[..., Settings]
) -> None:
    plain = channels.channel_of("conda-forge", load()).url
    found = rc("mirrored_channels:\n  conda-forge: [http://one/cf, oci://two/cf, file:///cf]\n")
    channel = channels.channel_of("conda-forge", load())
    assert (channel.url, channel.mirrors) == (plain, ("http://one/cf", "file:///cf"))
    assert any("oci://two/cf" in line for line in found.ignored)
    # Our own configuration comes first.
    own = channels.channel_of("conda-forge", load("mirrors=conda-forge=http://own/cf"))
    assert own.mirrors == ("http://own/cf",)
    other = channels.channel_of("conda-forge", load("mirrors=bioconda=http://own/b"))
    assert other.mirrors == channel.mirrors


def test_a_password_is_used_and_not_locked(
    rc: Callable[..., Condarc], load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "se-cret")
    rc("channel_alias: https://host/t/${TOKEN}/conda\ncustom_channels:\n  x: https://a:b@other\n")
    channel = channels.channel_of("conda-forge", load())
    assert channel.url == f"{NO_LOGIN}/conda-forge"
    assert channel.mirrors == ("https://host/t/se-cret/conda/conda-forge",)
    # Also when it comes from the lock.
    assert channels.channel_of(channel.url, load()) == channel
    assert channels.channel_of("x", load()) == channels.Channel(
        "https://other/x", ("https://a:b@other/x",)
    )


def test_a_token_at_the_end_is_not_locked_either(
    rc: Callable[..., Condarc], load: Callable[..., Settings]
) -> None:
    rc("channel_alias: https://host/conda/t/se-cret\n")
    channel = channels.channel_of("bioconda", load())
    assert channel.url == f"{NO_LOGIN}/bioconda"
    assert channel.mirrors == ("https://host/conda/t/se-cret/bioconda",)


def test_files_are_merged_as_conda_does_it(
    rc: Callable[..., Condarc], isolated_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rc("channel_alias: https://site\ndefault_channels: [b, c]\n", "etc/condarc")
    rc("custom_channels: {one: https://first, two: https://first}\n", "etc/condarc.d/more.yml")
    rc("channel_alias: https://user\ndefault_channels: [a, b]\n")
    found = rc("custom_channels: {two: https://second}\n", ".conda/condarc")
    assert found.channel_alias == "https://user"
    assert found.default_channels == ("a", "b", "c")
    assert dict(found.custom_channels) == {"one": "https://first", "two": "https://second"}
    named = isolated_user / "named.yml"
    named.write_text("channel_alias: https://named\n")
    monkeypatch.setenv("CONDARC", str(named))
    assert condarc.in_force().channel_alias == "https://named"
    root = isolated_user / "miniforge"
    monkeypatch.setenv("CONDA_EXE", str(root / "bin" / "conda"))
    rc("default_channels: [root]\n", "miniforge/.condarc")
    assert condarc.in_force().default_channels == ("a", "b", "root", "c")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("channel_priority: flexible\n", "channel_priority"),
        ("pinned_packages: [numpy=1]\n", "pinned_packages"),
        ("denylist_channels: [x]\n", "denylist_channels"),
        ("ssl_verify: false\n", "ssl_verify"),
        ("ssl_verify: 'False'\n", "ssl_verify"),
        ("proxy_servers: {'https://host': http://p}\n", "proxy_servers"),
        ("custom_channels: [x]\n", "custom_channels"),
        ("offline: true\n", "offline"),
        ("a: [\n", "cannot be read"),
        ("a: &a [*a]\n", "cannot be read"),
    ],
)
def test_what_is_not_honoured_is_named(
    rc: Callable[..., Condarc], isolated_user: Path, text: str, key: str
) -> None:
    (line,) = rc(text).ignored
    assert line.startswith(str(isolated_user / ".condarc"))
    assert key in line
    assert "ignored" in line


@pytest.mark.parametrize(
    "text",
    [
        "channel_priority: strict\n",
        "channels: [conda-forge]\nauto_activate_base: false\nshow_channel_urls: true\n",
        "ssl_verify: true\noffline: false\npinned_packages: []\nproxy_servers: {}\n",
        "ssl_verify: truststore\n",
    ],
)
def test_what_changes_nothing_is_not_named(rc: Callable[..., Condarc], text: str) -> None:
    assert rc(text).ignored == ()


def test_channels_are_named_only_if_the_environment_lacks_them(rc: Callable[..., Condarc]) -> None:
    found = rc("channels: [conda-forge, bioconda]\n")
    assert found.unused(["bioconda", "conda-forge"]) == ""
    assert "bioconda" in found.unused(["conda-forge"])
    assert ".condarc" in found.unused(["conda-forge"])


def test_an_alias_that_is_no_url_is_refused(
    rc: Callable[..., Condarc], load: Callable[..., Settings]
) -> None:
    rc("channel_alias: 'ftp://host'\n")
    with pytest.raises(InputError):
        channels.channel_of("conda-forge", load())


def test_what_the_user_has_set_comes_first(
    isolated_user: Path, load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    (isolated_user / ".condarc").write_text(
        "proxy_servers: {http: http://site, https: http://site}\nssl_verify: /site.pem\n"
    )
    monkeypatch.setattr(os, "environ", {"HOME": str(isolated_user), "HTTPS_PROXY": "http://own"})
    client_settings.prepare(load(), Silent())
    assert "https_proxy" not in os.environ
    assert os.environ["http_proxy"] == "http://site"
    assert os.environ["SSL_CERT_FILE"] == "/site.pem"
    own = {"HOME": str(isolated_user), "REQUESTS_CA_BUNDLE": "/own.pem"}
    monkeypatch.setattr(os, "environ", own)
    client_settings.prepare(load("offline=true"), Silent())
    assert own["SSL_CERT_FILE"] == own["GIT_SSL_CAINFO"] == "/own.pem"
    assert own["UV_OFFLINE"] == "1"
