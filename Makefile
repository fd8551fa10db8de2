# make demo         the whole story on real data, in well under two minutes
# make test         every test
# make test-quick   the tests that are not marked slow
# make test-long    every test, with ten times the examples and every bit flipped
# make soak         30 minutes of writers, readers, repairs, kills and damage at random: SOAK_SECONDS, SOAK_SEED
# make mutants      removes each check in turn, to see a test fail: about an hour, in build/mutants
# make clients      the recipes of docs/training.md, with every training library; makes .venv-clients
# make bench        ours and the peers that are installed, on every path, into docs/performance.md: 12 minutes, or
#                   three with BENCH_ARGS=--quick; makes .venv-bench
# make fuzz         hostile input for every decoder, guided by coverage, for FUZZ_SECONDS; makes .venv-fuzz
# make check        lint, format, types
#
# Each makes .venv from the package registry alone; a second call is quick. PYTHON is any Python from 3.11 on.

PYTHON ?= python3
FUZZ_SECONDS ?= 3600
FUZZ_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadgroup

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test test-quick test-long soak mutants clients bench fuzz check format dist clean
.NOTPARALLEL:

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: $(VENV)/demo.stamp
	rm -rf build/demo
	$(BIN)/python examples/demo.py build/demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-quick: override PYTEST_ARGS += -m "not slow"
test-quick: test

test-long: export RECORDIO_TEST_LONG = 1
test-long: test

soak: $(VENV)/test.stamp
	$(BIN)/python -W error -m tests.soak

mutants: $(VENV)/test.stamp
	$(PIP) coverage
	$(BIN)/python tests/mutants.py build/mutants

clients: .venv-clients/stamp
	.venv-clients/bin/python -m pytest tests/clients

bench: .venv-bench/stamp
	.venv-bench/bin/python benchmarks/bench.py $(BENCH_ARGS)

fuzz: .venv-fuzz/stamp
	.venv-fuzz/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p recordio
	$(BIN)/mypy examples

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python -m build --quiet

clean:
	rm -rf $(VENV) .venv-bench .venv-clients .venv-fuzz build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

SOURCES := pyproject.toml setup.py recordio/_kernels.c recordio/_pixels.c recordio/_pixels.h

.venv-%/stamp: $(SOURCES)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[$*]'
	touch $@

# demo, test and dev are extras in pyproject.toml
$(VENV)/%.stamp: $(SOURCES) | $(BIN)/python
	$(PIP) --editable '.[$*]'
	touch $@
