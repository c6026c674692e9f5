# Everything runs in .venv, which the first target makes: two commands on a fresh machine are
# `git clone` and `make demo`.
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && \
	echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo install test coverage test-data torture lint format docs gpu-check gpu-wheels clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	$(BIN)/dicom-node demo --out demo

install: $(INSTALLED)

TESTS ?= tests/unit tests/integration tests/acceptance

test: $(INSTALLED)
	$(BIN)/python -m pytest $(TESTS)

# Lines of man_core and dicom_node that the unit and integration tests run, in processes that they
# start too. Apart from `make test`: on Python 3.11, counting them took 1.8 times the processor time.
COVERED ?= tests/unit tests/integration
COVERAGE_MIN_PERCENT ?= 90

coverage: $(INSTALLED)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(COVERED)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=$(COVERAGE_MIN_PERCENT)

# The few tests that need development data, which is not part of the repository: MAN_TEST_DATA names
# its folder.
test-data: $(INSTALLED)
	$(BIN)/python -m pytest -m data tests/unit

# The worst day at length: parts killed by the hundred and before every single step, the PACS away,
# the disk full (root only), the ledger taken away, the storage read-only, damaged messages and
# hostile associations by the thousand. TORTURE_KILLS, TORTURE_MISHAPS, TORTURE_SEED, HOSTILE_CASES
# and HOSTILE_KNOCKS change how long and which.
torture: $(INSTALLED)
	TORTURE=1 $(BIN)/python -m pytest -s tests/acceptance/test_worst_day.py \
		tests/acceptance/test_crash_points.py tests/acceptance/test_outages.py \
		tests/acceptance/test_misbehaving_destinations.py tests/acceptance/test_custody.py \
		tests/acceptance/test_stopped_and_set.py \
		tests/integration/test_hostile_input.py \
		tests/integration/test_hostile_associations.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of the repository and the reference of its modules; a warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -c docs -W --keep-going -q . build/docs

# Checks on a machine with a GPU, in at most four minutes and without a network: benchmarks/README.md.
# GPU_PYTHON has torch (2.11 or newer) and numpy; other packages come from WHEELS, if there are any,
# which `make gpu-wheels GPU_VERSION=3.12` gathers on a machine with a network.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
GPU_VERSION ?= 3.11
GPU_CHECK_OPTIONS ?= --json build/gpu-check.json --markdown build/gpu-check.md
WHEELS ?= wheels
WHEEL_FILES := $(wildcard $(WHEELS)/*.whl)
GPU_PACKAGES := $(CURDIR)/build/gpu-packages

gpu-check: $(if $(WHEEL_FILES),$(GPU_PACKAGES))
	mkdir -p build
	PYTHONPATH=$(GPU_PACKAGES):$(CURDIR) $(GPU_PYTHON) -m benchmarks.gpu_check $(GPU_CHECK_OPTIONS)

$(GPU_PACKAGES): $(WHEEL_FILES)
	$(GPU_PYTHON) -m pip install --disable-pip-version-check --quiet --no-index --no-deps --upgrade \
		--target $@ $^
	touch $@

gpu-wheels:
	$(GPU_PYTHON) -m pip download --disable-pip-version-check --quiet -d $(WHEELS) -c constraints.txt \
		--no-deps --only-binary :all: --python-version $(GPU_VERSION) \
		-r benchmarks/gpu_check/packages.txt

clean:
	rm -rf $(VENV) build docs/api dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed: \
	make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[postgresql,train,dev,docs]'
	touch $@
