# make raise   set up .venv and raise the default model, cria   (RUN=runs/mine  ARGS="--set minutes=30")
# make test    the whole test suite                             (JOBS=4  ARGS="-k tokenizer")
# make check   lint, format, types, import direction
# make fuzz    a million random answers for the parser of tool calls (ARGS=--coverage with atheris)
# make bench   measure beside the peers; every script of bench/ (ARGS=--quick)
# make bench-serve  the server beside its engine: HTTP, many requests, known prefixes
# make soak    five minutes of two hundred clients of every kind (ARGS="--seconds 60")
# make bench-cpu  the native kernels beside llama.cpp and OpenVINO, built for this machine first
# make sanitize  the native code under sanitizers, and its levels for ARM and AVX-512 by emulation
# make clean   remove the environment and caches; runs/ stays
#
# PYTHON=python3.12 chooses the interpreter. CONSTRAINTS= installs the newest versions that
# pyproject.toml accepts in place of those that the tests ran with.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
RUN ?=
ARGS ?=

comma := ,
BIN := .venv/bin
READY := .venv/ready
# The chat page is tried in a browser where there is one; not in CI, whose machines are too busy for it.
BROWSER := $(if $(CI),,$(if $(shell command -v chromium || command -v chromium-browser),$(comma)browser))
NATIVE := $(shell find native -name '*.*' -type f)

.PHONY: raise test check fuzz sanitize bench bench-cpu bench-serve soak clean

raise: $(READY)
	$(BIN)/puna raise $(if $(RUN),--run $(RUN)) $(ARGS)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 8 $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

fuzz: $(READY)
	nice $(BIN)/python -m tests.chat.fuzz $(ARGS)

sanitize: $(READY)
	PUNA_SANITIZE=address,undefined PUNA_ARM=1 PUNA_AVX512=1 $(BIN)/python -m pytest -q tests/native $(ARGS)
	PUNA_SANITIZE=thread $(BIN)/python -m pytest -q tests/native/test_sanitized.py $(ARGS)

bench: $(READY)
	set -e; for script in bench/*.py; do $(BIN)/python "$$script" $(ARGS); done

bench-serve: $(READY)
	$(BIN)/python bench/serve.py $(ARGS)

soak: $(READY)
	$(BIN)/python bench/soak.py $(ARGS)

# llama.cpp is built from its source with every instruction that this processor has: minutes.
bench-cpu: $(READY)
	$(BIN)/python -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[bench]'
	$(BIN)/python bench/cpu.py $(ARGS)

$(READY): pyproject.toml $(CONSTRAINTS) $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "puna needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." \
	    "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[raise,test,check$(BROWSER)]'
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find puna tests bench -name __pycache__ -prune -exec rm -rf {} +
