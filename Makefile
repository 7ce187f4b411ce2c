# Same Noise: every command a reader needs. `make` alone explains them.
# A command makes the environment it needs; an interrupted install is repaired by the next call.
#   PYTHON=...    the interpreter to use (default: the first of python3.11, python3.12, python3)
#   PIP_ARGS=...  extra arguments for pip, such as an index with the CPU builds of torch (README)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help quick test book laptop pdf bench check clean

VENV := .venv
DOCS := .venv-docs
SCRATCH := _scratch
PIP_ARGS ?=

# One thread a process (two workers are faster than two threads), the same hashes, no bars in logs.
export OMP_NUM_THREADS := 1
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

RUN := $(VENV)/bin/python -m helpers

help: ## Show this list
	@echo "Same Noise: a paper that reruns itself. Commands:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "One chapter, other parameters: .venv/bin/python -m helpers run --help"

quick: $(VENV)/.complete ## Run every chapter at toy size on this machine, then build that book
	$(RUN) run --profile quick --fresh --jobs 3 --workers 1 --out $(SCRATCH)/quick --build

test: export TQDM_DISABLE := 1
test: $(VENV)/.complete ## Unit tests, then the quick chapters recomputed and compared
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile
	$(VENV)/bin/python -m pytest -q --nbval -n 3 --dist loadfile tests/notebooks

laptop: $(VENV)/.complete ## Recompute the published results (hours; resumes where it stopped)
	$(RUN) run --profile laptop

# The published book needs no torch: .venv where there is one, else a small environment of its own.
BOOK_ENV := $(if $(wildcard $(VENV)/.complete),$(VENV),$(DOCS))

book: $(BOOK_ENV)/.complete ## Build the published book from committed outputs (seconds)
	rm -rf _build
	$(BOOK_ENV)/bin/python -m helpers build

check: $(VENV)/.complete ## Check the built pages: links, alt text, and in Chromium if there is one
	$(RUN) check

pdf: $(VENV)/.complete ## The whole book as _build/same-noise.pdf (needs Chromium)
	$(VENV)/bin/python -m helpers.pages pdf --out _build/same-noise.pdf

bench: $(VENV)/.complete ## Measure speed against the plain ways of doing the same
	$(RUN) bench

clean: ## Remove built pages, scratch runs and caches (keeps _store and the environments)
	rm -rf _build $(SCRATCH) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# An environment is complete when its stamp is newer than its lock. `.installing` marks a beginning
# without an end: then the environment is made anew.
$(VENV)/.complete: requirements.lock pyproject.toml
	@$(call install,$(VENV),requirements.lock)

$(DOCS)/.complete: requirements-docs.lock pyproject.toml
	@$(call install,$(DOCS),requirements-docs.lock)

define install
	fits() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	         >/dev/null 2>&1; }; \
	clear=; if [ -e $(1)/.installing ]; then clear=--clear; fi; \
	if [ -n "$$clear" ] || ! { fits $(1)/bin/python && $(1)/bin/python -m pip -V; } >/dev/null 2>&1; \
	then \
	  python=; for name in $(or $(PYTHON),python3.11 python3.12 python3); do \
	    if fits "$$name"; then python="$$name"; break; fi; done; \
	  if [ -z "$$python" ]; then \
	    echo "Python 3.11 or 3.12 is needed and was not found (looked for:" \
	         "$(or $(PYTHON),python3.11 python3.12 python3)). Install one, or name it:" \
	         "make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; fi; \
	  echo "Making $(1) with $$($$python --version)"; \
	  "$$python" -m venv $$clear $(1); fi; \
	touch $(1)/.installing; \
	echo "Installing $(2) into $(1) (minutes the first time)"; \
	$(1)/bin/python -m pip install -q $(PIP_ARGS) -r $(2) && \
	$(1)/bin/python -m pip install -q --no-deps --no-build-isolation -e . && \
	rm -f $(1)/.installing && touch $(1)/.complete
endef
