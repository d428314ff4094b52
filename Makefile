# Everything runs in a virtual environment of its own; versions are pinned in requirements.txt.
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= runs/demo
WORKERS ?= 2
GPU_PYTHON ?= python3
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
# Of the last commit, so that two builds of it are one file; without git the first that zip has.
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),315532800)
NATIVE := $(foreach suffix,h cpp cuh cu,$(wildcard csrc/*/*.$(suffix) tests/simt/*.$(suffix)))

.PHONY: demo test bench docs lint types format wheel sdist packages sanitize cuda-static cuda-link \
	gpu clean
.DEFAULT_GOAL := test

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps torchdistill==1.1.5
	touch $@

# The library is compiled once, into build/, for the source tree and for the wheel.
SOURCES := setup.py $(wildcard csrc/*/*)
$(VENV)/.built: $(VENV)/.ready $(SOURCES) pyproject.toml
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python setup.py -q build_ext --inplace
	KDOPS_BUILD=none $(BIN)/pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --editable .
	touch $@

demo: $(VENV)/.built
	$(BIN)/python -m kdops demo --out $(OUT)

test: $(VENV)/.built
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.built
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only

# The documentation site, in site/; any warning fails. The variable: an advertisement of the theme's.
docs: $(VENV)/.built
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(VENV)/.ready types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

types: $(VENV)/.ready
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE)

# Of both libraries where torch has CUDA; the file is the same for every later torch and Python.
wheel: $(VENV)/.built
	rm -rf build/lib.* build/bdist.*
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip wheel --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --wheel-dir dist .

sdist: $(VENV)/.ready
	KDOPS_BUILD=none $(BIN)/python -c "from setuptools import build_meta as b; b.build_sdist('dist')"

# The wheel built once more from the sdist: one file; installed where there is no compiler, too.
packages: wheel sdist
	tests/packages.sh $(abspath $(BIN))/python $(TORCH)

sanitize: $(VENV)/.ready
	tests/sanitize.sh $(abspath $(BIN))/python

# The CUDA kernels compiled: registers, spills, and what their instructions must be.
cuda-static: $(VENV)/.ready
	$(BIN)/python tests/cuda_static.py

# Both libraries against a CUDA build of torch (4.7 GB, removed afterwards), used without a GPU.
cuda-link: $(VENV)/.ready
	tests/cuda_link.sh $(abspath $(BIN))/python

# All that takes a GPU: build, tests, compute-sanitizer, benchmark; with the machine's own Python,
# GPU_PYTHON, and without network. PARTS="suite bench": these alone. WHEELS=DIR: with Liger-Kernel.
gpu:
	PYTHON=$(GPU_PYTHON) WHEELS="$(WHEELS)" tests/gpu.sh $(PARTS)

clean:
	rm -rf $(VENV) build dist runs site kdops.egg-info kdops/*.so .pytest_cache .ruff_cache \
		.mypy_cache .hypothesis
