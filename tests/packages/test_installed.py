"""What packages say of themselves."""

from __future__ import annotations

from pathlib import Path

from condainer.packages import installed


def test_metadata_in_another_encoding_are_read(tmp_path: Path) -> None:
    directory = tmp_path / "lib/python3.12/site-packages/old-1.0.dist-info"
    directory.mkdir(parents=True)
    text = "Metadata-Version: 1.0\nName: old\nVersion: 1.0\nAuthor: Jörg\nLicense: MIT\n"
    (directory / "METADATA").write_bytes(text.encode("latin-1"))
    assert [str(one) for one in installed.read(tmp_path).licenses()] == ["old 1.0 (pip): MIT"]
