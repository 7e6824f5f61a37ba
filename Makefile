# TaskFlow. `make help` lists what there is. All of it happens in .venv: nothing needs root.
#
#   PYTHON   which Python makes .venv (python3)
#   ARGS     more arguments for pytest, such as ARGS="tests/api -k limits"
#   JOBS     how many processes run the tests (2): many of them wait more than they work; those of
#            `tests/multi` and `tests/faults` never run beside each other

PYTHON ?= python3
ARGS ?=
JOBS ?= 2

bin := .venv/bin
pip := $(bin)/python -m pip --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help install dev run test check lua-check openapi bench soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: .venv/runtime.stamp ## make .venv, with what the service runs on

dev: .venv/dev.stamp ## make .venv, with what tests and checks need too

run: .venv/runtime.stamp ## start everything here: Valkey, web server, scheduler (PORT, REDIS_URL, DATABASE_URL)
	@$(bin)/python -m app.cli.local

test: check ## all checks, then all tests; ARGS go to pytest
	$(bin)/python -m pytest --numprocesses $(JOBS) --dist loadgroup $(ARGS)

check: .venv/dev.stamp lua-check ## formatting, lint, types, layers, Lua
	$(bin)/python -m ruff check .
	$(bin)/python -m ruff format --check .
	$(bin)/python -m mypy
	$(bin)/lint-imports --no-logo

# luacheck is no Python package: Debian has it as lua-check.
lua-check:
	@if command -v luacheck >/dev/null; then luacheck --quiet --no-color lua; \
	elif [ "$$CI" = true ]; then echo "luacheck is needed in CI: apt-get install lua-check" >&2; exit 1; \
	else echo "luacheck skipped: not installed (Debian: apt-get install lua-check)"; fi

openapi: .venv/runtime.stamp ## renew docs/openapi.json, which clients of the last release know
	$(bin)/python -m flask --app wsgi openapi docs/openapi.json

bench: .venv/dev.stamp ## every benchmark, one JSON line each
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
		module=$$(basename "$$file" .py); echo "== $$module"; \
		$(bin)/python -m "benchmarks.$$module" --json || exit 1; \
	done

soak: .venv/dev.stamp ## full sizes and long schedules; takes long
	$(bin)/python -m pytest -m soak --timeout 7200 $(ARGS)

clean: ## remove .venv and caches; data/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is younger than the requirements that it stands for.
.venv/runtime.stamp: requirements.txt | .venv/bin/python
	$(pip) install -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/runtime.stamp
	$(pip) install -r requirements-dev.txt
	@touch $@

.venv/bin/python:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "TaskFlow needs Python 3.11 or newer, and there is no $(PYTHON); try PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "TaskFlow needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1); try PYTHON=/path/to/python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
