"""`cnd lock` after one spec was added, beside the solvers' own part of it."""

from __future__ import annotations

import statistics

from benchmarks.measure import phases, total
from benchmarks.pins import ONE_MORE
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample

SOLVER, UV = "Solving", "Resolving"


def lock(place: Place) -> Row:
    """Lock with one spec more, and compare the whole with its parts by the solver and uv."""
    project = place.scientific("locking")
    before = (project / "environment.yml").read_text(encoding="utf-8")
    after = before.replace("dependencies:\n", f"dependencies:\n  - {ONE_MORE}\n").replace(
        "dependencies: [", f"dependencies: [{ONE_MORE}, "
    )
    whole, solver, uv = [], [], []
    for _ in range(2 if place.quick else 9):
        (project / "environment.yml").write_text(before, encoding="utf-8")
        place.run(project, "lock")
        (project / "environment.yml").write_text(after, encoding="utf-8")
        steps = phases([place.cnd, "lock"], project, place.environment)
        whole.append(total(steps))
        solver.append(total(steps, SOLVER))
        uv.append(total(steps, UV))
    samples = (
        Sample("cnd lock", tuple(whole)),
        Sample("solver", tuple(solver)),
        Sample("uv", tuple(uv)),
    )
    parts = statistics.median(s + u for s, u in zip(solver, uv, strict=True))
    problem = "" if parts else f"no step is called {SOLVER} or {UV}"
    ratio = statistics.median(whole) / parts if parts else float("inf")
    claim = Claim("solver + uv in the same run", ratio, 2.0)
    return Row("lock", "`cnd lock`, one spec added", samples, (claim,), problem=problem)
