# KnowledgeBeast: `make` prints what there is. Everything needed is installed on the way (see hack/setup.sh).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/knowledgebeast
# The tools' folder comes last: what the machine has goes first.
export PATH := $(PATH):$(CACHE)/tools/bin
# Where the machine forbids bytecode, every start of Python would compile all packages again.
unexport PYTHONDONTWRITEBYTECODE
RUN := uv run --frozen --no-sync
CLUSTER := python3 hack/local-cluster/cluster.py
PYTEST := $(RUN) pytest
# One more than there are cores: some tests wait, and leave theirs idle.
FAST_WORKERS = $(shell python3 -c 'import os; print(os.cpu_count() + 1)')

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

.PHONY: test test-fast test-integration test-e2e test-seeded-bugs kill-campaign crash-tests operator-crashes soak backup-soak
test: lint test-fast test-integration test-e2e ## everything that CI runs, the real cluster included
	@echo "make test: all of it passed"
test-fast: setup ## unit and contract tests on all cores
	$(PYTEST) -q -n $(FAST_WORKERS) --dist worksteal tests/unit tests/contract
test-integration: setup model ## the service with a real Chroma, model, database and browser
	@hack/setup.sh --with-browser
	$(PYTEST) -q tests/integration
test-seeded-bugs: setup model ## proof that the tests can fail: bugs in a copy of the source, found one by one (BUGS=words)
	@$(RUN) python hack/seeded_bugs.py $(BUGS)
kill-campaign: setup model ## SIGKILL service and Chroma at random instants (KILLS=300, KILL_SEED=1, KILLS_SUMMARY=file)
	KILLS=$(or $(KILLS),300) $(PYTEST) -q -s tests/integration/service/test_kill_campaign.py
crash-tests: setup ## restore, backup, salvage, clean … killed, torn and out of space at every call that changes a file
	CRASHES=all $(PYTEST) -v tests/integration/service/test_*_crashes.py
operator-crashes: setup-go ## the operator killed at every write to a real API server (CRASH_STEP=1: every one)
	CRASH_STEP=$(or $(CRASH_STEP),1) $(PYTEST) -v -s tests/e2e/test_operator_crashes.py
soak: setup model ## continuous updates of 1,000 documents: memory, descriptors, log (SOAK_SECONDS=60)
	SOAK_SECONDS=$(or $(SOAK_SECONDS),60) $(PYTEST) -q -s tests/integration/service/test_soak.py
backup-soak: setup model ## backups under writes and searches, each restored and checked (BACKUPS=200)
	BACKUPS=$(or $(BACKUPS),200) $(PYTEST) -q -s tests/integration/service/test_backup_soak.py
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
	$(RUN) python -m knowledgebeast_service.docs --check docs/service-reference.md
	$(RUN) pyright
fmt: setup ## format and sort imports
	$(RUN) ruff check --fix
	$(RUN) ruff format

# Each prints ratios to a peer of the same run and writes build/benchmarks/*.json; benchmarks/*.py --help has more.
.PHONY: bench bench-retrieval bench-service bench-operator bench-faults bench-restore
bench: bench-retrieval bench-service bench-operator bench-faults ## all benchmarks
bench-retrieval: setup model ## keyword search against rank-bm25, restart, rebuild, ingestion, busy writers, shipping
	@status=0; for one in keyword_search embedding restart rebuild ingest writers shipping; do \
	  $(RUN) python benchmarks/$$one.py || status=1; done; exit $$status
bench-service: setup model ## latency and throughput of queries, against embedding + Chroma alone
	$(RUN) python benchmarks/service.py
bench-operator: setup-go ## CPU and writes of one operator with 200 objects in which nothing happens
	PYTHONPATH=hack:hack/local-cluster:tests/support $(RUN) python benchmarks/operator_scale.py
bench-faults: setup-go images ## real faults on a real cluster: right option, times, wrong actions (SCENARIO=names, RECORD=1, PRINT=1)
	@PYTHONPATH=hack:hack/local-cluster $(RUN) python benchmarks/faults.py $(if $(SCENARIO),--scenario $(SCENARIO)) \
	  $(if $(RECORD),--record) $(if $(PRINT),--print)
bench-restore: setup ## how long a database is away when it is restored, against a plain copy (MEGABYTES=1000; alone: 5 min)
	$(RUN) python benchmarks/restore.py $(if $(MEGABYTES),--megabytes $(MEGABYTES))

.PHONY: model images
model: setup ## the ONNX file of the embedding model, cached by content
	@$(RUN) python service/tools/build_model.py
images: setup-go ## build both images and print their sizes (buildah or docker); VARIANT=cuda: the service with torch
	@$(RUN) python hack/images.py build $(if $(VARIANT),service-$(VARIANT))

.PHONY: cluster-up cluster-down
cluster-up: setup-go ## start the local Kubernetes cluster (needs root on Linux)
	@$(CLUSTER) up
cluster-down: ## stop it and leave nothing behind
	@$(CLUSTER) down

.PHONY: docs
docs: setup ## regenerate the generated parts of docs/
	$(RUN) python -m knowledgebeast_operator.docs > docs/runbook-mapping.md
	$(RUN) python -m knowledgebeast_service.docs > docs/service-reference.md

.PHONY: clean
clean: ## remove what was built in this folder (the cache and the cluster's state stay)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
