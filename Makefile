# `make demo` and `make test` need nothing but Python 3.11 to 3.13 on the path.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := wmplay hydra_plugins pytest_wmplay tests scripts plugins

.PHONY: demo test lint docs bench clean

demo: $(VENV)/installed
	$(BIN)/wmplay train experiment=quickstart

# Two processes, since most tests keep one core busy; a file's tests stay together. The files go in their order,
# which has long ones first: by their number of tests, the pages would come last and one process would wait.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, into site/; a broken link or an unknown reference fails it.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The peers it measures against are installed into an environment of their own.
bench: $(VENV)-bench/installed
	$(VENV)-bench/bin/python scripts/benchmark.py

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)-bench/installed: pyproject.toml constraints.txt
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench site
