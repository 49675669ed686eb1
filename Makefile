# Every target does its own set-up: libtorch and CMake arrive in .venv, and .deps/ holds the links that
# .cargo/config.toml points cargo at, so that plain `cargo build`, `cargo run` and `cargo test` work afterwards.
#
#   make demo          the main job: train, score, attack, report on generated digits (runs/demo/report.html)
#   make test          all tests, those in the documentation too
#   make python        the Python package, built and installed in .venv
#   make test-libraries  its tests of models of pythae, diffusers, MONAI and Lightning, which they install beside .venv
#   make test-results  those of the crate that needs no libtorch, which they run without
#   make test-stranger a crate of somebody else's that uses this one (minutes: it builds this crate again)
#   make test-isa      the numeric ones under other instruction sets and numbers of threads (ISA=all: one mixture more)
#   make lint          rustfmt, clippy with warnings as errors, docs without warnings
#   make site          the documents as a site, links checked: target/site/html/index.html
#   make msrv          a check by the oldest compiler that Cargo.toml promises, where rustup has it
#   make bench         criterion benches, then the engine's own
#   make peers         the same work by the authors' way, PyTorch and JAX: one table of ratios
#   make check-trim    after make build TRIM=1: the program names no folder of this machine but libtorch's
#   make gpu           on a CUDA machine: the tests of the device and the peers there, in parts of under 8 minutes
#                      (ONLY=first: begin with this; ONLY=eigen,pgd: these; PEERS=jax: only these; REHEARSE=1: tiny, on the CPU)
#   make gpu-bundle    packs that for a CUDA machine without cargo or network: target/gpu-bundle.tar.gz
#
# LIBTORCH=/path        use this libtorch 2.11.0 instead of the one from PyPI
# NVCC=/path/nvcc       compile the CUDA kernels with this; NVCC= (empty): without them
# TORCH_INDEX_URL=URL   take torch from this index (for example the small CPU build)
# TRIM=1                no path of this machine in the binary, but for libtorch's, where it looks for it (compiles all anew)
# PYTHON=python3        the interpreter that makes .venv

SHELL         := /bin/bash
PYTHON        ?= python3
TORCH_VERSION := 2.11.0
# The CUDA compiler of the kernels: the toolkit that this torch was built with.
NVCC_PACKAGES := 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*'
VENV          := .venv
DEPS          := .deps
# A libtorch of the user's own is remembered in .deps/libtorch; changing LIBTORCH makes the link anew.
LIBTORCH_KEY  := $(DEPS)/.libtorch-$(if $(LIBTORCH),$(shell printf %s '$(LIBTORCH)' | cksum | cut -d' ' -f1),pypi)
TEST_PACKAGES := numpy h5py tensorboard pillow
# What builds the Python package, and what its tests and its lint need.
PYTHON_PACKAGES := "maturin>=1.9,<2" "pytest>=8" pandas tqdm safetensors nbmake ipykernel "mypy>=1.15,<2" "ruff>=0.12,<1"
# The libraries whose models the package reads: the versions that docs/bring-your-model.md names.
LIBRARIES := pythae==0.1.2 "diffusers==0.42.*" "monai==1.6.*" "lightning==2.6.*"
PIP           := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# The variables of .cargo/config.toml yield to the caller's own: clear them so that every target uses .deps.
CARGO          = $(MAPPED)env -u LIBTORCH -u LIBTORCH_USE_PYTORCH cargo

# Locations in messages of panics, of HDF5 and of libtorch's headers, which compilers take from paths: dependencies below crates/, libtorch's
# below libtorch/, the rest from this folder. What compilers do not map is taken out of the program (.ci/trim).
CRATES  := $(or $(CARGO_HOME),$(HOME)/.cargo)
TRIMMED  = "$(realpath $(DEPS)/libtorch/lib)" "$(CRATES)" "$(CURDIR)" "$(realpath $(DEPS)/libtorch)" $(filter-out / /root,$(HOME))
ifneq ($(TRIM),)
MAPS    = $(CRATES)/registry/src=crates $(CURDIR)=. $(addsuffix =libtorch,$(realpath $(DEPS)/libtorch))
MAPPED  = RUSTFLAGS="$(MAPS:%=--remap-path-prefix=%)" CFLAGS="$(MAPS:%=-ffile-prefix-map=%)" CXXFLAGS="$(MAPS:%=-ffile-prefix-map=%)" #
endif

.PHONY: all setup preflight preflight-python build check-trim demo test python python-setup test-python test-libraries test-results test-isa test-stranger lint site msrv version bench peers gpu gpu-bundle clean
all: build

setup: preflight $(LIBTORCH_KEY) $(DEPS)/.cmake $(DEPS)/.nvcc

# What the machine must bring is asked before anything is fetched.
preflight:
	@PYTHON='$(PYTHON)' .ci/preflight cargo python cxx

preflight-python:
	@PYTHON='$(PYTHON)' .ci/preflight python

# Made when its last step succeeded: an interrupted one is begun anew, a good one of before is kept.
$(VENV)/.made: | preflight-python
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { echo "$(PYTHON) -m venv --clear $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	touch $@

$(DEPS):
	mkdir -p $@

$(DEPS)/.libtorch-pypi: $(VENV)/.made | preflight $(DEPS)
	$(PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==$(TORCH_VERSION)
	ln -sfn "$$($(VENV)/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')" $(DEPS)/libtorch
	rm -f $(DEPS)/.libtorch-*; touch $@

ifneq ($(LIBTORCH),)
$(LIBTORCH_KEY): | $(DEPS)
	@test -f "$(LIBTORCH)/lib/libtorch.so" || { echo "LIBTORCH=$(LIBTORCH): no lib/libtorch.so there" >&2; exit 2; }
	ln -sfn "$(abspath $(LIBTORCH))" $(DEPS)/libtorch
	rm -f $(DEPS)/.libtorch-*; touch $@
endif

# A CUDA build of torch from PyPI comes without nvcc, which PyPI has too; build.rs finds it beside torch. A libtorch of the
# user's own is compiled for with the CUDA toolkit of the machine, where there is one.
$(DEPS)/.nvcc: $(LIBTORCH_KEY)
	@if test -z "$(LIBTORCH)" && test -e $(DEPS)/libtorch/lib/libtorch_cuda.so; then \
	  set -x; $(PIP) $(NVCC_PACKAGES); \
	fi
	touch $@

# HDF5 needs CMake >= 3.26; the system's is used where it is new enough.
$(DEPS)/.cmake: $(VENV)/.made | $(DEPS)
	@if cmake --version 2>/dev/null | awk 'NR==1 {split($$3, v, "."); ok = v[1] > 3 || (v[1] == 3 && v[2] >= 26)} END {exit !ok}'; then \
	  ln -sfn "$$(command -v cmake)" $(DEPS)/cmake; \
	else \
	  echo "$(PIP) cmake"; $(PIP) 'cmake>=3.26,<5' && ln -sfn "$(CURDIR)/$(VENV)/bin/cmake" $(DEPS)/cmake; \
	fi
	touch $@

BIN := target/release/pullback

build: setup
	$(CARGO) build --release
	$(if $(TRIM),$(PYTHON) .ci/trim $(BIN) $(TRIMMED))

# The program itself, after make build TRIM=1.
check-trim:
	$(PYTHON) .ci/trim --check $(BIN) $(TRIMMED)

# Everything that the run needs is checked by the program itself: what is up to date is not done again.
demo: build
	$(BIN) demo

# The tests read our HDF5 files with h5py, and compare numbers with NumPy's and PyTorch's.
$(DEPS)/.test-python: Makefile $(VENV)/.made | $(DEPS)
	$(PIP) $(TEST_PACKAGES)
	touch $@

# Tests run side by side: each with threads of its own would wait for the others' most of the time. What shares work among threads says
# how many, and test-isa runs the numeric tests with two.
test: export OMP_NUM_THREADS ?= 1
test: setup $(DEPS)/.test-python
	$(CARGO) test
	$(MAKE) --no-print-directory test-python

$(DEPS)/.python: Makefile $(VENV)/.made | $(DEPS)
	$(PIP) $(PYTHON_PACKAGES)
	touch $@

# A torch of PyPI's own lies in .venv; LIBTORCH may name one that is no Python's package, beside which nothing can be installed.
python-setup: setup $(DEPS)/.python
	@$(VENV)/bin/python -c 'import torch' 2>/dev/null || { \
	  echo "make python: expected torch in $(VENV), found none (make python without LIBTORCH fetches it)" >&2; exit 2; }

# The profile of `cargo test`, so that the engine is compiled once; `pip install ./crates/python` compiles it for speed.
PROFILE ?= dev
python: python-setup
	env -u LIBTORCH -u LIBTORCH_USE_PYTORCH PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MATURIN_PEP517_ARGS='--profile $(PROFILE)' \
	  $(PIP) --no-build-isolation --no-deps --force-reinstall ./crates/python

# What the Python package needs and a machine may lack: torch in .venv (LIBTORCH may name one that is no Python's), and Python's headers.
HAS_PYTHON = $(VENV)/bin/python -c 'import os, sysconfig, torch; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null
NO_PYTHON  = echo "$@: the Python package is skipped, for $(VENV) has no torch or no Python.h (apt install python3-dev)"
test-python: export OMP_NUM_THREADS ?= 1
test-python: setup
	@if $(HAS_PYTHON); then set -e; \
	  $(MAKE) --no-print-directory python; $(CARGO) test --no-run --quiet; \
	  cd crates/python; ../../$(VENV)/bin/python -m pytest; \
  ../../$(VENV)/bin/python -m mypy.stubtest pullback._native --ignore-missing-stub --mypy-config-file pyproject.toml; \
  ../../$(VENV)/bin/python -m pytest --quiet --nbmake ../../docs/first-look.ipynb; \
	else $(NO_PYTHON); fi

# The tests of other libraries' models, none of them skipped: in an environment of their own, since these bring many packages. .venv is behind
# it, by a .pth file, with its torch and the package itself.
LIBRARY_PYTHON := $(DEPS)/libraries/bin/python
PURELIB        := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(DEPS)/libraries/.made: Makefile $(LIBTORCH_KEY) $(DEPS)/.python $(DEPS)/.test-python
	$(VENV)/bin/python -m venv --clear $(DEPS)/libraries
	cd $(VENV) && bin/python $(PURELIB) > "$$(../$(LIBRARY_PYTHON) $(PURELIB))/venv.pth"
	$(LIBRARY_PYTHON) -m pip install --quiet --disable-pip-version-check $(LIBRARIES)
	touch $@

test-libraries: export OMP_NUM_THREADS ?= 1
test-libraries: python $(DEPS)/libraries/.made
	cd crates/python; PULLBACK_REQUIRE_LIBRARIES=1 ../../$(LIBRARY_PYTHON) -m pytest tests/test_libraries.py tests/test_kinds.py::test_a_lightning_module

# Of crates/results alone: neither libtorch nor the compiler of the kernels is asked for.
test-results: preflight $(DEPS)/.cmake $(DEPS)/.test-python
	env -u LIBTORCH_USE_PYTORCH LIBTORCH=/nowhere cargo test --package pullback-results

# The crate as somebody else's dependency: linked, found at run time, without the command line's crates.
test-stranger: setup
	$(CARGO) test --test tests -- --ignored --nocapture stranger::

# The numeric tests under other instruction sets and numbers of threads.
test-isa: setup $(DEPS)/.test-python
	$(CARGO) test --no-run --quiet
	env -u LIBTORCH -u LIBTORCH_USE_PYTORCH bash .ci/isa

DENY = $(CARGO) deny --log-level error
lint: setup $(DEPS)/.python $(DEPS)/.test-python
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	@if $(HAS_PYTHON); then set -ex; PYO3_PYTHON="$(CURDIR)/$(VENV)/bin/python" $(CARGO) clippy --package pullback-python -- -D warnings; \
	  cd crates/python; ../../$(VENV)/bin/python -m ruff check --quiet; ../../$(VENV)/bin/python -m mypy; \
	else $(NO_PYTHON); fi
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps
	@if $(DENY) --version >/dev/null 2>&1; then set -ex; $(DENY) check --hide-inclusion-graph licenses bans sources; \
	  if $(DENY) fetch db >/dev/null 2>&1; then $(DENY) check --disable-fetch --hide-inclusion-graph advisories; \
	  else { set +x; } 2>/dev/null; echo "lint: advisories are not checked, for RustSec's database cannot be fetched from here"; fi; \
	else echo "lint: licences and sources of dependencies are not checked, for cargo deny is not here (cargo install cargo-deny --locked)"; fi

$(DEPS)/.site: Makefile $(VENV)/.made | $(DEPS)
	$(PIP) 'mkdocs>=1.6,<2'
	touch $@

# The documents link to each other from where they stand in the repository, so they are laid out as they stand there.
SITE := target/site
site: $(DEPS)/.site
	rm -rf $(SITE); mkdir -p $(SITE)/src
	cp -r README.md CONTRIBUTING.md CHANGELOG.md docs deploy $(SITE)/src
	$(VENV)/bin/python -m mkdocs build --quiet

# Clippy looks for what is newer than rust-version everywhere (`incompatible_msrv`); that compiler itself looks where it is.
msrv: setup
	@version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if rustup toolchain list 2>/dev/null | grep -q "^$$version"; then \
	  set -x; $(CARGO) +$$version check --lib --bins --target-dir target/msrv; \
	else \
	  echo "rustup has no Rust $$version here: clippy's incompatible_msrv has looked, in make lint"; \
	fi

# What the tests will run on: libtorch, CUDA, HDF5.
version: setup
	$(CARGO) run --quiet -- --version

bench: build
	$(CARGO) bench
	$(BIN) bench

# The torch that LIBTORCH may have stood in for, JAX, h5py.
$(DEPS)/.peers: Makefile $(VENV)/.made | $(DEPS)
	$(PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==$(TORCH_VERSION)
	$(PIP) 'jax>=0.4' h5py numpy safetensors scipy
	touch $@

peers: build $(DEPS)/.peers
	$(VENV)/bin/python benches/peers.py --binary $(BIN)

GPU_BUNDLE := target/gpu-bundle
GPU_FLAGS   = $(if $(REHEARSE),--rehearse) $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

gpu-bundle: setup
	CARGO="$(CARGO)" PYTHON="$(PYTHON)" benches/bundle.sh $(GPU_BUNDLE) $(TRIMMED)

$(DEPS)/.gpu-peers: Makefile $(VENV)/.made | $(DEPS)
	$(PIP) $(if $(REHEARSE),'jax>=0.4','jax[cuda13]' cupy-cuda13x) h5py numpy scipy
	$(if $(REHEARSE),,touch $@)

# In an unpacked bundle there is nothing to build; in a checkout without cargo, the bundle made elsewhere is taken.
gpu:
	@$(PYTHON) benches/gpu.py --check $(GPU_FLAGS)
	@if test -f Cargo.toml && command -v cargo >/dev/null; then \
	  $(MAKE) --no-print-directory gpu-bundle $(DEPS)/.gpu-peers; fi
	@at=.; test ! -f Cargo.toml || at=$(GPU_BUNDLE); \
	  $$(ls -d $(VENV)/bin/python 2>/dev/null || echo $(PYTHON)) $$at/benches/gpu.py $(GPU_FLAGS) --output runs/gpu

clean:
	rm -rf target runs
