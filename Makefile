# Two commands do everything; each makes the virtual environment .venv on first use.
PYTHON ?= python3
DATA ?=
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-all check bench results results-tunings clean

demo: $(STAMP)  ## the main job on bundled data; offline after the install
	$(BIN)/wisetune demo --out out/demo

test: $(STAMP)  ## the default test suite, on as many processes as there are cores
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test-all: $(STAMP)  ## with the slow tests and those that need a browser
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not gpu"

check: $(STAMP)  ## lint, format, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the benchmarks' smoke run; see docs/performance.md for the real ones
	$(BIN)/python -m benchmarks.smoke

results: $(STAMP)  ## docs/results, in an hour or two; DATA=DIR is the folder with the research data
	scripts/make_results.sh $(if $(DATA),"$(DATA)")

results-tunings: $(STAMP)  ## those of docs/results on ways to tune, in some hours; DATA=DIR is the folder with the research data
	scripts/make_tunings_results.sh "$(DATA)"

clean:  ## everything that the other targets made
	rm -rf .venv out

$(STAMP): pyproject.toml constraints.txt
	@echo "making the virtual environment .venv and installing wisetune in it: about a minute, more where torch is fetched ..."
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet -e ".[dev,las]"
	touch $(STAMP)
