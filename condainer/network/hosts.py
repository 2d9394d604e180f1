"""URLs that lead to this machine or its neighbourhood, in every way to write them."""

from __future__ import annotations

import ipaddress
import re
import socket

from condainer.system.urls import DEFAULT_PORTS, origin

# The host of a URL that all programs read alike: nothing is escaped or left out.
AUTHORITY = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([^/?#@\\\s]*@)?"
    r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+(%[a-z0-9._-]+)?\])(:[0-9]*)?([/?#]|$)",
    re.IGNORECASE,
)
FILE = re.compile(r"(git\+)?file:", re.IGNORECASE)
NO_HOST = "no valid host"
ITSELF = re.compile(
    r"localhost|.*\.localhost|localhost[46]?\.localdomain[46]?|localhost[46]|ip6-(localhost|loopback)"
)
# Where clouds serve their machines' credentials, beside the link-local addresses.
METADATA_NAMES = re.compile(
    r"metadata|metadata\.goog|metadata\.google\.internal|instance-data(\.ec2\.internal)?"
)
METADATA_ADDRESSES = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
# An IPv4 address ends these: NAT64, and what came before mapped addresses.
CARRIERS = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def near(url: str) -> str:
    """Return what near this machine a URL leads to, or an empty text.

    That is a file, this machine itself, or where clouds serve their machines' credentials; also
    a host that programs may read in two ways. Names are not resolved.
    """
    if FILE.match(url):
        return "a file"
    match = AUTHORITY.match(url)
    if match is None:
        return NO_HOST
    host = match["host"].lower().rstrip(".")
    if ITSELF.fullmatch(host):
        return "this machine"
    if METADATA_NAMES.fullmatch(host):
        return "a cloud's metadata"
    return _kind(_address(host.strip("[]")))


def host_of(url: str) -> str:
    """Return host and port (if not the usual one) of a URL in lower case, or an empty text."""
    try:
        scheme, host, port = origin(url)
    except ValueError:
        return ""
    return host if port in (None, DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def _kind(address: Address | None) -> str:
    if address is None:
        return ""
    if address.is_loopback or address.is_unspecified or address in THIS_NETWORK:
        return "this machine"
    if address in METADATA_ADDRESSES:
        return "a cloud's metadata"
    if address.is_link_local:
        return "a link-local address"
    return _kind(_carried(address)) if isinstance(address, ipaddress.IPv6Address) else ""


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that packets to an IPv6 address reach, if it holds one."""
    if carried := address.ipv4_mapped or address.sixtofour:
        return carried
    if any(address in network for network in CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _address(host: str) -> Address | None:
    """Return the address that a host is, in any form that a resolver takes."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # `127.1`, `0x7f000001` and `2130706433` are the same machine.
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
