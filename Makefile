# `make demo` and `make test` set up what they need, each on a fresh machine. `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check -q
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: help system vulkan check-system demo test test-quick sim gpu lint types docs package minimum format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

system: ## install the system packages (Debian, Ubuntu)
	@bash setup/system_packages.sh

vulkan: .venv/ready ## a software Vulkan driver for ManiSkill2, where there is no GPU (Debian, Ubuntu)
	@bash setup/software_vulkan.sh

check-system: ## name the system packages that are missing
	@$(PYTHON) setup/check_system.py

# torch first: theseus-ai's set-up imports it. Without its dependencies, for scikit-sparse, which the dense solvers
# do not use, would have to be compiled. PyPI's torch has CUDA; where a CPU-only one is installed, torchvision needs
# a shim.
.venv/ready: setup.cfg setup/constraints.txt setup/cpu_torchvision.py | check-system
	$(PYTHON) -m venv .venv
	$(PIP) install 'pip<25.3'
	$(PIP) install torch==2.13.0 wheel 'setuptools>=77.0.3,<81'
	$(PIP) install --no-build-isolation --no-deps theseus-ai==0.2.3 torchlie==0.1.0 torchkin==0.1.1
	$(PIP) install --no-build-isolation -c setup/constraints.txt urdf_parser_py \
	    -e '.[robomimic,dm-control,maniskill,metaworld,pusht,diffusion,export,plot,docs,dev]'
	$(BIN)/python setup/cpu_torchvision.py
	@touch $@

demo: .venv/ready ## demonstrations, base policy, DiffTORI, and both in the simulator
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash setup/demo.sh

test: .venv/ready lint types docs ## all tests, the simulators' too
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not gpu' -n auto --dist worksteal --durations=15

test-quick: .venv/ready ## the tests that need no simulator and little time
	$(BIN)/pytest

sim: .venv/ready ## the tests that need a simulator
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'sim and not gpu' -n auto --dist worksteal --durations=15

gpu: .venv/ready ## the tests that need a CUDA GPU
	$(BIN)/pytest -m gpu

lint: .venv/ready ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## mypy
	$(BIN)/mypy

docs: .venv/ready ## the documentation, as a site; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/docs

package: .venv/ready ## the wheel, built and used in an environment of its own
	@bash setup/check_package.sh $(BIN)/python

minimum: .venv/ready ## the tests that need no simulator, with the lowest versions that setup.cfg allows
	@bash setup/check_minimum.sh $(BIN)/python

format: .venv/ready ## rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches (runs and demonstrations stay)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
