# `make` lists what there is. Everything runs in $(VENV), which the first target that needs it creates.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
WORKERS ?= auto
PORT ?= 8080
SLUICE_DATA ?=
TRIALS ?= 50
EXTRAS := airflow,celery,kubernetes,s3,postgres,private-pgm,demo,dev
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
COMPOSE := docker/compose.yaml

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-scheduler pictures lint format bench-pipeline bench-parse bench-records bench-adult bench-tables bench-noise bench-ledger chaos docker-lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with everything; does nothing when nothing changed

demo: $(STAMP) ## run the whole workflow once on a small public table
	$(BIN)/python -m dags.demo

up: $(STAMP) ## Airflow on loopback with the demo's DAGs, to trigger and approve in the browser (PORT=8080)
	@PORT=$(PORT) $(BIN)/python -m dags.up

test: lint ## lint, then run the tests, on all cores (PYTEST_ARGS="-k ledger -x" narrows them, WORKERS=0 takes one)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) $(PYTEST_ARGS)

test-scheduler: $(STAMP) ## the tests against a real scheduler, workers, broker and browser (many minutes)
	@$(BIN)/python -m pytest -m scheduler $(PYTEST_ARGS)

pictures: $(STAMP) ## the README's pictures, of a run in a real browser -> docs/*.png
	$(BIN)/python -m tests.browser.pictures

lint: $(STAMP) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy synth operators dags
	$(BIN)/lint-imports

format: $(STAMP) ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-pipeline: $(STAMP) ## time the steps of a release, bare and through Airflow -> build/bench/pipeline.json
	$(BIN)/python -m tests.benchmarks.pipeline

bench-parse: $(STAMP) ## what 50 share contracts cost Airflow's DAG processor -> build/bench/parse.json
	$(BIN)/python -m tests.benchmarks.parse

bench-records: $(STAMP) ## the demo's panel with 1, 2, 3 and 5 records a person -> build/bench/records.json
	$(BIN)/python -m tests.benchmarks.records

bench-adult: $(STAMP) ## what a release of Adult teaches (needs SLUICE_DATA) -> build/bench/adult.json
	$(BIN)/python -m tests.benchmarks.adult

bench-tables: $(STAMP) ## ours and its peers on five public tables (needs SLUICE_DATA; narrowed by ONLY= EPS= SEEDS= PEERS= CAP=, gone on with by RESUME=1) -> build/bench/tables.json
	@test -n "$(SLUICE_DATA)" || { echo 'bench-tables: give the folder that holds tabular/, as in make bench-tables SLUICE_DATA=/path/to/data' >&2; exit 2; }
	@SLUICE_DATA='$(SLUICE_DATA)' ONLY='$(ONLY)' EPS='$(EPS)' SEEDS='$(SEEDS)' PEERS='$(PEERS)' CAP='$(CAP)' RESUME='$(RESUME)' $(BIN)/python -m tests.benchmarks.tabular

bench-noise: $(STAMP) ## what secret noise costs, per draw and in a training step -> build/bench/noise.json
	$(BIN)/python -m tests.benchmarks.noise

chaos: $(STAMP) ## kill workers at every boundary and TRIALS times in every other way -> build/bench/chaos.json
	$(BIN)/python -m tests.chaos --trials $(TRIALS)

bench-ledger: $(STAMP) ## the ledger under load and under a long history -> build/bench/ledger.json, ledger_history.json
	$(BIN)/python -m tests.benchmarks.ledger

docker-lint: $(STAMP) ## check docker/ as far as that goes without a container engine
	@if [ -x $(BIN)/hadolint ]; then set -x; $(BIN)/hadolint docker/Dockerfile; \
	else echo 'docker-lint: hadolint has no build for this platform, the Dockerfile is not checked'; fi
	$(BIN)/yamllint --strict --config-file docker/.yamllint docker
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE)
	bash -n docker/postgres/create-ledger.sh
	@if docker compose version >/dev/null 2>&1; then set -x; \
	  docker compose --env-file docker/.env.example --file $(COMPOSE) --profile gpu config --quiet; \
	else echo 'docker-lint: no docker compose here, its own reading of the file is not checked'; fi

clean: ## remove caches and build results; keeps .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# PyTorch comes first: left to a resolver, a machine without a GPU would download gigabytes of CUDA libraries.
# Without a GPU the CPU build is looked for where pip is configured to look, then where uv knows it to be.
$(STAMP): pyproject.toml constraints.txt overrides.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluice needs Python 3.11 or newer, and %s is %s: name another one, as in make install PYTHON=python3.12" % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@set -e; torch='torch==$(TORCH)'; \
	pip='$(BIN)/python -m pip install --constraint constraints.txt'; \
	uv='$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt'; \
	if $(BIN)/python -c 'import sys; from importlib.metadata import version; sys.exit(version("torch").split("+")[0] != "$(TORCH)")' 2>/dev/null; then \
	  echo "$$torch is installed"; \
	elif nvidia-smi >/dev/null 2>&1; then \
	  $$pip "$$torch"; \
	elif $$pip "$$torch+cpu" || $$uv --torch-backend=cpu "$$torch"; then :; \
	else \
	  echo 'WARNING: no CPU build of PyTorch can be reached from here. Installing the default build, which may bring CUDA libraries.' >&2; \
	  $$pip "$$torch"; \
	fi
	$(BIN)/uv pip install --python $(BIN)/python --override overrides.txt --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
