# `make` alone prints what there is. CI runs `make lint test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(shell command -v python3.11 python3))
UV := build/tools/bin/uv
BIN := .venv/bin
DISTRIBUTIONS := $(wildcard libs/*) $(wildcard services/*) deploy/local
PROTOS := $(shell cd protos && find ciclo -name '*.proto' | sort)
BENCHMARKS := $(notdir $(basename $(wildcard tests/benchmarks/[a-z]*.py)) $(patsubst %/__main__.py,%,$(wildcard tests/benchmarks/*/__main__.py)))

help: ## Print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: build/stamps/protos build/stamps/stack ## Install everything into this folder (no root, no Docker, no Java)

build/tools/bin/uv:
	$(PYTHON) -m venv build/tools
	build/tools/bin/pip install --quiet uv==0.13.9

build/stamps/venv: requirements.lock build/tools/bin/uv $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@echo "setup 1/3: Python packages into .venv"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --python .venv requirements.lock
	@$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation $(addprefix -e ,$(DISTRIBUTIONS))
	@mkdir -p build/stamps && touch $@

build/stamps/protos: build/stamps/venv $(addprefix protos/,$(PROTOS))
	@echo "setup 2/3: contracts from protos/"
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=libs/ciclo --grpc_python_out=libs/ciclo \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:libs/ciclo \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:libs/ciclo $(PROTOS)
	@touch $@

build/stamps/stack: build/stamps/venv $(wildcard deploy/triton/requirements.lock) $(wildcard deploy/local/ciclo_local/kafka-jars.sha256)
	@echo "setup 3/3: Kafka and Triton into build/stack"
	@$(BIN)/python -m ciclo_local.install
	@touch $@

protos: build/stamps/protos ## Generate code from protos/

lock: build/tools/bin/uv ## Resolve requirements.lock anew
	@$(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)) --extra train requirements-dev.in \
	  $(foreach p,$(DISTRIBUTIONS),--no-emit-package $$(sed -n 's/^name = "\(.*\)"/\1/p' $(p)/pyproject.toml)) -o requirements.lock

lint: build/stamps/protos ## Check style, types, imports and contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/baseline.json

test: setup ## Test everything but the long suites
	$(BIN)/pytest

demo: setup ## Play a summer of flights and watch the loop close
	$(BIN)/ciclo demo

test-chaos: setup ## Kill every part at named moments: the loop still closes
	$(BIN)/pytest tests/chaos

test-long: setup ## Play the demo's controls: nothing is retrained or promoted that should not be
	set -e; for control in permuted no-labels equal; do $(BIN)/ciclo demo --control $$control; done

bench: setup ## Measure one thing beside its target: make bench NAME=monitor
	@[[ " $(BENCHMARKS) " == *" $(NAME) "* ]] || { echo "NAME is one of: $(BENCHMARKS)"; exit 2; }
	$(BIN)/python -m tests.benchmarks.$(NAME) $(ARGS)

study: build/stamps/protos ## Show offline what the flights of 2013 hold
	$(BIN)/python examples/flights/study.py --out build/study

clean: ## Remove what tests and the demo leave; keep what `make setup` installed
	rm -rf build/study build/demo* build/flights .ciclo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help setup protos lock lint test demo test-chaos test-long bench study clean
