# `make jet` and `make test` do all set-up themselves: Python 3.11, g++ and make is all they ask for.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
BUILD  := pyproject.toml setup.py constraints.txt $(wildcard export/_runtime.cpp)
OUT    ?= runs/jet
# A run that was stopped goes on where it was; a finished one is checked again and prints its table.

.PHONY: jet test lint types clean

jet: $(VENV)/.installed
	$(BIN)/qapsule run jet --out $(OUT) --resume

test: $(VENV)/.installed-test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -n 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info export/_runtime*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(BUILD)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[test]"
	touch $@
