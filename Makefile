# Two commands for a new user: `make demo` and `make test`. `make help` lists all of them.
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
# Whoever operates takes what is there: an older package does its work, and at night no network may be.
OPERABLE := $(if $(wildcard $(BIN)/python),,$(INSTALLED))
SCALE ?= 1

# What a demo's profiles say of where things are; a real host has deployments/services or a folder of its own.
export RUNBOOK_SERVICES ?= $(if $(wildcard .sandbox/services),$(CURDIR)/.sandbox/services)
# The demo's certificates are of an authority of its own.
TRUST := $(if $(wildcard .sandbox/tls/trusted.pem),env SSL_CERT_FILE="$(CURDIR)/.sandbox/tls/trusted.pem")
# What is on this host is asked directly; where both variables are set, programs heed the small one.
COMMA := ,
UNPROXIED := $(or $(no_proxy),$(NO_PROXY))
export no_proxy := $(UNPROXIED)$(if $(UNPROXIED),$(COMMA))127.0.0.1,localhost
export NO_PROXY := $(no_proxy)
export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE ?= copy
# Databases that are made and dropped for single tests keep a disk busy. /dev/shm is memory; containers often have
# little of it, or one from which nothing may be run.
MEMORY = $(shell { cat /proc/mounts /proc/meminfo; df -Pk /dev/shm; } 2>/dev/null | awk ' \
  $$2 == "/dev/shm" {programs = $$4 !~ /noexec/} $$1 == "MemAvailable:" {free = $$2} $$6 == "/dev/shm" {room = $$4} \
  END {if (programs && free > 8000000 && room > 4000000) print "/dev/shm"}')
# Some images set it; every process of Prefect would then compile all of its modules anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo down status break mend faults alert told test lint types imports unit doctor deploy run walk bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Start two operated systems and Prefect, back both up, restore both; stays up
	@$(BIN)/python -m deployments.demo --scale $(SCALE)

down: $(OPERABLE) ## Stop everything that the demo started
	@$(BIN)/python -m deployments.sandbox down

status: $(OPERABLE) ## Say what of the demo is running
	@$(BIN)/python -m deployments.sandbox status

break: $(INSTALLED) ## Break an application of the demo by real means: FAULT=... [SERVICE=...]
	@$(BIN)/python -m deployments.sandbox break "$(FAULT)" $(if $(SERVICE),--service "$(SERVICE)")

mend: $(INSTALLED) ## Undo everything that was broken
	@$(BIN)/python -m deployments.sandbox mend

faults: $(INSTALLED) ## List what can be broken
	@$(BIN)/python -m deployments.sandbox faults

alert: $(INSTALLED) ## Send the demo the alert that a system is down, and follow it: [SERVICE=invoice]
	@$(BIN)/python -m deployments.sandbox alert $(if $(SERVICE),--service "$(SERVICE)")

told: $(INSTALLED) ## Show the pages and mails that people of the demo were sent
	@$(BIN)/python -m deployments.sandbox told

# Side by side: the check of types alone takes half a minute, of one processor.
test: $(INSTALLED) ## Run everything that must pass: lint, types, import contract, tests
	@$(MAKE) --no-print-directory --jobs=2 lint types imports unit

lint: $(INSTALLED) ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types, strictly
	@$(BIN)/mypy

imports: $(INSTALLED) ## Check that imports run one way
	@$(BIN)/lint-imports --no-cache

unit: $(INSTALLED) ## Run the tests on real servers
	@folder="$$(mktemp -d "$(or $(TMPDIR),$(MEMORY),/tmp)/tests-XXXXXX")" && chmod 755 "$$folder" && \
	  trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM && \
	  TMPDIR="$$folder" $(BIN)/pytest -n 3 --dist worksteal --basetemp="$$folder/t"

doctor: $(OPERABLE) ## Check every service profile against the living systems
	@$(TRUST) $(BIN)/python -m deployments.doctor

deploy: $(OPERABLE) ## Apply prefect.yaml to the Prefect server of PREFECT_API_URL
	@$(BIN)/python -m deployments.deploy

run: $(OPERABLE) ## Break glass: run a runbook here, with no Prefect server: FLOW=... SERVICE=... [PARAMETERS="name=value ..."]
	@$(TRUST) $(BIN)/python -m deployments.run "$(FLOW)" "$(SERVICE)" $(PARAMETERS)

walk: $(INSTALLED) ## Kill what the tests kill at sampled steps at every one, with all that may befall a rotation; an hour
	@RUNBOOK_WALK=1 $(BIN)/pytest -n 2 --dist worksteal $$(grep -lr "thoroughness import WHOLE" tests --include="test_*.py")

bench: $(INSTALLED) ## Measure speed and memory against the runbook's own commands
	@$(BIN)/python -m benchmarks.backup
	@$(BIN)/python -m benchmarks.restore
	@$(BIN)/python -m benchmarks.cleanup
	@$(BIN)/python -m benchmarks.outage
	@$(BIN)/python -m benchmarks.alerts

clean: $(if $(wildcard $(BIN)/python),down) ## Stop everything and remove what was installed and made
	@rm -rf $(VENV) .tools .sandbox deployments/sandbox/node_modules

$(INSTALLED): uv.lock pyproject.toml $(UV)
	@$(UV) sync --frozen --quiet --python "$$(command -v $(PYTHON))"
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed: $(PYTHON) is older or missing. Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) came without venv: install your system's package for it (Debian: python3-venv), or uv." >&2; exit 1; }
	@$(PYTHON) -m venv .tools || { rm -rf .tools; exit 1; }
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
