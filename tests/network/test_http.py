"""Sessions of HTTP."""

from __future__ import annotations

from condainer.network import http


def test_sessions_of_registries_leave_netrc_alone() -> None:
    assert http.session(netrc=False) is not http.session()
    assert http.session(netrc=False) is http.session(netrc=False)
