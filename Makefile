# The two commands: `make demo` shows Lastmile at work, `make test` checks it; `make test-system` does what takes long.

VENV := .venv
BIN := $(VENV)/bin
# One process more than two cores: a test waits now and then. `make test PROCESSES=8` for a machine with more cores.
PROCESSES ?= 3
PARALLEL := --numprocesses $(PROCESSES) --dist worksteal
# Tests of the whole system share expensive fixtures: tests/support/distribution.py.
PARALLEL_SYSTEM := --numprocesses $(PROCESSES) --dist loadgroup
STATE := .lastmile

# Hundreds of processes import the same modules. An image that sets this makes each of them compile all of it.
unexport PYTHONDONTWRITEBYTECODE

# The first of these that is new enough; `make PYTHON=/path/to/python3.12` overrides.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

.PHONY: help demo test test-system test-every-way coverage test-netbox up docs bench bench-large lock clean

help:
	@echo "make demo   start the whole stack, provision the example orders, show the result, stop"
	@echo "make up     run the stack until Ctrl-C"
	@echo "make test   lint, types, import contracts, and all tests but those of the whole system"
	@echo "make test-system  the tests of the whole system: crashes and outages, deliberate bugs, installations, the demo"
	@echo "make test-every-way  every fault at every step of every order type, also what all of them do alike; more generated orders; 1 000 lines in the chaos with NetBox, and with devices that wait; an audit of 200 000 delegations; a take-over of 1 000 accounts; 100 kills of the API; every supported Python"
	@echo "make coverage  the tests, and which lines they run; takes half as long again"
	@echo "make test-netbox  the NetBox contract tests, against NETBOX_URL and NETBOX_TOKEN: docs/development/netbox-stand-in.md"
	@echo "make bench  run the benchmarks, each next to a peer in the same run; about 9 minutes"
	@echo "make bench-large  the same, also with 10 million delegations: some minutes more, and 10 GB of disk"
	@echo "make docs   write the generated pages of docs/reference/"
	@echo "make lock   pin the newest dependencies that pyproject.toml allows (needs uv)"
	@echo "make clean  remove the virtual environment and the stack's data"

demo: $(VENV)/installed
	@$(BIN)/lastmile demo

up: $(VENV)/installed
	@$(BIN)/lastmile up

test: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	@echo "$(BIN)/mypy (beside the tests; what it says is at the end)"
	@types=$$(mktemp); $(BIN)/mypy >$$types 2>&1 & mypy=$$!; \
	echo "$(BIN)/pytest $(PARALLEL) --ignore tests/system"; \
	$(BIN)/pytest $(PARALLEL) --ignore tests/system; tests=$$?; \
	wait $$mypy; mypy=$$?; echo "mypy:"; cat $$types; rm $$types; \
	test $$tests -eq 0 -a $$mypy -eq 0

test-system: $(VENV)/installed
	$(BIN)/pytest $(PARALLEL_SYSTEM) tests/system

test-every-way: $(VENV)/installed
	LASTMILE_EVERY_CASE=1 $(BIN)/pytest $(PARALLEL_SYSTEM) tests/system/test_every_way.py tests/system/test_every_way_with_netbox.py tests/system/test_every_way_with_controllers.py \
		tests/system/chaos/test_netbox.py tests/system/test_mode_changes.py tests/system/test_client_end.py tests/system/test_audit_scale.py tests/system/test_waiting_lines.py tests/workflows/test_every_way.py \
		tests/workflows/test_opposites.py tests/cli/test_radius_import.py tests/api/test_ipv6_lifecycle.py \
		tests/system/test_api_outages.py tests/system/test_api_document.py \
		tests/system/packaging/test_pythons.py tests/api/test_hooks.py

coverage: $(VENV)/installed
	$(BIN)/pytest --cov $(PARALLEL_SYSTEM)

test-netbox: $(VENV)/installed
	@test -n "$$NETBOX_URL" -a -n "$$NETBOX_TOKEN" || { echo "Set NETBOX_URL and NETBOX_TOKEN to those of a NetBox" \
		"for tests: docs/development/netbox-stand-in.md says how to run one. Without them, make test uses the stand-in."; exit 1; }
	$(BIN)/pytest tests/netbox

docs: $(VENV)/installed
	@$(BIN)/python -m docs.generate

bench: $(VENV)/installed
	@$(BIN)/python -m bench

bench-large: $(VENV)/installed
	@$(BIN)/python -m bench --large

# Runs again when the pins or the packages change. pip installs what the lock lists and resolves nothing (--no-deps):
# a resolver prefers a newer release of a package that is named with an extra, and then fails without its hash.
$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Lastmile needs Python 3.11 or newer; found: $$(python3 --version 2>&1)." \
		"Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@rm -f $@
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); once, about a minute."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

# One file for every Python from 3.11 on, Linux and macOS. setuptools builds Lastmile itself.
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	@echo 'setuptools>=77' | uv pip compile pyproject.toml - --extra stack --extra tracing --extra voltha --group dev --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--output-file requirements.lock --quiet

# PostgreSQL's data can be a link to elsewhere: see lastmile/devstack/reachable_files.py.
clean:
	@if [ -L $(STATE)/postgres ]; then rm -rf "$$(readlink $(STATE)/postgres)"; fi
	rm -rf $(STATE) $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
