# Two commands set everything up on a fresh machine:
#   make quick    run a cluster, load it, and check every promise   (NODES=5 RATE=20000 DURATION=30s SEED=7)
#   make test     the whole test suite
# Both make the virtual environment first, and again only when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv

NODES ?= 3
RATE ?= 5000
DURATION ?= 10s
SEED ?= 1
DURABILITY ?= os

BIN := $(VENV)/bin

.PHONY: quick test clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zmqlab needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Installed editable, so that a change in the checkout is what runs.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

quick: $(VENV)/.installed
	$(BIN)/zmqlab quick --nodes $(NODES) --rate $(RATE) --duration $(DURATION) --seed $(SEED) --durability $(DURABILITY)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
