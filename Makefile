# Needs Python 3.11 to 3.13, nothing else. Uses uv where it is installed, else venv and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(shell command -v uv >/dev/null 2>&1 && echo 'uv pip install -q --python $(BIN)/python' || echo '$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check')
# Python keeps what it compiled even where the environment forbids it: without, every process that imports TensorFlow compiles
# all of it again, for 12 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-times lint bench clean

# Huge pages: fewer page faults in a training step on CPUs (docs/scaling.md).
demo bench: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

demo: $(VENV)/.data
	$(BIN)/python -m vjax.demo --workdir=runs/demo --data_dir=data

# LLVM's optimizations take longer than they save where nothing is trained for long; the few tests that do ask for them
# (the fixture `optimized`).
test test-all test-times: export JAX_DISABLE_MOST_OPTIMIZATIONS := 1
test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow'

test-all: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

test-times: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow' --durations=40 --durations-min=1
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow --durations=40 --durations-min=5

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: $(VENV)/.data
	$(BIN)/python -m benchmarks.conv
	$(BIN)/python -m benchmarks.gradients
	$(BIN)/python -m benchmarks.mae_step
	$(BIN)/python -m benchmarks.input_pipeline

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), f"vjax needs Python 3.11 to 3.13, this is {sys.version}: run make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.data: setup.py | $(BIN)/python
	$(INSTALL) -e '.[data]'
	touch $@

$(VENV)/.test: setup.py | $(BIN)/python
	$(INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
