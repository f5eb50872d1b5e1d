# Every command of the project, for people and CI alike. `make` alone lists them.
# A step runs again only when its inputs changed: the stamps are in .venv/ and .venvs/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
EDITABLE := $(PIP) --no-deps --no-build-isolation --editable .

# What `make serve` and the tests may be told: make serve data=/srv/labkeep port=9000
data ?= ./data
host ?=
port ?=
dialect ?=
scenario ?=
name ?=

.PHONY: help
help: ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: serve
serve: .venv/server.stamp ## set up what is missing and start a server; prints its URL and a key
	$(BIN)/labkeep serve --data $(data)$(if $(host), --host $(host))$(if $(port), --port $(port))

.PHONY: test
test: .venv/dev.stamp ## set up what is missing and run everything that CI runs
	$(BIN)/python scripts/check.py

.PHONY: setup
setup: .venv/dev.stamp ## install everything that development needs, and nothing else

.PHONY: lint
lint: .venv/dev.stamp ## check style, types, import direction and generated files
	$(BIN)/python scripts/check.py lint

.PHONY: format
format: .venv/dev.stamp ## sort imports, format the code, apply the safe fixes
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

.PHONY: conformance
conformance: .venv/dev.stamp ## run the real SDKs against a live server; dialect=NAME scenario=s01 narrow it
	$(BIN)/python -m tests.conformance.run $(dialect) $(scenario)

.PHONY: demo
demo: .venv/server.stamp ## log, compare, trash and restore a few runs in a throw-away folder
	$(BIN)/python scripts/demo.py

.PHONY: bench
bench: .venv/dev.stamp ## print the numbers; name=SCRIPT runs one script of tests/bench
	for script in tests/bench/$(or $(name),[a-z]*).py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: docs
docs: .venv/dev.stamp ## write the generated pages and the generated client again
	$(BIN)/python scripts/check.py --write

.PHONY: pins
pins: .venv/dev.stamp ## resolve requirements/*.txt again from pyproject.toml and requirements/*.in
	scripts/pins

.PHONY: clean
clean: ## remove environments, caches and build output; your data folder stays
	rm -rf .venv .venvs .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/bin/python:
	"$$(scripts/find-python)" -m venv .venv

.venv/server.stamp: requirements/server.txt pyproject.toml | .venv/bin/python
	$(PIP) --requirement requirements/server.txt
	$(EDITABLE)
	@touch $@

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(PIP) --requirement requirements/dev.txt
	$(EDITABLE)
	@touch $@ .venv/server.stamp
