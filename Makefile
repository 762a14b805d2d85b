# One line a target; the commands are the project's, make only remembers them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
BIN := .venv/bin
DISTS := core proto sdk plugins/forkexec_driver plugins/docker_driver plugins/podman_driver plugins/sandbox_daemon plugins/control_plane
export GRPC_ENABLE_FORK_SUPPORT := 0

.PHONY: help install dev clients demo run test long lint fmt types laws floors proto docs engines bench lock ci clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/runtime.done: constraints/runtime.txt $(DISTS:%=%/pyproject.toml)
	@sh constraints/install.sh runtime $(DISTS)
	@touch $@

.venv/dev.done: constraints/dev.txt .venv/runtime.done
	@sh constraints/install.sh dev
	@touch $@

install: .venv/runtime.done  ## the local system, into .venv

dev: .venv/dev.done  ## and what developing it needs

.venv-%/done: constraints/%.txt
	@python3 -m venv --without-pip --clear .venv-$*
	@.venv/bin/uv pip install --quiet --require-hashes --python .venv-$*/bin/python -r $<
	@touch $@

clients: .venv/dev.done .venv-tensorlake-0.4.0/done .venv-tensorlake-0.5.162/done  ## clients of the field, each in its own environment

demo: .venv/runtime.done  ## run real code in a sandbox, start to end
	@$(PY) examples/demo.py

run: .venv/runtime.done  ## the whole system, staying up (Ctrl-C ends it)
	@exec $(BIN)/longshore up

test: .venv/dev.done  ## every test that this machine can run
	@sh tests/run.sh $(BIN)/pytest $(ARGS)

long: .venv/dev.done clients  ## the long profile of the tests: for a night
	@LONGSHORE_CI=1 LONGSHORE_LONG=1 LONGSHORE_ALL_LAWS=1 LONGSHORE_CHAOS_RUNS=10000 LONGSHORE_EXAMPLES=2000 LONGSHORE_SDK_TRIALS=2000 \
		LONGSHORE_SDK_CYCLES=10000 LONGSHORE_WORKER_KILLS=200 LONGSHORE_IDLE_SANDBOXES=200 \
		sh tests/run.sh $(BIN)/pytest --timeout 14400 $(ARGS)

lint: .venv/dev.done  ## style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

fmt: .venv/dev.done  ## put the style right
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: .venv/dev.done  ## mypy and pyright, both strict
	@$(BIN)/mypy core/src sdk/src plugins/forkexec_driver/src plugins/docker_driver/src plugins/podman_driver/src plugins/sandbox_daemon/src plugins/control_plane/src && $(BIN)/pyright

laws: .venv/dev.done  ## examine our drivers with the conformance kit, and write the docs' table again
	@$(PY) docs/drivers.py $(ARGS)

floors: .venv/dev.done  ## the layers, by import-linter
	@$(BIN)/lint-imports

proto: .venv/dev.done  ## generate the wire's code again
	@sh proto/generate.sh

docs: .venv/dev.done  ## generate the reference pages again
	@$(PY) docs/generate.py $(ARGS)

engines:  ## the container engines that tests use, from Debian's packages (root)
	@tests/engines/install.sh

bench: .venv/dev.done  ## measure, beside floors taken in the same run
	@$(PY) tests/bench/run.py $(ARGS)

lock: .venv/dev.done  ## pin the dependencies again
	@PATH="$(BIN):$$PATH" sh constraints/lock.sh

ci:  ## all of the above that must hold, as on a new machine
	@.ci/run

clean:  ## away with .venv and every cache
	@rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
