# make quickstart            SynthFashion: prepare, train CLIP-FT and E2, compare -> runs/quickstart/report.md
# make quickstart DATA=dir   the same on a prepared catalogue of your own
# make demo                  a page with the quickstart's two models side by side, on SynthFashion
# make test | lint | bench
# make coverage              all tests, with the lines of e2fashion/ that they reach, those of their processes included
# make docs                  the site -> build/site/index.html (the first time, it runs the notebooks)
# make torture               kills, races, full disks and damaged input (ARGS="fuzz inputs=100000")

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.ready-docs
DATA   ?= catalogues/synthfashion
OUTPUT ?= runs/quickstart
ARGS   ?=
# Processes that test side by side, one thread each; a file stays in one of them.
JOBS   ?= 2

.PHONY: install quickstart demo test coverage lint docs bench torture clean

install: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

catalogues/synthfashion/manifest.json: $(READY)
	$(BIN)/e2fashion data prepare configs/data/synthfashion.yaml output=catalogues/synthfashion

ifneq ($(DATA),catalogues/synthfashion)
$(DATA)/manifest.json:
	@echo "'$(DATA)' is not a prepared catalogue. Make one: $(BIN)/e2fashion data prepare <source> path=... output=$(DATA)" && false
endif

quickstart: $(READY) $(DATA)/manifest.json
	$(BIN)/e2fashion compare configs/run/quickstart_clip_ft.yaml configs/run/quickstart_e2.yaml \
		data=$(DATA) output=$(OUTPUT) $(ARGS)
	@echo "The report: $(OUTPUT)/report.md"

demo: quickstart
	for model in clip_ft e2; do $(BIN)/e2fashion index build $(DATA) model=$(OUTPUT)/$$model \
		split=test output=$(OUTPUT)/index_$$model || exit 1; done
	$(BIN)/e2fashion demo $(OUTPUT)/clip_ft $(OUTPUT)/e2 index=$(OUTPUT)/index_clip_ft \
		index_b=$(OUTPUT)/index_e2

# Processes that tests start read the bytecode of the first one, whatever the environment says about writing it.
test: $(READY)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/data
coverage: $(READY)
	rm -rf build/coverage && mkdir -p build/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --show-missing

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs --doctree-dir build/doctrees . build/site $(ARGS)
	@echo "The site: build/site/index.html"

bench: $(READY)
	$(BIN)/python -m scripts.bench $(ARGS)

torture: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.torture $(ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
