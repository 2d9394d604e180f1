"""What hits do without, and what stands in for it."""

import hashlib
import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from condainer.startup import digest
from condainer.startup.patterns import pattern

PATHLIB = """
import sys
from condainer.startup import later
later.import_pathlib()
assert "ipaddress" not in sys.modules
assert "urllib.parse" not in sys.modules
from pathlib import Path
assert Path("/a b").as_uri() == "file:///a%20b"
import urllib.parse
assert urllib.parse.quote("a b") == "a%20b"
assert Path("/a b").as_uri() == "file:///a%20b"
later.import_pathlib()
assert urllib.parse is sys.modules["urllib.parse"]
"""


def test_pathlib_is_whole_without_what_it_need_not_import() -> None:
    subprocess.run([sys.executable, "-S", "-c", PATHLIB], check=True)


@given(st.binary(max_size=300))
def test_the_digest_is_sha256(data: bytes) -> None:
    assert digest.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()


def test_patterns_are_those_of_re() -> None:
    made = pattern(r"(?P<letter>[a-z])\d", re.IGNORECASE)
    match = made.fullmatch("B2")
    assert match is not None
    assert match["letter"] == "B"
    assert made.sub(r"<\g<letter>>", "a1 b2") == "<a> <b>"
    assert made.pattern == r"(?P<letter>[a-z])\d"
