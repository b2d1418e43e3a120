# Every command below builds .venv by itself on first use; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ENV := .venv/.installed
PY := .venv/bin/python
# Which Python builds the environment: `make figure1 PYTHON=/opt/python3.12/bin/python3`
PYTHON ?=
CANDIDATES := python3.11 python3.12 python3.13 python3
RECENT_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# What a command does not use is refused: `make figure1 train.steps=9` would be a variable of make that nobody reads.
SPACE := $(subst ,, )
GIVEN := $(subst \$(SPACE),_,$(MAKEOVERRIDES))
UNUSED := $(filter-out PYTHON=% $(if $(filter figure1 study chaos test-slurm test-ray,$(MAKECMDGOALS)),ARGS=%),$(GIVEN))
$(if $(UNUSED),$(error $(firstword $(UNUSED)): not used; settings go into ARGS, as in: make figure1 ARGS="seeds=10"))

.PHONY: help figure1 study figures scorecard site test chaos test-slurm test-ray lint benchmark clean

help:  ## this list
	@echo "Batch Normalization, reproduced. Commands:"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

figure1: $(ENV)  ## train baseline and BN on the embedded digits, draw Figure 1 (a minute; ARGS="train.steps=10000")
	@$(PY) scripts/figure1.py $(ARGS)

study: $(ENV)  ## retrain and collect all that the study rests on (28 hours on 2 cores; resumes)
	@$(PY) scripts/study.py $(ARGS)

figures: $(ENV)  ## figures, tables and notebooks from results/, without training (a minute)
	@OMP_NUM_THREADS=1 $(PY) scripts/figures.py
	@OMP_NUM_THREADS=1 $(PY) scripts/notebooks.py

scorecard: $(ENV)  ## judge every claim from results/ and update README.md
	@$(PY) scripts/scorecard.py

site: $(ENV)  ## the study as a site that opens from the disk: build/site/html/index.html (15 seconds)
	@OMP_NUM_THREADS=1 $(PY) scripts/website.py

# One thread per process: two processes with two threads each on two cores are many times slower.
test: $(ENV)  ## the whole test suite (7 minutes)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile --durations=5

chaos: $(ENV)  ## kill commands 200 times at random moments and compare what is left, byte for byte (17 minutes)
	@OMP_NUM_THREADS=1 $(PY) tests/chaos/chaos.py $(ARGS)

test-slurm: $(ENV)  ## sweeps on a Slurm of two nodes that it starts here: killed, cancelled, preempted, out of time (10 minutes; root)
	@$(PY) tests/clusters/slurm_trial.py $(ARGS)

test-ray: $(ENV)  ## sweeps on a Ray cluster of two nodes that it starts here: a worker killed, a node lost, a stop (4 minutes)
	@$(PY) tests/clusters/ray_trial.py $(ARGS)

lint: $(ENV)  ## format, style, imports and types, checked
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/lint-imports
	@$(PY) -m pyright

benchmark: $(ENV)  ## speed against the usual ways to train these nets (15 minutes)
	@$(PY) scripts/benchmark.py
	@$(PY) scripts/benchmark.py --images

clean:  ## remove caches (keeps .venv, data/, outputs/ and results/)
	@rm -rf .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
	@find src scripts tests notebooks benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted or failed installation leaves none, and the next command resumes it.
$(ENV): requirements.lock pyproject.toml
	@rm -f $(ENV)
	@if ! $(PY) -c '$(RECENT_ENOUGH)' 2>/dev/null; then \
	  for python in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	    if "$$python" -c '$(RECENT_ENOUGH)' 2>/dev/null; then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "error: needs Python 3.11 or newer (tried: $(or $(PYTHON),$(CANDIDATES))); name one with: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "==> creating .venv with $$("$$found" --version)"; \
	  "$$found" -m venv --clear .venv; \
	fi
	@echo "==> installing requirements.lock into .venv: about 6 GB on disk, a minute on a fast connection"
	@uv=uv; \
	if ! command -v uv >/dev/null; then \
	  uv=.venv/bin/uv; \
	  if ! $$uv --version >/dev/null 2>&1; then \
	    awk '/^[^ #]/ {wanted = /^uv==/} wanted' requirements.lock > .venv/uv.txt; \
	    $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r .venv/uv.txt || exit 1; \
	  fi; \
	fi; \
	$$uv pip install --python $(PY) --require-hashes -r requirements.lock && \
	$$uv pip install -q --python $(PY) --no-deps --no-build-isolation -e .
	@# Bytecode is written here once: where PYTHONDONTWRITEBYTECODE is set, every start would take ten seconds more.
	@env -u PYTHONDONTWRITEBYTECODE $(PY) -c "import hydra, jax, rich, scipy.stats, seaborn, torchvision, wandb"
	@touch $(ENV)
	@echo "==> environment ready"
