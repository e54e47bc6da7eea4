# `make check` is what CI runs, in the environment at hand.
PYTHON ?= .venv-dev/bin/python

.PHONY: check test lint types wheel

check: lint types test

test:
	$(PYTHON) -m pytest

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

wheel:
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
