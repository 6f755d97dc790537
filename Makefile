# SPDX-License-Identifier: Apache-2.0
# What a person runs. `make setup` once; demo, test and check do it if it is missing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
VENV221 := .venv-tf221
BIN := $(VENV)/bin

# What the two locks are resolved around; ARCHITECTURE.md says why these. TensorBoard
# imports pkg_resources, which setuptools dropped in version 81.
PINS := tensorflow==2.16.2 tensorflow-io==0.37.1 tensorflow-text==2.16.1 \
	apache-beam==2.77.0 cloudpathlib==0.26.0 numpy==1.26.4 'setuptools<81'
PINS_TF221 := 'tensorflow==2.21.*' 'tensorflow-text==2.21.*' 'setuptools<81'
COMPILE := $(BIN)/uv pip compile --quiet --no-config --python-version 3.11 \
	--python-platform linux --extra dev --extra gpu --constraint - \
	--no-emit-index-url --upgrade setup.py

# A file is never split, since its tests share what is made once; files with slow tests
# come first (tests/conftest.py). Each process grows to some 2 GB: at most eight.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist loadfile \
	--no-loadscope-reorder

# Tests start hundreds of interpreters: where the user's shell forbids to keep bytecode,
# each would compile the project anew, and pytest its tests.
test test-fast drills smoke: export PYTHONDONTWRITEBYTECODE =

# Beam's runner for portable jobs, which the tests of engines need: of Beam's version.
PRISM_VERSION = $(shell sed -n 's/^apache-beam==//p' constraints.txt)
PRISM_HOME = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quern/prism-$(PRISM_VERSION)

.PHONY: help setup demo pictures test test-fast drills smoke prism check format lock \
	clean

help:  ## print this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: $(VENV)/.installed  ## make .venv with the locked packages and the commands

demo: setup  ## from the Python standard library to a served model, about 5 minutes
	$(BIN)/python docs/demo.py

pictures: setup  ## draw the README's pictures anew, from what demo left (chromium)
	$(BIN)/python docs/pictures.py

test: setup  ## the test suite, a file on each core, minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-fast: setup  ## the tests that start no process, training loop or Beam job
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not drill"

drills: setup  ## the long drills in full (kill, restart, disk full, …)
	$(BIN)/python -m pytest -m drill --timeout 3600

smoke: $(VENV221)/.installed  ## the marked tests under the second lock, TensorFlow 2.21
	$(VENV221)/bin/python -m pytest $(SIDE_BY_SIDE) -m smoke

prism:  ## build Prism for the tests of engines, in the user's cache (Go, minutes)
	@test -x $(PRISM_HOME)/prism || GOBIN=$(PRISM_HOME) GOFLAGS=-modcacherw \
		go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(PRISM_VERSION)

check: setup  ## formatting, lint and types, container and shell files included
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint deploy/containers/*.Dockerfile
	$(BIN)/shellcheck .ci/run deploy/*/*.sh deploy/slurm/*.slurm

format: setup  ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup  ## renew constraints.txt and constraints-tf221.txt from setup.py
	printf '%s\n' $(PINS) | $(COMPILE) --custom-compile-command "make lock" \
		--output-file constraints.txt
	printf '%s\n' $(PINS_TF221) | $(COMPILE) --custom-compile-command "make lock" \
		--output-file constraints-tf221.txt

clean:  ## remove what make made
	rm -rf $(VENV) $(VENV221) demo .mypy_cache .pytest_cache .ruff_cache *.egg-info

$(VENV)/.installed: setup.py constraints.txt
	$(call install,$(VENV),constraints.txt)

$(VENV221)/.installed: setup.py constraints-tf221.txt
	$(call install,$(VENV221),constraints-tf221.txt)

# $(1): the environment, $(2): the lock. The stamp is made last, so that an install
# that was cut short is done again.
define install
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "error: wanted Python 3.11, found '$(PYTHON)'. Install it, or name it:" \
			"make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
		echo "error: wanted Python's venv module, found none in '$(PYTHON)'. On" \
			"Debian: apt-get install python3.11-venv" >&2; exit 2; }
	"$(PYTHON)" -m venv $(1)
	$(1)/bin/python -m pip install --disable-pip-version-check \
		--constraint $(2) --editable '.[dev]'
	@touch $@
endef
