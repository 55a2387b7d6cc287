# `make run` and `make test` are all that a fresh machine needs: Python 3.11 or newer, and git.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=#  the interpreter to build .venv from; empty: the first that fits
ARGS ?=#    more words for `headrace run`, pytest or a benchmark
COUNT ?= 20# kills in `make soak`

# A virtual environment knows its own path: one that was moved with its clone, or lost its Python, is made anew.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(VENV)/.place 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.place
endif

# $(call install,SENTENCE,REQUIREMENTS): pip's words go to a log; the screen gets a count and the time while it works.
define install
echo "headrace: $(1)"; collected=0; \
(while sleep 10 >/dev/null 2>&1; do echo "  $$SECONDS s"; done) & trap "kill $$!" EXIT; \
if PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
   $(BIN)/python -m pip install --progress-bar off $(2) 2>&1 | tee $(VENV)/install.log \
   | while IFS= read -r line; do case "$$line" in \
       Collecting*) collected=$$((collected + 1)); \
         if ((collected % 20 == 0)); then echo "  $$collected packages found"; fi;; \
       Installing\ collected*) if ((collected)); then echo "  $$collected packages found; unpacking them (the longest part)"; fi;; \
     esac; done; \
then :; else grep -v '^WARNING: Location' $(VENV)/install.log | tail -n 25 >&2; \
  echo "headrace: pip failed; its whole log is $(VENV)/install.log" >&2; exit 1; fi
endef

.PHONY: run test lint bench soak clean help

run: $(VENV)/.run  ## the quickstart: Python's standard library to a trained, exported, registered model
	@$(BIN)/headrace run $(ARGS)

test: $(VENV)/.dev  ## the whole test suite, fast and slow (ARGS="-m 'not slow'" for the fast layer)
	@echo "headrace: running the tests, fast and slow (at most 15 minutes on 2 cores)"
	@$(BIN)/python -m pytest -n 2 -m "not soak" $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy and the import directions
	@echo "headrace: ruff check";    $(BIN)/python -m ruff check .
	@echo "headrace: ruff format";   $(BIN)/python -m ruff format --check .
	@echo "headrace: mypy --strict"; $(BIN)/python -m mypy
	@echo "headrace: import-linter"; $(BIN)/lint-imports

bench: $(VENV)/.dev  ## every measurement under benchmarks/, each against a named peer or limit
	@for file in benchmarks/bench_*.py; do echo "headrace: $$file"; $(BIN)/python "$$file" $(ARGS); done

soak: $(VENV)/.dev  ## the tutorial from top to bottom; then COUNT kills across the quickstart, compared byte for byte
	@echo "headrace: the tests that take minutes"; $(BIN)/python -m pytest -m soak
	@echo "headrace: $(COUNT) kills across the quickstart (about half a minute each)"
	@$(BIN)/python benchmarks/soak.py --count $(COUNT) $(ARGS)

clean:  ## remove .venv and every tool's cache (the store, .headrace, stays)
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find pipeline model data conf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

# Python 3.11 is the tested one, so it comes first; a shim that answers to the name but does not start is passed over.
$(VENV)/.place:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "headrace: making $(VENV) with $$("$$python" --version) ($$(command -v "$$python"))"; \
	    if [ -e $(VENV)/.place ]; then rm -rf $(VENV); fi; \
	    "$$python" -m venv $(VENV); printf '%s' "$(CURDIR)" > $@; exit 0; \
	  fi; \
	done; \
	echo "headrace: no Python 3.11 or newer with the venv module was found on PATH." >&2; \
	echo "allowed: python3.11, python3.12, python3.13 (3.11 is the tested one)" >&2; \
	echo "do: install one (Debian and Ubuntu: python3.11 and python3.11-venv), or name it: make run PYTHON=/path/to/python" >&2; \
	exit 2

# Stamps: only a change of the pins installs again, so a second `make` adds nothing.
$(VENV)/.run: pyproject.toml constraints.txt $(VENV)/.place
	@$(call install,installing the pinned stack into $(VENV) (about 3 minutes; log: $(VENV)/install.log),--editable .)
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(call install,installing the tools for tests and checks (about half a minute),--editable '.[dev]')
	@touch $@
