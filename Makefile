# `make` lists the targets. Each of them works in ./.venv, which is made on first need.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
UNFINISHED := $(VENV).unfinished
EXTRAS := clip,dev,gcp,test

# The first Python that is new enough and runs; pybullet has a ready build for 3.11 only.
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
    $$python -c '$(IS_SUPPORTED)' 2>/dev/null && echo $$python && break; done)

OUT ?= out
DATASET_OUT ?= $(OUT)
POLICY ?= $(DATASET_OUT)/policy
LOOK := make convert DATASET=demo, or DATASET=bridge DATA_DIR=path/of/the/tfds/folder

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup convert train test test-slow proof bench lint format wheel clean named-dataset

help: ## List the targets.
	@echo 'Targets of make:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'PYTHON=path/of/python3.11 names the interpreter that ./.venv is made with.'

setup: $(STAMP) ## Make ./.venv with every extra, at the versions of constraints.txt (9 GB).

convert: named-dataset $(STAMP) ## Convert DATASET=name [DATA_DIR=folder] [OUT=out] [ARGS='--split train'].
	@$(BIN)/ilv convert "$(DATASET)" $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") --out "$(OUT)" $(ARGS)

train: $(STAMP) ## Train a policy on DATASET_OUT=out, by default the demo's [POLICY=out/policy ARGS=...].
	@find "$(DATASET_OUT)/" -maxdepth 3 -name run.json 2>/dev/null | grep -q . \
	    || $(BIN)/ilv convert demo --out "$(DATASET_OUT)"
	@$(BIN)/ilv train "$(DATASET_OUT)" --out "$(POLICY)" $(ARGS)

test: $(STAMP) ## Run the tests [ARGS='-k boxes'].
	@$(BIN)/python -m pytest $(ARGS)

test-slow: $(STAMP) ## Run the tests that take minutes or need real weights [ARGS=...].
	@$(BIN)/python -m pytest -m slow --timeout 1200 $(ARGS)

proof: $(STAMP) ## Show that interleaved instructions generalise [OUT=out ARGS=--quick].
	@$(BIN)/python -m ilv_dataset.proof --out "$(OUT)/proof$(if $(findstring --quick,$(ARGS)),-quick)" $(ARGS)

bench: $(STAMP) ## Measure throughput and memory beside cp and TFDS [ARGS=...].
	@$(BIN)/python tests/bench $(ARGS)

lint: $(STAMP) ## Check style, format and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Format the code and mend what ruff can mend.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(STAMP) ## Build the source archive and the wheel into dist/.
	@$(BIN)/python -m build --no-isolation
	@echo 'the wheel is in dist/'

clean: ## Remove caches and build output; keeps ./.venv and what was converted.
	@rm -rf build dist ilv_dataset.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

named-dataset:
	@test -n "$(DATASET)" || { echo "name a dataset: $(LOOK)" >&2; exit 2; }

# The stamp comes last. A set-up that was cut short starts from an empty ./.venv, for half a
# package can look whole; what it had downloaded is in pip's cache and is not fetched again.
$(STAMP): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(IS_SUPPORTED)' 2>/dev/null || { \
	    echo "Python 3.11, 3.12 or 3.13 is needed, and $(or $(PYTHON),python3) is" \
	        "$$($(or $(PYTHON),python3) --version 2>/dev/null || echo not there);" \
	        "name one: make PYTHON=path/of/python3.11" >&2; exit 2; }
	@echo 'setting up ./.venv: a download of 4 GB, 9 GB on disk, some minutes' >&2
	@test ! -e $(UNFINISHED) && $(BIN)/python -c 'import pip; $(IS_SUPPORTED)' 2>/dev/null \
	    || { touch $(UNFINISHED) && $(PYTHON) -m venv --clear $(VENV); }
	@touch $(UNFINISHED)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm $(UNFINISHED)
	@touch $@
