# make demo      train a small model with MaxRL and with GRPO, compare them, write a report
# make test      lint, types, layers, and every test that is not slow
# make test-all  what is slow, on top of `make test`: ranks, kill and resume, browsers, the wheel
# make test-integrations   verl, SkyRL, tinker-cookbook and verifiers themselves, in an environment of their own; DeepSpeed
# make check     lint, types and layers alone
# make clean     remove the virtual environment, caches and runs
#
# PYTHON=python3.12   another interpreter (3.11 or newer)
# UV=uv               install with uv instead of pip
# CONSTRAINTS=        install the newest versions instead of the tested ones

PYTHON ?= python3
UV ?=
CONSTRAINTS ?= constraints.txt

VENV := .venv
BIN := $(VENV)/bin
PINS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade)
STAMP := $(VENV)/.installed$(if $(CONSTRAINTS),,-newest)
PIP := $(if $(UV),$(UV) pip install --python $(BIN)/python --compile-bytecode,$(BIN)/python -m pip install --disable-pip-version-check)

# The engines' packages do not go together with ours.
ENGINES := .venv-engines
ENGINE_TESTS := tests/integrations/engines
# DeepSpeed goes with ours, but is built with a C++ compiler, which nothing else here needs.
DEEPSPEED := .venv-deepspeed

# Everything stays in this folder; the demo and the tests need nothing from the Hugging Face Hub.
export MAXRL_CACHE ?= $(CURDIR)/.cache/maxrl
LOCAL := HF_HOME=$(CURDIR)/.cache/huggingface HF_HUB_OFFLINE=1 MPLCONFIGDIR=$(CURDIR)/.cache/matplotlib

# A half-made file must not pass for a finished one.
.DELETE_ON_ERROR:
.PHONY: demo test test-all test-integrations check clean

demo: $(STAMP)
	$(LOCAL) $(BIN)/maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo --seeds 0 1 \
	  --output_dir runs/demo --overwrite_output_dir

test: check
	$(LOCAL) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal \
	  --cov=maxrl --cov-report= $(ARGS)
	$(BIN)/python -m coverage report --include="src/maxrl/objectives/*,src/maxrl/tasks/*" --fail-under=100

test-all: $(STAMP)-dev
	$(LOCAL) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadscope $(ARGS)

test-integrations: $(ENGINES)/.installed $(DEEPSPEED)/.installed
	$(LOCAL) OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR) $(ENGINES)/bin/python -m pytest -c $(ENGINE_TESTS)/pytest.ini \
	  --rootdir $(CURDIR) --confcutdir $(ENGINE_TESTS) $(ENGINE_TESTS) $(ARGS)
	$(LOCAL) OMP_NUM_THREADS=1 $(DEEPSPEED)/bin/python -m pytest -n 2 -k zero tests/invariant/test_sharding.py $(ARGS)

check: $(STAMP)-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit("maxrl needs Python 3.11 or newer, not " + sys.version.split()[0] + ": make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(if $(UV),$(UV) venv --seed --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV)) || { rm -rf $(VENV); exit 1; }

$(STAMP): $(VENV)/pyvenv.cfg pyproject.toml $(CONSTRAINTS)
	$(PIP) --quiet $(PINS) -e .
	touch $@

$(ENGINES)/.installed: $(ENGINE_TESTS)/requirements.txt $(ENGINE_TESTS)/packages.txt pyproject.toml
	rm -rf $(ENGINES)
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --disable-pip-version-check --quiet -r $(ENGINE_TESTS)/requirements.txt
	$(ENGINES)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r $(ENGINE_TESTS)/packages.txt -e .
	touch $@

# Our environment with DeepSpeed on top: it borrows the packages, and what is installed here stays here.
$(DEEPSPEED)/.installed: $(STAMP)-dev Makefile
	rm -rf $(DEEPSPEED)
	$(PYTHON) -m venv $(DEEPSPEED)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(" + repr(sysconfig.get_path("purelib")) + ")")' \
	  > $$($(DEEPSPEED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth
	DS_BUILD_OPS=0 $(DEEPSPEED)/bin/python -m pip install --disable-pip-version-check --quiet setuptools wheel ninja
	DS_BUILD_OPS=0 $(DEEPSPEED)/bin/python -m pip install --disable-pip-version-check --quiet --no-build-isolation deepspeed==0.19.8
	touch $@

$(STAMP)-dev: $(STAMP)
	$(PIP) --quiet $(PINS) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(ENGINES) $(DEEPSPEED) .cache runs build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage src/*.egg-info
	find src tests -name __pycache__ -prune -exec rm -rf {} +
