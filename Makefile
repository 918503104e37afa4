# `make demo` and `make test` set up everything they need; every other target uses the same .venv.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
SEED ?= 1
STEPS ?= 50000
OUT ?= out
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 3600
NATIVE := $(wildcard qmkd/engine/native/*.[ch])

.PHONY: install remove env native demo tls-demo test test-all bench regen check sim fuzz soak lock release clean

env: .venv/.ready

.venv/.ready: constraints.txt pyproject.toml setup.py $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "qmkd needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name one with: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  echo "$(PYTHON) cannot make a virtual environment." \
	       "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { \
	  echo "The engines' inner loops are C, and $${CC:-cc} is not here." \
	       "On Debian and Ubuntu: apt-get install gcc"; exit 1; }
	@$(RUN) -c 'import os, sys, sysconfig as s; \
	  sys.exit(not os.path.exists(os.path.join(s.get_paths()["include"], "Python.h")))' || { \
	  echo "The headers of $(PYTHON) are not here, and the C parts need them." \
	       "On Debian and Ubuntu: apt-get install python3-dev"; exit 1; }
	@echo "Installing the pinned dependencies into .venv ..."
	@$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt setuptools
	@$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt \
	  --no-build-isolation -e '.[em,jit,otel,peers,plot,postgres,qldpc,remote,signer,test]'
	@touch $@

# The C parts alone, after a change to them.
native:
	$(RUN) setup.py -q build_ext --inplace

demo: env
	@$(RUN) -m harness.demo --out $(OUT)

# Handshakes with services of each mode, as clients of other libraries see them.
tls-demo: env
	@$(RUN) -m harness.tls --out $(OUT)

test: env
	$(RUN) -m pytest -q -n 2

test-all: env
	$(RUN) -m pytest -q -n 2 -m 'slow or not slow'

bench: env
	$(RUN) -m harness.bench --out $(OUT)

regen: env
	$(RUN) -m syscalls.derive
	$(RUN) -m qvm.schema
	$(RUN) systemd/derive.py
	$(RUN) monitoring/dashboard.py
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy syscalls qvm qmkd runtime policy harness tests systemd/install.py systemd/derive.py monitoring/dashboard.py
	$(RUN) -m syscalls.derive --check
	$(RUN) -m qvm.schema --check
	$(RUN) systemd/derive.py --check
	$(RUN) monitoring/dashboard.py --check
	$(RUN) -m pytest -q -n 2 tests/repository

# For packaging, DESTDIR names a folder to install below. As root otherwise, after `make env`.
install remove:
	$(RUN) systemd/install.py $@ --destdir $(or $(DESTDIR),/)

sim: env
	$(RUN) -m tests.simulation --seed $(SEED) --steps $(STEPS)

# Looks for inputs that break a promise, led by coverage; OUT/fuzz holds what does.
fuzz: env
	@$(RUN) -c 'import atheris' 2>/dev/null || $(RUN) -m pip install -q \
	  --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[fuzz]' || \
	  echo "The fuzzer could not be installed."
	$(RUN) -m tests.fuzz --seconds $(FUZZ_SECONDS) --out $(OUT)/fuzz

# Watches a daemon under mixed load; OUT/soak holds the figures and a picture.
soak: env
	$(RUN) -m tests.soak --seconds $(SOAK_SECONDS) --out $(OUT)/soak

# After a change to constraints.txt: the digests of what it names.
lock: env
	$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip compile -q constraints.txt --no-deps --generate-hashes --no-header --no-annotate \
	  --no-config --python $(RUN) -o requirements.lock

# A signed release of HEAD in OUT/release. SIGNER names the signer's socket; `own` signs with keys
# that are made for this once.
release: env
	$(RUN) -m harness.release --out $(OUT)/release \
	  $(if $(filter own,$(SIGNER)),--own-signer,$(if $(SIGNER),--signer $(SIGNER)))

clean:
	rm -rf .venv $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
