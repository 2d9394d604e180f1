"""The sha256 of short texts, without OpenSSL: to load that takes longer than the hashing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    # Python's own, by its name in 3.12 and later, and before; one may have been built without it.
    try:
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = ["sha256"]
