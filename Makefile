PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BENCH := step_time.py step_time.py+--partition loader.py+--step sweep.py+--live store.py growth.py scoring.py devices.py

.PHONY: help env demo test bench format constraints

help:
	@echo "make demo         build the environment, then teach one pretrained model by another"
	@echo "make test         build the environment, then run the whole check"
	@echo "make bench        time steps, loaders, sweeps, store and growth: half an hour on an idle machine"
	@echo "make format       let ruff format the code"
	@echo "make constraints  pin the newest releases that pyproject.toml admits"

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossteach needs Python 3.11 or newer")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(VENV)/bin/crossteach demo

test: $(READY)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/check

bench: $(READY)
	for each in $(BENCH); do \
	  set -- $$(echo $$each | tr + ' '); echo "== $$*"; script=$$1; shift; \
	  $(VENV)/bin/python benchmarks/$$script "$$@" || exit 1; \
	done

format: $(READY)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

constraints:
	$(VENV)/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --all-extras pyproject.toml -o constraints.txt
