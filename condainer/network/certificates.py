"""The certificate authorities of clients without a setting: the system's and their own."""

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


def together(settings: Settings) -> str:
    """Return a file of the system's authorities and of those that come with our clients.

    uv and requests have only a list of their own, without a site's own authority. The path is empty
    if the system has no list: then clients use their own.
    """
    system = next((path for path in SYSTEM if os.path.isfile(path)), "")
    if not system:
        return ""
    import certifi

    texts = [read_text(Path(path), errors="replace") for path in (system, certifi.where())]
    authorities = dict.fromkeys(match[0] for text in texts for match in CERTIFICATE.finditer(text))
    content = "\n".join([*authorities, ""])
    path = private_root(settings) / "certificates.pem"
    with suppress(OSError):
        if not path.is_file() or read_text(path, errors="replace") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            publish_text(path, content, durable=False)
        return str(path)
    # The file cannot be written; the system has more authorities than one client.
    return system
