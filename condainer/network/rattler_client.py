"""The client by which rattler reaches servers, with what its files say about who logs in there."""

from __future__ import annotations

from condainer.system.errors import ConfigError
from condainer.system.text import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import rattler


def client() -> rattler.Client:
    """Return the client; raises ConfigError where the file of logins is damaged."""
    import rattler
    from rattler.exceptions import AuthenticationStorageError

    try:
        return rattler.Client.default_client()
    except AuthenticationStorageError as error:
        raise ConfigError(
            f"It cannot be read who logs in at servers of channels: {reason(error)}",
            "conda's newer relatives keep that file: correct it, or move it away.",
        ) from None
