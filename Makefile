# Every target makes what it needs, the virtual environment included. `make lock` is the only one that needs uv.

PYTHON ?= python3
VENV ?= .venv
INDEX ?= build/qp-index
BIN := $(VENV)/bin
LOCKS := .ci/requirements
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test test-core lint bench docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/ok ## index the documentation of Python and of this project, and ask three questions
	$(BIN)/qp ingest --index $(INDEX)
	$(BIN)/qp ask --index $(INDEX) "how do I compute a CRC of some bytes?"
	$(BIN)/qp ask --index $(INDEX) "how can I read a zip archive?"
	$(BIN)/qp ask --index $(INDEX) "what does the with statement do?"

# The coverage of qp_core is judged by its branches alone: lines and branches together flatter the figure.
test: $(VENV)/ok ## all tests, in 10 minutes at most; at least 95 % of the branches of qp_core
	@mkdir -p build
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --session-timeout=600 $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	@$(BIN)/coverage json --quiet --include='qp_core/**' -o build/coverage.json
	@$(BIN)/python -c 'import json, sys; \
	totals = json.load(open("build/coverage.json"))["totals"]; \
	print("qp_core: {percent_branches_covered:.1f} % of {num_branches} branches; at least 95 %".format_map(totals)); \
	sys.exit(totals["percent_branches_covered"] < 95)'

test-core: $(VENV)/ok ## the tests of the core and the plugins, without coverage (for other Pythons: PYTHON=, VENV=)
	$(BIN)/python -m pytest -n 2 --session-timeout=600 $(wildcard tests/core tests/plugins tests/properties) $(ARGS)

lint: $(VENV)/ok ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/bench.ok ## the table of budgets; ROWS=B1,B4 for some of its rows
	$(BIN)/python -m tests.benchmarks $(if $(ROWS),--rows "$(ROWS)")

docs: $(VENV)/docs.ok ## the pages under docs/ as HTML, in build/docs
	$(BIN)/sphinx-build -W --keep-going -q -b html -d build/doctrees docs build/docs

lock: ## resolve the requirements anew (needs uv: pip install uv)
	set -e; for set in "dev pyproject.toml" bench docs; do \
	  name=$${set%% *}; base=$${set#$$name}; \
	  uv pip compile --upgrade --universal --python-version 3.11 --no-python-downloads --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --quiet $$base $(LOCKS)/$$name.in -o $(LOCKS)/$$name.txt; \
	done

clean: ## remove what was built, but for the virtual environment
	rm -rf build .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find qp_core qp_plugins atlas_adapters tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ok: pyproject.toml $(LOCKS)/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "QuantumPartitioner needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r $(LOCKS)/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/bench.ok $(VENV)/docs.ok: $(VENV)/%.ok: $(LOCKS)/%.txt $(VENV)/ok
	$(PIP) install --quiet --require-hashes -r $<
	@touch $@
