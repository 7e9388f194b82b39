# Everything a developer or CI runs. `S=coach` narrows a target to one service, `T=path` picks tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Behind a proxy that signs for other hosts only the system's certificates are right; a bare system may have none.
CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem)
UV := UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never $(if $(CERTIFICATES),UV_SYSTEM_CERTS=true) $(BIN)/uv
SERVICES := gateway auth coach rag worker admin
LIBRARIES := common devstack standins
TESTS := $(or $(T),$(if $(S),services/$(S),))
SOURCES := services libs tests bench conftest.py
GAME ?= wesnoth
SECONDS ?= 150
Q ?=
export GAME Q

export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup up demo down ask games dev test test-first-half test-second-half test-alone test-faults e2e fuzz lint types fmt rotate-keys migrate build logs clean lock vectors calibrate bench bench-gateway bench-peers

##@ Run
up: setup ## Start the whole system, ask two questions, stay up (DUGOUT_PORT=8000, DUGOUT_STATE=.dugout)
	@$(BIN)/python -m devstack up

demo: setup ## The same, then stop by itself
	@$(BIN)/python -m devstack demo

ask: setup ## Ask the running system: make ask Q="창병은 뭘로 승급할 수 있어?" GAME=wesnoth
	@$(BIN)/python -m devstack ask --game "$$GAME" "$$Q"

games: setup ## Load all sample games into the running system (GAMES="spd dcss" for some)
	@$(BIN)/python -m devstack games $(GAMES)

down: ## Stop a system started in another terminal
	@$(BIN)/python -m devstack down

logs: ## Follow the logs of the running system
	@$(BIN)/python -m devstack logs

##@ Develop
setup: $(VENV)/.ready ## Create .venv from the lock file

# pip only brings uv, by hash; everything else comes from uv.lock, by hash. What an interrupted setup left is made anew.
$(VENV)/.ready: uv.lock pyproject.toml requirements-uv.txt $(wildcard services/*/pyproject.toml libs/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dugout needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	@echo "setting up $(VENV); the first time this downloads all packages"
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(UV) sync --quiet --locked --python $(BIN)/python
	@touch $@

dev: setup ## One service alone, reloading: make dev S=coach (its settings come from the environment)
	@test -n "$(S)" || { echo "which service? make dev S=coach"; exit 2; }
	$(BIN)/python -m uvicorn --factory $(S).app:build --reload --reload-dir services/$(S) --reload-dir libs/common

fmt: setup ## Format and sort imports
	$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lint: setup ## Style, format, spelling
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/typos services libs tests bench docs *.md

types: setup ## mypy, strict
	$(BIN)/mypy $(foreach s,$(SERVICES),-p $(s)) $(foreach l,$(LIBRARIES),-p $(l)) -p bench.gateway

test: lint types ## Everything: lint, types, unit, integration, contract, e2e; coverage at least 85 %
	@$(if $(TESTS),$(BIN)/python -m pytest $(TESTS),$(TEST_HALVES))

# Most tests wait for something most of the time, so two halves run at once, each with a Postgres and Redis of its own.
# The second half's output follows when both have ended.
define TEST_HALVES
rm -f .coverage .coverage.*; \
$(MAKE) --no-print-directory --jobs=2 --keep-going test-first-half test-second-half; failed=$$?; \
cat .second-half.log; rm -f .second-half.log; \
test $$failed = 0 && $(BIN)/coverage combine --quiet .coverage.first .coverage.second && \
$(BIN)/coverage report --fail-under=85
endef

test-first-half:
	@COVERAGE_FILE=.coverage.first $(BIN)/python -m pytest libs services/admin services/auth services/coach \
	  services/worker tests/contract --cov --cov-report=

test-second-half:
	@COVERAGE_FILE=.coverage.second $(BIN)/python -m pytest services/gateway services/rag tests/e2e \
	  --cov --cov-report= > .second-half.log 2>&1

test-alone: $(addprefix test-alone-,$(or $(S),$(SERVICES))) ## Each service's tests in an environment that holds only what it declares

test-alone-%: setup
	@echo "== $*"
	@$(UV) run --quiet --isolated --locked --package dugout-$* --group dev python -m pytest -q services/$*

test-faults: setup ## Minutes of outage and load: S=gateway or T=path for some of it
	$(BIN)/python -m pytest -m faults -rP --timeout 600 $(TESTS)

e2e: setup ## Through the gateway only: against DUGOUT_URL, or a system of its own
	$(BIN)/python -m pytest tests/e2e

fuzz: setup ## Hold the whole API against its document, as everybody who may call (SECONDS=150 each)
	DUGOUT_FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest -rP --timeout 3600 tests/e2e/test_document.py

rotate-keys: setup ## Sign tokens with a new key; the old one's tokens hold until they expire (about a minute)
	@$(BIN)/python -m devstack rotate-keys

migrate: setup ## Bring the schemas of the running system to their newest version
	@$(BIN)/python -m devstack migrate

##@ Data
vectors: setup ## Embed the sample games again (vectors are shipped beside the data)
	$(BIN)/python -m rag.vectors data/*/

calibrate: setup ## Measure the thresholds of the local embedding model again
	$(BIN)/python bench/calibrate.py

##@ Measure
bench: bench-gateway ## All benchmarks that need nothing else installed; docs/benchmarks.md says what they mean

bench-gateway: setup ## The gateway's throughput and added latency beside other proxies (3 minutes)
	@$(BIN)/python -m bench.gateway

bench-peers: setup .bench/litellm/.ready ## The gateway beside LiteLLM's proxy, in an environment of its own (3 minutes)
	@$(BIN)/python -m bench.gateway peers

.bench/litellm/.ready: bench/gateway/peers/litellm.lock | $(VENV)/.ready
	@echo "setting up .bench/litellm; the first time this downloads LiteLLM and its packages"
	@$(BIN)/python -m venv --clear .bench/litellm
	@$(UV) pip sync --quiet --require-hashes --python .bench/litellm/bin/python $<
	@touch $@

##@ Release
build: ## Build the images: make build S=coach for one
	@for service in $(or $(S),$(SERVICES)); do docker build --build-arg SERVICE=$$service --tag dugout-$$service . || exit 1; done

lock: setup ## Renew uv.lock and the benchmarks' LiteLLM
	$(UV) lock --upgrade
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  bench/gateway/peers/litellm.in --output-file bench/gateway/peers/litellm.lock

clean: ## Remove the environment, caches and the local state
	@! test -x $(BIN)/python || $(BIN)/python -m devstack clean
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

help: ## This text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
