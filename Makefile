# All commands set themselves up from a bare clone. They need Rust, a C compiler and Python 3.11 or newer.
#
#   PYTHON=…   the interpreter for the environments (default: the first one found that is new enough)
#   POLARS=…   `make test` against this Polars version, in an environment of its own
#   WORKERS=…  processes that run the Python tests (default: two per core; 0 for this process alone)
#   ARGS=…     further arguments for pytest or the benchmark

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build dev test test-rust test-python lint bench demo wheel clean this-clone

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

# Outside the clone, so that a second clone finds the compiled dependencies.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rangebar-polars/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_QUIET := 1
# Each process of the tests would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

# What users and benchmarks import: an optimised library, linked to the sources.
USER_ENV := .venv
# What tests and the demo import: an installed wheel of the dev profile, which compiles in minutes.
TEST_ENV := build/env$(if $(POLARS),-polars-$(POLARS))
# Two a core: tests wait for processes and disks, and each embedded cache that was opened leaves files behind.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
SOURCES = $(shell find src rangebar_polars -type f ! -name '*.so' ! -name '*.pyc') \
  $(wildcard Cargo.toml Cargo.lock pyproject.toml symbols.toml README.md)
MATURIN_DEVELOP = VIRTUAL_ENV="$(CURDIR)/$(USER_ENV)" $(USER_ENV)/bin/maturin develop --locked --extras all
# In a folder of its own: maturin sets variables on which the build of pyo3 depends, and of Polars with it.
CLIPPY = PYO3_NO_PYTHON=1 cargo clippy --quiet --locked --all-targets --target-dir "$$CARGO_TARGET_DIR/lint"

help: ## Lists the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

%/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo 'error: Python 3.11 or newer is needed, say which: make … PYTHON=python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --upgrade 'pip>=25.1'
	$*/bin/python -m pip install --group dev
	touch $@

# Cargo tells sources by their age alone: what another clone compiled later would pass for this one's.
this-clone:
	@mkdir -p "$$CARGO_TARGET_DIR"
	@test "$$(cat "$$CARGO_TARGET_DIR/clone" 2>/dev/null || true)" = "$(CURDIR)" \
	  || { touch src/lib.rs; echo "$(CURDIR)" >"$$CARGO_TARGET_DIR/clone"; }

build: this-clone $(USER_ENV)/.ready ## The package, optimised, and all it can use, in .venv
	$(MATURIN_DEVELOP) --release

dev: this-clone $(USER_ENV)/.ready ## The same with a debug library: seconds after a change
	$(MATURIN_DEVELOP)

test: test-rust test-python ## All tests; .venv and its library stay as they are

test-rust: this-clone
	@if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run --locked --no-default-features --no-tests=pass; \
	else cargo test --locked --no-default-features --tests; fi
	cargo test --locked --no-default-features --doc

# From another folder, so that nothing imports the package from the working directory.
test-python: this-clone $(TEST_ENV)/.installed
	cd build && "$(CURDIR)/$(TEST_ENV)/bin/python" -m pytest -c ../pyproject.toml --rootdir .. \
	  --numprocesses $(WORKERS) --dist worksteal ../tests $(ARGS)

$(TEST_ENV)/.installed: $(TEST_ENV)/.ready $(SOURCES)
	rm -rf build/wheels
	$(TEST_ENV)/bin/maturin build --locked --profile dev --auditwheel skip --compression-level 1 --out build/wheels
	$(TEST_ENV)/bin/python -m pip install --force-reinstall --no-deps build/wheels/*.whl
	$(TEST_ENV)/bin/python -m pip install 'rangebar-polars[all]' $(if $(POLARS),'polars==$(POLARS)')
	touch $@

lint: this-clone build/env/.ready ## Formatting, clippy, ruff, mypy, import rules
	cargo fmt --check
	$(CLIPPY) --no-default-features -- -D warnings
	$(CLIPPY) -- -D warnings
	build/env/bin/ruff check
	build/env/bin/ruff format --check
	build/env/bin/mypy
	build/env/bin/lint-imports

bench: build ## Ratios against reading the columns, and against other libraries where given
	cargo bench --locked --no-default-features
	$(USER_ENV)/bin/python benches/run.py $(ARGS)
	$(if $(ARGS),,$(USER_ENV)/bin/python benches/fetch.py && $(USER_ENV)/bin/python benches/storage.py && $(USER_ENV)/bin/python benches/cache.py && $(USER_ENV)/bin/python benches/populate.py && $(USER_ENV)/bin/python benches/trade_files.py && $(USER_ENV)/bin/python benches/live.py && $(USER_ENV)/bin/python benches/repair.py)

# In the environment of the tests: one build serves both commands.
demo: this-clone $(TEST_ENV)/.installed ## An archive through fetch, store, a population killed and resumed, to bars and a picture; then live bars
	$(TEST_ENV)/bin/python docs/demo.py

wheel: this-clone build/env/.ready ## The wheel as published, tried in an empty environment
	rm -rf dist
	build/env/bin/maturin build --locked --profile wheel --sdist --out dist
	$(PYTHON) -m venv --clear build/wheel-env
	build/wheel-env/bin/python -m pip install dist/*.whl
	build/wheel-env/bin/python tests/smoke_wheel.py

clean: ## Removes what was built in the clone; the compiled dependencies stay in the cache folder
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find rangebar_polars \( -name '*.so' -o -name '*.pyd' \) -delete
	@echo "compiled dependencies: $(CARGO_TARGET_DIR)"
