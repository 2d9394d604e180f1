"""Where a login may be sent."""

from __future__ import annotations

import pytest

from condainer.oci import access, repository
from condainer.oci.errors import RegistryError


@pytest.mark.parametrize(
    ("root", "realm", "fine"),
    [
        ("https://a.org/", "https://a.org/token", True),
        ("https://a.org/", "https://auth.other.org/token", True),
        ("https://a.org/", "http://a.org/token", False),
        ("https://a.org/", "http://127.0.0.1/token", False),
        ("https://a.org/", "https://127.0.0.1/token", False),
        ("https://a.org/", "https://2130706433/token", False),
        ("https://a.org/", "https://169.254.169.254/latest", False),
        ("https://a.org/", "https://metadata.google.internal/", False),
        ("https://a.org/", "https://x:y@b.org/token", False),
        ("https://a.org/", "https://b.org/\x1b[2J", False),
        ("https://a.org/", "file:///etc/passwd", False),
        ("https://a.org/", "", False),
        ("https://a.org/", "https://[", False),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/token", True),
        ("http://127.0.0.1:5000/", "http://169.254.169.254/token", False),
        ("http://127.0.0.1:5000/", "http://a.org/token", False),
        ("http://old.org/", "http://old.org/token", True),
        ("http://old.org/", "http://other.org/token", False),
        ("http://old.org/", "https://other.org/token", True),
    ],
)
def test_where_a_login_may_be_sent(root: str, realm: str, fine: bool) -> None:
    asked = access.Access(repository.parse("oci://a.org/x", "here"), root)
    if fine:
        assert asked._realm(realm) == realm
    else:
        with pytest.raises(RegistryError, match="wants a login"):
            asked._realm(realm)
