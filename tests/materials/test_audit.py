"""Known vulnerabilities: dumps of OSV, whole and damaged, and what is found in them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from condainer.images import audited
from condainer.lock.contents import Package
from condainer.materials import osv
from condainer.materials.audit import Checked, Report, audit
from condainer.materials.osv import Dump
from condainer.system.errors import InputError, VulnerableError
from tests.helpers.advisories import BORN, advisory, dump


def checked(version: str, name: str = "alpha.one") -> Checked:
    return Checked("pip", name, version, "alpha-one", "exact")


def report(tmp_path: Path, version: str, *records: Any) -> Report:
    return audit([checked(version)], dump(tmp_path / "all.zip", *records))


@pytest.mark.parametrize(
    ("version", "events", "fixed"),
    [
        ("1.0", [BORN, {"fixed": "1.1"}], "1.1"),
        ("1.1", [BORN, {"fixed": "1.1"}], None),
        ("1.1rc1", [BORN, {"fixed": "1.1"}], "1.1"),
        ("1.1.post1", [BORN, {"fixed": "1.1"}], None),
        ("0.dev1", [BORN], ""),
        ("1.0+cu118", [{"introduced": "1.0"}, {"fixed": "1.0.1"}], "1.0.1"),
        ("1.1+cu118", [BORN, {"last_affected": "1.1"}], ""),
        ("1.2", [BORN, {"last_affected": "1.1"}], None),
        ("1.10", [BORN, {"fixed": "1.9"}], None),
        ("1!1.0", [BORN, {"fixed": "2"}], None),
        # In any order, and more than once.
        ("2.5", [{"fixed": "3"}, {"introduced": "2"}, {"fixed": "1.5"}, BORN], "3"),
        ("1.7", [{"fixed": "3"}, {"introduced": "2"}, {"fixed": "1.5"}, BORN], None),
        ("1.7", [BORN, {"limit": "1.6"}], None),
        ("1.7", [BORN, {"limit": "*"}], ""),
        ("1.7", [], None),
    ],
    ids=range(15),
)
def test_ranges(
    tmp_path: Path, version: str, events: list[dict[str, str]], fixed: str | None
) -> None:
    outcome = report(tmp_path, version, advisory("GHSA-1", events=events))
    assert [item.fixed for item in outcome.findings] == ([] if fixed is None else [fixed])
    assert (outcome.checked, outcome.advisories, outcome.doubts) == (
        1,
        1,
        (),
    )


def test_versions_that_are_listed(tmp_path: Path) -> None:
    record = advisory("MAL-1", versions=["2004d", "1.0.0"])
    assert report(tmp_path, "1.0", record).findings
    assert not report(tmp_path, "1.0.1", record).findings
    # What has no order is compared as a text, and told otherwise.
    assert report(tmp_path, "2004d", record).findings
    outcome = report(tmp_path, "git:0123", record)
    assert not outcome.findings
    assert outcome.doubts == (
        "alpha.one git:0123: not compared, as the version is none of PEP 440: MAL-1",
    )
    outcome = report(tmp_path, "1.0.1", advisory("GHSA-1", events=[BORN, {"fixed": "final"}]))
    assert "not compared with a range of GHSA-1" in outcome.doubts[0]


def test_names_of_one_problem_and_what_is_said_of_it(tmp_path: Path) -> None:
    fixed = [[BORN, {"fixed": version}] for version in ("2", "3")]
    ours = dump(
        tmp_path / "all.zip",
        advisory("PYSEC-1", events=fixed[0], aliases=["CVE-1"], details="\n# It is\n"),
        advisory(
            "GHSA-1",
            events=fixed[1],
            aliases=["CVE-1"],
            database_specific={"severity": "HIGH"},
            severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}],
        ),
        advisory("GHSA-2", events=[BORN], withdrawn="2024-01-01T00:00:00Z"),
        advisory("GHSA-3", "other", events=[BORN]),
        {"id": "DSA-1", "affected": [{"package": {"ecosystem": "Debian:12", "name": "alpha-one"}}]},
    )
    packages = [checked("1"), Checked("conda", "alpha", "2.5", "alpha-one", "metadata")]
    compared = audit(packages, ours)
    (conda, pip) = compared.findings
    assert (conda.package, conda.id, conda.aliases) == ("alpha", "GHSA-1", ("CVE-1",))
    assert conda.match == "metadata"
    assert (pip.id, pip.aliases, pip.fixed) == ("GHSA-1", ("CVE-1", "PYSEC-1"), "3")
    assert (pip.severity, pip.summary, pip.cvss) == ("HIGH", "It is", ("CVSS:3.1/AV:N",))
    assert compared.advisories == 4
    with pytest.raises(VulnerableError, match=r"here: 2 known vuln.* in alpha, alpha.one"):
        compared.demand("here")
    audit([], ours).demand("here")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"id": "A"', "0.json: not JSON: .*line 1 column"),
        ("[" * 100_000, "0.json: not JSON"),
        ("\xff", "0.json: not JSON"),
        ("[]", "has no `id`"),
        ('{"id": 3}', "has no `id`"),
        ('{"id": "A", "affected": 3}', "`affected` is not a list of mappings"),
        ('{"id": "A", "affected": [{"package": 3}]}', "`package` is not a mapping"),
        ('{"id": "A", "affected": [{"package": {"ecosystem": "PyPI"}}]}', "no `name`"),
        (json.dumps(advisory("A", events=[{"begun": "1"}])), "an event 'begun'"),
        (json.dumps(advisory("A", versions=[1])), "`versions` is not a list of texts"),
        (json.dumps(advisory("A", aliases="B")), "`aliases` is not a list of texts"),
        ('{"id": "A"}', "has no advisory on packages of PyPI"),
        (" " * (osv.LARGEST + 1), "0.json: larger than"),
    ],
    ids=range(13),
)
def test_damaged_advisories(tmp_path: Path, text: str, told: str) -> None:
    content = text.encode("latin-1")
    with pytest.raises(InputError, match=rf"all.zip: .*{told}"):
        audit([checked("1")], dump(tmp_path / "all.zip", content))
    directory = tmp_path / "unpacked" / "below"
    directory.mkdir(parents=True)
    (directory / "0.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"unpacked.*{told}"):
        audit([checked("1")], Dump(tmp_path / "unpacked"))


def test_damaged_zips(tmp_path: Path) -> None:
    records = [advisory(f"GHSA-{number}", events=[BORN]) for number in range(50)]
    path = dump(tmp_path / "all.zip", *records).path
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-30], b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"all.zip: not a whole zip file"):
            audit([checked("1")], Dump(path))
    turned = bytearray(whole)
    turned[whole.index(b"0.json") + 20] ^= 0xFF
    path.write_bytes(turned)
    with pytest.raises(InputError, match=r"all.zip: 0.json: cannot be unpacked"):
        audit([checked("1")], Dump(path))
    with pytest.raises(InputError, match=r"none.zip: cannot be read: No such file"):
        audit([checked("1")], Dump(tmp_path / "none.zip"))
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(InputError, match=r"pipe.zip: cannot be read: not a regular file"):
        audit([checked("1")], Dump(tmp_path / "pipe.zip"))


# Prints how much memory reading a dump takes, in KiB, beside what the imports take.
MEASURE = """
import resource, sys
from pathlib import Path
from condainer.materials.audit import Checked, audit
from condainer.materials.osv import Dump

def read(path):
    package = Checked("pip", "alpha-one", "1", "alpha-one", "exact")
    report = audit([package], Dump(Path(path)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, report

before, _ = read(sys.argv[1])
after, report = read(sys.argv[2])
print(report.advisories, len(report.findings), after - before)
"""


def test_a_large_dump_takes_little_memory(tmp_path: Path) -> None:
    noise = random.Random(1)
    texts = ["".join(noise.choices("abcdefgh ", k=20_000)) for _ in range(50)]
    records = [advisory(f"GHSA-{n}", "other", [BORN], details=texts[n % 50]) for n in range(3000)]
    records.append(advisory("GHSA-last", events=[BORN]))
    large, small = dump(tmp_path / "large.zip", *records), dump(tmp_path / "all.zip", records[-1])
    command = [sys.executable, "-c", MEASURE, str(small.path), str(large.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    advisories, findings, kibibytes = map(int, done.stdout.split())
    assert (advisories, findings) == (3001, 1)
    # Its texts alone have 60 MB.
    assert kibibytes < 20_000


def test_which_conda_packages_of_a_lock_are_of_python() -> None:
    builds = {
        "one": "py312h1_0",
        "two": "pyhd8ed1ab_0",
        "three": "cpu_mkl_py310h1_0",
        "four": "py_0",
        "five": "h1234_0",
        "six": "happy_0",
        "seven": "cuda126py312h1_200",
    }
    packages = [Package("conda", name, "1", build, "", "a") for name, build in builds.items()]
    packages.append(Package("pip", "Git.One", "0123456789ab", "git", "", ""))
    by_name = {item.name: item for item in audited.of_packages(packages)}
    assert by_name.keys() == {"one", "two", "three", "four", "seven", "Git.One"}
    assert {item.match for name, item in by_name.items() if name != "Git.One"} == {"name"}
    assert (by_name["Git.One"].project, by_name["Git.One"].match) == ("git-one", "exact")
    assert by_name["Git.One"].version == "git:0123456789ab"
