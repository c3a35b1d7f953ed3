# make demo and make test need nothing but Python 3.11 or newer and a network that reaches Python packages.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# two workers; jobs of MPI one after the other (tests/conftest.py)
PARALLEL = -n 2 --dist loadgroup
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test extras check docs bench defects clean

help:
	@echo "make demo    simulate a DECTRIS scan, prepare it and show what is in the file"
	@echo "make test    install what the tests need, MPI included, and run them all"
	@echo "make extras  install the wheel with each of its extras in turn, and try that one"
	@echo "make check   the quick part, in a minute: ruff, import direction, all tests that are not slow"
	@echo "make docs    the documentation, in docs/_build/html"
	@echo "make bench   measure ours against plain h5py (and PtyPy where it is importable)"
	@echo "make defects plant each defect of tests/defects in a copy, and see whether its tests notice (minutes)"
	@echo "make clean   remove what these made"

demo: $(VENV)/.ptyprep
	$(BIN)/python tutorial/simulated_scan.py demo
	$(BIN)/ptyprep prepare eiger demo/scan_master.h5 --positions.file demo/positions.txt --shape 128 \
	    -o demo/scan.ptyd --overwrite
	@echo
	$(BIN)/ptyprep show demo/scan.ptyd

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL) -m "not extras" --pyargs tests ptyprep ptyprep_recipes

extras: $(VENV)/.test
	$(BIN)/python -m pytest -m extras -o faulthandler_timeout=0 tests/test_installed.py

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and not mpi and not extras" --pyargs tests ptyprep ptyprep_recipes

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# AGAINST=CHECKOUT compares with the version there instead.
bench: $(VENV)/.test
	$(BIN)/python tests/benchmark/bench.py $(if $(AGAINST),--against $(AGAINST),--markdown docs/speed.md)

# ARGS=--all tries those that their tests miss with the whole suite.
defects: $(VENV)/.test
	$(BIN)/python tests/defects/run.py $(ARGS)

clean:
	rm -rf $(VENV) demo docs/_build docs/reference docs/tutorial build *.egg-info ptyprep/kernels/*.so

# Without a C compiler everything works, many times slower.
$(VENV)/.ptyprep: setup.cfg setup.py pyproject.toml $(wildcard ptyprep/kernels/core/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ptyprep needs Python 3.11 or newer, this is " + sys.version)'
	@echo "installing ptyprep into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -f ptyprep/_core*.so ptyprep/kernels/_core*.so
	@$(PIP) install -e .
	@$(BIN)/python -c 'import ptyprep.kernels._core' 2>/dev/null || \
	    echo "without its compiled part, which needs a C compiler: all works, many times slower"
	@touch $@

$(VENV)/.test: $(VENV)/.ptyprep
	@echo "installing what the tests need"
	@$(PIP) install -e '.[test]'
	@touch $@

$(VENV)/.docs: $(VENV)/.ptyprep
	@echo "installing what the documentation needs"
	@$(PIP) install -e '.[docs]'
	@touch $@
