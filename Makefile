# Two commands set everything up on a fresh machine:
#   make quick    run a cluster, load it, and check every promise   (NODES=5 RATE=20000 DURATION=30s SEED=7)
#   make test     the test suite, but for its longest part: make test-long
# and these open the lab:
#   make lab      JupyterLab with the chapters, in notebooks/       (LAB_ARGS=--no-browser)
#   make app      the panel alone, as a page without code           (LAB_ARGS=--no-browser)
# Before a release:
#   make links    where links to the repository stand, and which of them are placeholders
# Each command first makes the virtual environment, and makes it again when one of SOURCES changes.

PYTHON ?= python3
VENV ?= .venv

NODES ?= 3
RATE ?= 5000
DURATION ?= 10s
SEED ?= 1
DURABILITY ?= os
LAB_ARGS ?=

# An installation depends on these alone: it runs the Python code of the checkout, and has compiled the C code.
SOURCES := pyproject.toml setup.py zmqlab/market/_matching.c

BIN := $(VENV)/bin

# Tests that start no process of the project use all cores. The others run one at a time: nodes need the cores, and so does
# what watches the clock. SLOW_TESTS start other processes, such as a Prometheus or a notebook's kernel, or watch the
# clock, and are not marked one by one.
SLOW_TESTS := $(addprefix tests/,benchmarks cluster deploy fuzz monitoring node notebooks)
QUICK_TESTS := tests $(SLOW_TESTS:%=--ignore=%)
ALL_CORES := --numprocesses auto --dist worksteal
ALONE := process or browser or clock
# Of the long tests these share the cores: simulations and graders, and scenarios, chapters and runs in small, which wait
# most of their time.
LONG_TESTS := $(addprefix tests/,benchmarks cli cluster course engine judge lab/test_weak_modes.py market notebooks raft \
	replica runs scenarios sim wire)
OTHER_LONG_TESTS := tests $(LONG_TESTS:%=--ignore=%)

.PHONY: quick test test-long test-soak lab app links clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zmqlab needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@printf '\n%s\n' "A virtual environment is made in $(VENV)."
	$(PYTHON) -m venv $(VENV)

# An editable installation runs the Python code of the checkout, with every change. It compiles the exchange if it can.
# It takes up to two minutes and says what it is at: pip names each package and shows each download.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --editable
SAY = @printf '\n%s\n\n'

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(SAY) "zmqlab is installed into $(VENV). This happens once, and takes about half a minute."
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: $(SOURCES) | $(BIN)/python
	$(SAY) "zmqlab, JupyterLab and the tools of the tests are installed into $(VENV). This happens once, and takes a minute or two."
	$(INSTALL) '.[lab,test]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-lab

$(VENV)/.installed-lab: $(SOURCES) | $(BIN)/python
	$(SAY) "zmqlab and JupyterLab are installed into $(VENV). This happens once, and takes a minute or two."
	$(INSTALL) '.[lab]'
	@touch $@ $(VENV)/.installed

quick: $(VENV)/.installed
	$(BIN)/zmqlab quick --nodes $(NODES) --rate $(RATE) --duration $(DURATION) --seed $(SEED) --durability $(DURABILITY)

# Where links to the repository stand, and which of them hold a placeholder.
links: $(BIN)/python
	@$(BIN)/python binder/links.py

test: $(VENV)/.installed-test links
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not (long or soak or $(ALONE))" $(ALL_CORES) $(QUICK_TESTS)
	$(BIN)/python -m pytest -q -m "not (long or soak) and ($(ALONE))" $(QUICK_TESTS)
	$(BIN)/python -m pytest -q -m "not (long or soak)" $(SLOW_TESTS)

test-long: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -m long $(ALL_CORES) $(LONG_TESTS)
	$(BIN)/python -m pytest -q -m long $(OTHER_LONG_TESTS)

# Minutes at a page, and figures to read. CI does not run them.
test-soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -s -m soak tests

# PATH makes the kernel and the nodes run this environment's Python, whatever Python the shell has.
lab: $(VENV)/.installed-lab
	$(SAY) "JupyterLab starts. Your browser opens chapter 1; if it does not, open the address below. Ctrl-C twice ends it."
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url=/lab/tree/notebooks/01_start_a_cluster.ipynb $(LAB_ARGS)

# `zmqlab demo` hands these options to Voilà. Who opens the page needs the token in the address that Voilà prints.
app: $(VENV)/.installed-lab
	$(BIN)/zmqlab demo $(LAB_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f zmqlab/market/_matching.*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
