# Each target does all the set-up itself: it needs Python 3.11-3.13, make and a package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: evaluate test check format sample benchmark clean

evaluate: $(READY)  ## the main job, offline: the bundled encoder on the bundled sample, into report/
	$(BIN)/kws-imagebind evaluate --output report

test: $(READY)  ## the test suite, offline
	$(BIN)/python -m pytest -n 2

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(READY)  ## the figures of the README's speed table
	$(BIN)/python -m benchmarks.throughput

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[plots,train,test,check]"
	touch $(READY)

clean:
	rm -rf $(VENV) .cache report
