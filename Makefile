# msctl: `make up` runs the course's system, `make test` proves it. `make` alone lists the rest.

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN    := $(VENV)/bin
ARGS   ?=

# Compiled modules are what a user of an installed msctl has; without them every start compiles anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up install dev lint test check bench binary pictures clean ci

help: ## Show what there is
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: install ## Run the course's system (Ctrl-C stops it); ARGS="-d" puts it in the background
	@echo 'In another terminal: . $(BIN)/activate && msctl send "Hello World!" && msctl consume -n 1'
	@$(BIN)/msctl up $(ARGS)

install: $(VENV)/installed ## Install msctl into .venv

dev: $(VENV)/installed-dev ## Install msctl and the tools that its checks need

lint: dev ## Format and lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: dev ## Run the tests, with branch coverage
	@sh tests/support/install-tools.sh
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: lint test ## All that must be green before a change lands

bench: dev ## Measure speed, as ratios of two things measured in turn
	@sh tests/support/install-tools.sh bench
	$(BIN)/python -m tests.bench $(ARGS)

binary: dev ## Build dist/msctl: one file that runs without Python
	@sh tests/support/install-tools.sh
	$(BIN)/python .packaging/binary.py

pictures: dev ## Make the pictures in docs/images (needs Chromium)
	$(BIN)/python -m tests.support.pictures

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

ci: check ## What decides whether a change lands

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "msctl needs Python 3.11 or newer; none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed
