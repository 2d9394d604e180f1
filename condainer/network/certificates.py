"""Whom to trust where nobody says so: the system's certificate authorities and those of clients."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from condainer.package_cache.archives import private_root
from condainer.settings.config import Settings
from condainer.system.files import publish_text, read_text

# Where systems keep them in one file: Debian and Arch, Red Hat, SUSE, Alpine.
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def everybodys(settings: Settings) -> str:
    """Return a file of the system's authorities and of those that come with our clients.

    uv and requests bring a list of their own and know no other, so that a site's own authority is
    strange to them. Empty where the system has none: then clients do as they are used to.
    """
    system = next((path for path in SYSTEM if os.path.isfile(path)), "")
    if not system:
        return ""
    import certifi

    texts = [read_text(Path(path), errors="replace") for path in (system, certifi.where())]
    found = dict.fromkeys(match[0] for text in texts for match in CERTIFICATE.finditer(text))
    together = "\n".join([*found, ""])
    path = private_root(settings) / "certificates.pem"
    with suppress(OSError):
        if not path.is_file() or read_text(path, errors="replace") != together:
            path.parent.mkdir(parents=True, exist_ok=True)
            publish_text(path, together, durable=False)
        return str(path)
    # No room for it; the system's are more than those of one client.
    return system
