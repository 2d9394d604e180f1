.PHONY: help setup demo test check torture bench bench-quick channel clean

help:
	@echo "make demo     the main job on real input, step by step"
	@echo "make test     the whole test suite, with ruff, mypy and import-linter"
	@echo "make torture  the fault campaigns at full length (docs/reliability.md)"
	@echo "make bench    the benchmarks (docs/benchmarks/README.md); bench-quick: in under 3 minutes"
	@echo "make check    ruff, mypy and import-linter only"
	@echo "make channel  build a local conda channel and serve it in the foreground"
	@echo "make clean    remove what the targets above made"

setup:
	@tools/setup

demo: setup
	@.venv/bin/python -m demo

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

test: check
	.venv/bin/python -m pytest -n 2 --dist loadgroup --cov --cov-report=

	.venv/bin/coverage report --fail-under=90

torture: setup
	@.venv/bin/python -m tests.torture

bench bench-quick: setup
	@.venv/bin/python -c 'import matplotlib' 2>/dev/null || \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@.venv/bin/python -m benchmarks $(if $(filter bench-quick,$@),--quick)

channel: setup
	@.venv/bin/python -m tests.channel serve

clean:
	rm -rf .venv .channel .demo .benchmarks .mypy_cache .ruff_cache .pytest_cache .coverage*
