"""Channels whose index cannot be read."""

from __future__ import annotations

from condainer.packages import indices


def test_the_channel_that_cannot_be_read_is_named_with_the_reason() -> None:
    sources = ["https://one.example/a", "https://two.example/b"]
    sending = "error sending request for url (https://two.example/b/noarch/repodata.json)"
    causes = ["Request failed after 3 retries", sending, "client error (Connect)", "refused"]
    error = indices.unreadable(sources, "\nCaused by: ".join(causes))
    assert error.message == f"The channel {sources[1]} cannot be read: {sending}: refused"
    assert indices.unreadable(sources, "no more memory").message == (
        f"The channel {sources[0]} or {sources[1]} cannot be read: no more memory"
    )
