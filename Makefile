# `make` alone lists the targets. Every one of them sets up .venv first where that is needed.
MAKEFLAGS += --no-print-directory
# Dozens of processes import torch: compiling it anew in each takes longer than all that they do with it.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
WORKERS := --numprocesses=3
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint format generate bench cluster-up cluster-down clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(READY)  ## fine-tune a small model on two local "nodes"; again after Ctrl-C to go on
	@echo "Fine-tuning a small model on two local nodes: finetune run examples/reviews.yaml"
	@$(BIN)/python examples/make_demo.py
	@$(BIN)/finetune run examples/reviews.yaml

test: lint  ## everything, on a Kubernetes that it builds itself (root and Go), or on KUBECONFIG
	@$(BIN)/pytest $(WORKERS)

lint: $(READY)  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

format: $(READY)  ## put the code into its one form
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

generate: $(READY)  ## write crds/, the training arguments and the generated pages of docs/ anew from their sources
	@$(BIN)/python scripts/generate_training_arguments.py
	@$(BIN)/python scripts/generate_crds.py
	@$(BIN)/python scripts/generate_chart.py
	@$(BIN)/python scripts/generate_reference.py
	@$(BIN)/python scripts/generate_troubleshooting.py
	@$(BIN)/python scripts/generate_bad_input.py
	@$(BIN)/python scripts/generate_architecture.py

bench: $(READY)  ## measure speed and memory beside a baseline (BENCH=name for one)
	@$(BIN)/python -m benchmarks $(BENCH)

cluster-up: $(READY)  ## a cluster of two nodes with the images, to play with; prints its KUBECONFIG
	@$(BIN)/python -m tests.support.cluster up

cluster-down: $(READY)  ## its end
	@$(BIN)/python -m tests.support.cluster down

clean: cluster-down  ## what all of this has left on the machine; not .finetune, where your models are
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache "$${XDG_CACHE_HOME:-$$HOME/.cache}/finetune-operator"

$(READY): pyproject.toml constraints.txt
	@scripts/setup
	@touch $@
