# msctl: `make up` runs the course's system, `make test` proves it. `make` alone lists the rest.

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=
SEEDS  ?= 5000

# Workers of pytest-xdist: more than there are cores, since tests wait; those with processes wait most.
# pytest-randomly shuffles the tests, so that one that needs another is found at once, and prints its seed:
# ARGS="--randomly-seed=N" repeats an order, ARGS="-p no:randomly" keeps that of the files.
CORES  := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
MORE    = 2
JOBS   ?= $(shell expr $(CORES) + $(MORE))
PYTEST  = $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8
# "no" installs none of the programs that tests ask; the tests that need a missing one are skipped.
MSCTL_TEST_TOOLS ?= yes

# Compiled modules are what a user of an installed msctl has; without them every start compiles anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up install dev tools lint unit test long sim check bench binary release pictures clean ci

help: ## Show what there is
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: install ## Run the course's system (Ctrl-C stops it); ARGS="-d" puts it in the background
	@echo 'In another terminal: . $(BIN)/activate && msctl send "Hello World!" && msctl consume -n 1'
	@$(BIN)/msctl up $(ARGS)

install: $(VENV)/installed ## Install msctl into .venv

dev: $(VENV)/installed-dev ## Install msctl and the tools that its checks need

tools: ## Install the programs that tests ask (Debian); says which and why first. MSCTL_TEST_TOOLS=no: none
	@MSCTL_TEST_TOOLS=$(MSCTL_TEST_TOOLS) sh tests/support/install-tools.sh

lint: dev ## Format and lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: MORE = 1
unit: dev ## Run the tests that need nothing but Python, in under a minute
	$(PYTEST) tests/unit $(ARGS)

test: dev tools ## Run all tests, with branch coverage of what runs in the tests' own processes
	$(PYTEST) --cov $(ARGS)

long: dev tools ## Run what is too large for every change: GiB bodies, many examples, a second build
	$(PYTEST) --long -o faulthandler_timeout=3600 $(ARGS)

sim: dev ## Run our own broker, gateway and clients through SEEDS=5000 simulated bad networks
	MSCTL_TEST_SEEDS=$(SEEDS) $(PYTEST) -o faulthandler_timeout=3600 tests/unit/simulation/test_own_system.py $(ARGS)

check: lint test ## All that must be green before a change lands

bench: dev ## Measure speed, as ratios of two things measured in turn
	@MSCTL_TEST_TOOLS=$(MSCTL_TEST_TOOLS) sh tests/support/install-tools.sh bench
	$(BIN)/python -m tests.bench $(ARGS)

binary: dev ## Build dist/msctl: one file that runs without Python
	@MSCTL_TEST_TOOLS=$(MSCTL_TEST_TOOLS) sh tests/support/install-tools.sh
	$(BIN)/python .packaging/binary.py

release: dev ## Build what a release consists of into dist: wheel, sdist, binary, bill of materials, checksums
	@MSCTL_TEST_TOOLS=$(MSCTL_TEST_TOOLS) sh tests/support/install-tools.sh
	$(BIN)/python .packaging/release.py $(ARGS)

pictures: dev ## Make the pictures in docs/images (needs Chromium)
	$(BIN)/python -m tests.support.pictures

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

ci: check ## What decides whether a change lands

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "msctl needs Python 3.11 or newer; none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@sed '/^# Development/,$$d' constraints.txt > $(VENV)/runtime.txt
	$(PIP) --require-hashes -r $(VENV)/runtime.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --require-hashes -r constraints.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/installed
