"""Pages of a package index."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from condainer.network import http
from condainer.packages.pages import find

PAGE = """
<a>no link</a>
<a href="http://[thing-2.0.tar.gz">no URL</a>
<a href="http://other.example:99999/thing-2.0.tar.gz">nor this</a>
<a href="http://169.254.169.254/thing-4.0.tar.gz">credentials of a cloud</a>
<a href="../../files/thing-1.0%2Bcpu-py3-none-any.whl#sha256=00">thing</a>
<a href="https://other.example/thing-2.0.tar.gz">thing</a>
<![odd[ no declaration ]]>
"""


def test_the_file_of_a_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "simple/thing").mkdir(parents=True)
    (tmp_path / "simple/thing/index.html").write_text(PAGE)
    page = f"{(tmp_path / 'simple/thing').as_uri()}/"
    stop = threading.Event()
    wheel = f"{tmp_path.as_uri()}/files/thing-1.0%2Bcpu-py3-none-any.whl"
    assert find(page, "thing-1.0+cpu-py3-none-any.whl", stop) == wheel
    assert find(page, "thing-2.0.tar.gz", stop) == "https://other.example/thing-2.0.tar.gz"
    with pytest.raises(http.Unavailable, match=r"does not have thing-3\.0\.tar\.gz"):
        find(page, "thing-3.0.tar.gz", stop)
    with pytest.raises(http.Unavailable, match="link-local"):
        find(page, "thing-4.0.tar.gz", stop)
