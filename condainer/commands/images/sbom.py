"""`cnd sbom`, `cnd licenses`, `cnd audit`: what an image consists of, and what is known of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import answer, print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON, JSON_ARRAY, Place
from condainer.system.files import publish_text, writing

WHAT = click.argument(
    "address", metavar="[ADDRESS|NAME]", required=False, shell_complete=complete.images
)
FORMS = ("cyclonedx", "spdx")


@cli.command("sbom")
@WHAT
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default=FORMS[0],
    help="CycloneDX 1.7 (the default) or SPDX 2.3.",
)
@click.option("-o", "--output", type=Place(path_type=Path, dir_okay=False), help="Write a file.")
@click.pass_obj
def sbom(call: Call, address: str | None, form: str, output: Path | None) -> None:
    """Print the bill of materials of an image.

    Without ADDRESS, of the project's own image. It names all conda and PyPI packages with their
    purls, sha256 and licenses, and what needs what. It is the same whenever it is made.
    """
    from condainer import pipeline
    from condainer.images import sbom as materials

    settings = call.using(frozen=True, address=address)
    entry, lock = pipeline.current_entry(settings)
    if call.dry:
        where = f", and write {output}" if output is not None else ""
        call.would(f"read what {entry.image} holds{where}")
        return
    text = materials.render(entry, lock, settings, form)
    if output is None:
        answer(text.removesuffix("\n"))
        return
    with writing(output):
        publish_text(output, text)
    call.say(f"Wrote {output}")


@cli.command("licenses")
@WHAT
@click.option("--check", is_flag=True, help="Fail if `policy:` forbids one of them.")
@JSON_ARRAY
@click.pass_obj
def licenses(call: Call, address: str | None, check: bool, as_json: bool) -> None:
    """Show the license of each package of an image.

    Without ADDRESS, of the project's own image. Licenses are those that the packages name
    themselves; `unknown` stands last.
    """
    from condainer import pipeline
    from condainer.images import dependencies
    from condainer.packages import forbidden

    settings = call.using(frozen=True, address=address)
    entry, _ = pipeline.current_entry(settings)
    if call.dry:
        call.would(f"read which licenses the packages in {entry.image} have", as_json=as_json)
        return
    licensed = list(dependencies.metadata(entry, settings).licenses())
    if as_json:
        print_json([asdict(package) for package in licensed])
    else:
        show(*tables.licenses(licensed))
    if check:
        forbidden.demand_licenses(licensed, str(entry.image), settings)


@cli.command("audit")
@click.argument("file", type=Place(path_type=Path, exists=True))
@WHAT
@JSON
@click.pass_obj
def audit(call: Call, file: Path, address: str | None, as_json: bool) -> None:
    """Look for known vulnerabilities in the packages of an image.

    FILE is a dump of OSV for PyPI: its zip, or a directory with what is in it. Without ADDRESS, it
    is the project's own image, or its lock while that is not built. No connection is made. The
    exit status is 18 if something is found. MATCH says how a package was compared: `exact` for
    one of PyPI, `metadata` for a conda package that holds one by its own metadata, `name` for one
    of Python that is only called like it.
    """
    from condainer.images import audited
    from condainer.materials import audit, osv

    settings = call.using(frozen=True, address=address)
    subject = audited.subject(settings)
    if call.dry:
        call.would(f"compare what {subject.source} holds with {file}", as_json=as_json)
        return
    packages = subject.packages(settings)
    report = audit.audit(packages, osv.Dump(file))
    if as_json:
        print_json({"source": str(subject.source), **asdict(report)})
    elif report.findings:
        show(*tables.vulnerabilities(report.findings))
    call.say(*report.doubts)
    if report.checked:
        call.say(f"Compared {report.checked} packages with {report.advisories} advisories")
    else:
        call.say(f"Nothing was compared: {subject.source} has no packages of Python")
    report.demand(str(subject.source))
