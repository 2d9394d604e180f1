"""The settings of all clients of the network: rattler, uv, git and our own."""

from __future__ import annotations

import os

from condainer.network import certificates, silence
from condainer.package_cache import in_use
from condainer.package_cache.archives import keeps_unpacked, private_root
from condainer.settings import condarc
from condainer.settings.config import STAGE, Settings
from condainer.system.files import storage_errors
from condainer.system.private_directory import directory_until_exit, reclaim
from condainer.system.reporter import Reporter

# The variables that name a file of certificate authorities, one for each family of clients.
AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Not even root can make anything there.
NOWHERE = "/proc/nowhere"


def prepare(settings: Settings, reporter: Reporter) -> None:
    """Set the variables of the site for clients in this process, and for those that it starts.

    Variables of the user stay. It is called before anything is solved or fetched; a second call
    changes nothing.
    """
    silence.set_limit(settings.network_timeout)
    seconds = f"{silence.limit():.0f}"
    os.environ.setdefault("UV_HTTP_TIMEOUT", silence.of_one_try())
    # Otherwise git waits for ever; in bytes per second, and in seconds.
    os.environ.setdefault("GIT_HTTP_LOW_SPEED_LIMIT", "1")
    os.environ.setdefault("GIT_HTTP_LOW_SPEED_TIME", seconds)
    site = condarc.in_force()
    for line in site.ignored:
        warn_once(line, reporter)
    for scheme, url in site.proxies:
        names = (f"{scheme}_proxy", "all_proxy")
        if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
            os.environ[f"{scheme}_proxy"] = url
    authorities = next((os.environ[name] for name in AUTHORITIES if os.environ.get(name)), "")
    if path := authorities or site.certificates:
        variables = (
            ("SSL_CERT_DIR",) if os.path.isdir(path) else ("SSL_CERT_FILE", "GIT_SSL_CAINFO")
        )
        for variable in variables:
            os.environ.setdefault(variable, path)
    elif not os.environ.get("SSL_CERT_DIR") and (path := certificates.together(settings)):
        # git itself uses the system's, or those of its configuration.
        os.environ.setdefault("SSL_CERT_FILE", path)
    _use_package_cache(settings)
    if not os.path.isdir(os.environ.get("HOME") or "/"):
        # A service may have such a HOME; if it leads through a file, rattler does not start.
        os.environ["HOME"] = NOWHERE
    _check_netrc(reporter)
    if settings.offline:
        os.environ["UV_OFFLINE"] = "1"


def _use_package_cache(settings: Settings) -> None:
    """Hold the package cache until this process ends, and tell uv where to unpack."""
    root, parent = private_root(settings), settings.staging_directory
    in_use.use(root)
    if "UV_CACHE_DIR" in os.environ:
        return
    place = root / "uv"
    if not keeps_unpacked(settings):
        with storage_errors(f"make a directory in {parent}"):
            parent.mkdir(parents=True, exist_ok=True)
            reclaim(parent)
            place = directory_until_exit(parent, STAGE)
    os.environ["UV_CACHE_DIR"] = str(place)


def _check_netrc(reporter: Reporter) -> None:
    """Warn of a netrc that clients cannot read, and hide it from those that would fail."""
    import netrc

    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        netrc.netrc(path)
    except FileNotFoundError:
        pass
    except netrc.NetrcParseError as error:
        warn_once(f"{path}: ignored by some clients, because it is damaged: {error}", reporter)
    except (OSError, UnicodeDecodeError) as error:
        warn_once(f"{path}: ignored, because it cannot be read: {error}", reporter)
        os.environ["NETRC"] = os.devnull


def warn_once(text: str, reporter: Reporter) -> None:
    """Warn once of what all steps of a command meet."""
    if text not in _warned:
        _warned.add(text)
        reporter.warn(text)


_warned: set[str] = set()
