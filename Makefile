# Set-up and the everyday commands. Everything happens in .venv, with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow clean
.DELETE_ON_ERROR:

demo: .venv/installed
	"$(BIN)/dann" demo

test: .venv/installed-dev
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n auto

slow: .venv/installed-dev
	"$(BIN)/python" -m pytest -m slow

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("dann needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	"$(BIN)/python" -m pip install --disable-pip-version-check -q -e . -c constraints.txt
	touch $@

.venv/installed-dev: .venv/installed
	"$(BIN)/python" -m pip install --disable-pip-version-check -q -e ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf .venv
