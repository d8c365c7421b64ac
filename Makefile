# KnowledgeBeast: `make` prints what there is. Everything needed is installed on the way (see hack/setup.sh).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/knowledgebeast
# The tools' folder comes last: what the machine has goes first.
export PATH := $(PATH):$(CACHE)/tools/bin
RUN := uv run --frozen --no-sync
CLUSTER := python3 hack/local-cluster/cluster.py
PYTEST := $(RUN) pytest

.PHONY: help
help: ## this list
	@awk -F ':.*## ' 'BEGIN {print "make <target>:"} /^[a-z-]+:.*## / {printf "  %-18s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup setup-go
setup: ## install uv, Python packages and missing system packages
	@hack/setup.sh
setup-go:
	@hack/setup.sh --with-go

.PHONY: demo
demo: setup-go ## from nothing to a healed incident, on screen (INCIDENT=chroma-hung)
	@$(RUN) python hack/demo/demo.py $(if $(INCIDENT),--incident $(INCIDENT))

.PHONY: test test-fast test-integration test-e2e
test: lint test-fast test-integration test-e2e ## everything that CI runs, the real cluster included
	@echo "make test: all of it passed"
test-fast: setup ## unit and contract tests, under a minute
	$(PYTEST) -q tests/unit tests/contract
test-integration: setup model ## the service with a real Chroma, model and database
	$(PYTEST) -q tests/integration
test-e2e: setup-go images ## scenarios on a real cluster: KUBECONFIG's, or the local one
	@hack/e2e.sh

.PHONY: lint fmt
lint: setup ## ruff, pyright (strict), import-linter, codespell, generated docs, lock file
	uv lock --check --quiet
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) lint-imports
	$(RUN) codespell
	$(RUN) python -m knowledgebeast_operator.docs --check docs/runbook-mapping.md
	$(RUN) pyright
fmt: setup ## format and sort imports
	$(RUN) ruff check --fix
	$(RUN) ruff format

.PHONY: model images
model: setup ## the ONNX file of the embedding model, cached by content
	@$(RUN) python service/tools/build_model.py
images: setup-go ## build both images and print their sizes (buildah or docker)
	@$(RUN) python hack/images.py build

.PHONY: cluster-up cluster-down
cluster-up: setup-go ## start the local Kubernetes cluster (needs root on Linux)
	@$(CLUSTER) up
cluster-down: ## stop it and leave nothing behind
	@$(CLUSTER) down

.PHONY: docs
docs: setup ## regenerate the generated parts of docs/
	$(RUN) python -m knowledgebeast_operator.docs > docs/runbook-mapping.md

.PHONY: clean
clean: ## remove what was built in this folder (the cache and the cluster's state stay)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
