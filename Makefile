# Each target makes or refreshes .venv by itself, and does not when nothing has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types tables clean

demo: $(STAMP)
	rm -rf demo-output
	$(BIN)/dualpath demo --output demo-output

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/pyright

# The tables and pictures of docs/; hours on two cores, and goes on where it was.
tables: $(STAMP)
	$(BIN)/python scripts/make_tables.py

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(wildcard src/dualpath/nn/native/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "dualpath needs Python 3.11 or newer, this is %s; run make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo-output tables-output .pytest_cache .ruff_cache .hypothesis
