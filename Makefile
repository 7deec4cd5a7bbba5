# `make help` lists the targets. `make demo` and `make test` set up all they need in a fresh clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-spark check bench spike train retrain infra infra-security lock clean
MAKEFLAGS += --no-print-directory --no-builtin-rules

PY := .venv/bin/python
# Passed on as they are: make demo ARGS="--json figures.json", make test ARGS="-k velocity"
ARGS ?=
# make demo DATA=handbook; make demo SIZE=small
DATA ?=
SIZE ?=
DEMO_ARGS = $(if $(DATA),--data $(DATA)) $(if $(SIZE),--size $(SIZE)) $(ARGS)

# A stamp is newer than its lock file when the environment holds what the lock says. Everything in demo.txt is in
# dev.txt, at the same versions, so an environment for developers serves the demo too.
DEMO_STAMP := $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/demo.stamp)

.venv/%.stamp: requirements/%.txt pyproject.toml
	@requirements/install.sh $*
	@touch $@

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: .venv/dev.stamp ## Make .venv with everything a developer needs
	@:

demo: $(DEMO_STAMP) ## Run the whole loop on this machine (DATA=handbook, SIZE=..., ARGS=...)
	@exec $(PY) -m demo $(DEMO_ARGS)

test: .venv/dev.stamp ## Run the tests, a process for each core (ARGS="-k name" runs them in one)
	@exec $(PY) -m pytest $(or $(ARGS),-n auto --dist loadfile)

# pyspark is 300 MB that only this needs: it is in no other lock, and has no wheel, so it is built from its own archive.
.venv/spark.stamp: requirements/spark.txt | .venv/dev.stamp
	@command -v java >/dev/null || { echo "test-spark: Java 11 or 17 is needed and there is none." >&2; exit 2; }
	@$(PY) -m pip install --no-input --disable-pip-version-check --quiet --no-compile --require-hashes --no-deps \
	  --no-build-isolation -r requirements/spark.txt
	@touch $@

test-spark: .venv/spark.stamp ## Spark's rows against one machine's, bit for bit (Java; fetches pyspark once)
	@exec $(PY) -m pytest tests/integration/test_spark_history.py -rs $(ARGS)

check: .venv/dev.stamp ## Lint, formatting, types, walls, dependencies, dead code, spelling
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/deptry .
	@$(PY) -m vulture
	@.venv/bin/codespell
	@echo "check: all clean"

bench: .venv/dev.stamp ## Measure, into build/bench/ and docs/benchmarks.md
	@if [[ ! -d bench ]]; then echo "bench: there is no bench/ folder in this version." >&2; exit 2; fi; exec $(PY) -m bench $(ARGS)

# Both work on LAKE; without one a small world is made, once, in build/train/lake.
LAKE ?=
TRAIN_LAKE = $(or $(LAKE),build/train/lake)
TRAIN_WORLD = $(if $(LAKE),,build/train/lake/manifest.json)

build/train/lake/manifest.json: | $(DEMO_STAMP)
	@$(PY) -m simulation generate --days 80 --transactions-per-day 4000 --seed 7 --force --out build/train/lake

spike: .venv/dev.stamp ## Latency through steps, bursts, a slow and a dead store: table and plot
	@exec $(PY) -m bench.spike_certificate $(ARGS)

train: $(DEMO_STAMP) $(TRAIN_WORLD) ## Train and evaluate a model (LAKE=DIR, ARGS="--as-of DAY --option ...")
	@exec $(PY) -m training train --lake $(TRAIN_LAKE) --out build/train $(ARGS)

# A refusal (3) is an answer: only a failure fails the target. A scheduler calls the command and reads its exit code.
retrain: $(DEMO_STAMP) $(TRAIN_WORLD) ## Run one weekly iteration (LAKE=DIR, ARGS="--as-of DAY --option ...")
	@$(PY) -m retraining week --lake $(TRAIN_LAKE) --models build/train/models $(ARGS) || [[ $$? == 3 ]]

infra: .venv/dev.stamp ## Render the AWS templates and check them: golden files, our rules, cfn-lint
	@$(PY) -m infra render --check
	@$(PY) -m infra rules
	@.venv/bin/cfn-lint --regions eu-west-1 -- infra/templates/*.yaml
	@echo "infra: all clean"

infra-security: .venv/dev.stamp ## checkov on the templates, hadolint on the Dockerfiles (own environment)
	@exec infra/audit/run

lock: .venv/dev.stamp ## Compile requirements/*.txt from pyproject.toml (ARGS=--upgrade)
	@exec requirements/compile.sh $(ARGS)

clean: ## Remove what commands made: build/, caches; .venv stays
	@rm -rf build dist .cache .hypothesis *.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
