# Each target does all the set-up itself: it needs Python 3.11 to 3.13, make and a package index.
# Without a GPU, torch's own CPU builds save gigabytes: make TORCH_INDEX=(the index address of PyTorch's install page) evaluate
# Another Python than the default has an environment of its own: make PYTHON=python3.13 test
PYTHON ?= python3
VENV   := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN    := $(VENV)/bin

.PHONY: evaluate demo web notebook test test-extras check format benchmark clean

evaluate: $(VENV)/.installed  ## the main job, offline: the bundled encoder on the bundled sample, into report/
	$(BIN)/kws-imagebind evaluate --output report

notebook: $(VENV)/.installed-all  ## run the notebooks offline and keep their outputs
	$(BIN)/python scripts/notebook.py KWS-ImageBind.ipynb examples/helpers.ipynb examples/supervised.ipynb \
	  examples/objects_that_sound.ipynb

test: $(VENV)/.installed-all  ## the test suite, offline
	$(BIN)/python -m pytest -n 2

# In a second step: where transformers is installed, torchmetrics imports it, and every command starts some seconds later.
EXTRAS       := pocketsphinx,transformers,sentence-transformers,glap,mteb,scale,export,imagenet
EXTRAS_TESTS := tests/encoders/test_checkpoints.py tests/encoders/test_glap.py tests/encoders/test_pocketsphinx.py \
                tests/evaluation/test_mteb_model.py tests/embeddings/test_executors.py tests/embeddings/test_table.py \
                tests/spotting/test_export.py tests/cli/test_listening.py tests/models/test_networks.py tests/examples
test-extras: $(VENV)/.installed-all  ## installs the large extras and runs their tests, which `make test` skips without them
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	$(BIN)/python -m scripts.onnxruntime_web || echo "so the tests of examples/web will skip"
	$(BIN)/python -m pytest -n 2 $(EXTRAS_TESTS)

check: $(VENV)/.installed-all  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-all  ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

WORDS ?= computer,hey kitchen,cappuccino
web: $(VENV)/.installed  ## a page that listens in the browser, in examples/web: make web WORDS='umbrella,kettle'
	$(BIN)/python -m scripts.onnxruntime_web
	$(BIN)/python -m pip install --quiet --editable ".[export]"
	$(BIN)/kws-imagebind export --words "$(WORDS)" --output examples/web/spotter.onnx
	@echo "Serve it with: $(BIN)/python -m http.server --bind 127.0.0.1 --directory examples/web 8000"
	@echo "and open http://localhost:8000"

demo: $(VENV)/.installed-demo  ## a page to speak to, on this machine only
	$(BIN)/kws-imagebind demo

benchmark: $(VENV)/.installed  ## the figures of the speed table in docs/evaluation.md
	$(BIN)/python -m benchmarks.throughput

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.13; name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) "torch<2.15" torchaudio)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable ".[plots]"
	touch $@

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable ".[plots,demo]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-all: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable ".[plots,map,demo,notebook,supervised,train,video,vision,test,check]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-demo

clean:
	rm -rf .venv .venv-* .cache report
