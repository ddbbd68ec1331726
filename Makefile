# `make demo` and `make test` build the environment that they need. `make help` lists all targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := bin/pip --disable-pip-version-check -q install
NUMPY2_TESTS ?= tests/unit/datamodules tests/unit/deployment tests/unit/envs tests/contract/test_datamodules.py \
    tests/contract/test_envs.py tests/integration/test_lerobot.py tests/integration/test_maniskill3.py \
    tests/integration/test_robomimic_data.py tests/sim

.PHONY: help system vulkan browser check-system demo demo-square test test-quick sim robosuite15 numpy2 gpu gpu-report \
    lint types docs package minimum format clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

system: ## install the system packages (Debian, Ubuntu)
	@bash setup/system_packages.sh

vulkan: .venv/ready ## install a software Vulkan driver for ManiSkill2 without a GPU (Debian, Ubuntu)
	@bash setup/software_vulkan.sh

browser: ## install Chromium, which checks the widths of the site's pages (Debian; as root or with sudo)
	@bash setup/browser.sh

check-system: ## report missing system packages
	@$(PYTHON) setup/check_system.py

# $(call environment,FOLDER,CONSTRAINTS,EXTRA): torch comes first because theseus-ai's setup imports it. theseus-ai is
# installed without its dependencies, because scikit-sparse, which the dense solvers do not use, would have to be
# compiled. PyPI's torchvision needs a shim if torch is a CPU-only build.
define environment
	$(PYTHON) -m venv $(1)
	$(1)/$(INSTALL) 'pip<25.3'
	$(1)/$(INSTALL) torch==2.13.0 wheel 'setuptools>=77.0.3,<81'
	$(1)/$(INSTALL) --no-build-isolation --no-deps theseus-ai==0.2.3 torchlie==0.1.0 torchkin==0.1.1
	$(1)/$(INSTALL) --no-build-isolation -c $(2) urdf_parser_py \
	    -e '.[robomimic,dm-control,$(3),metaworld,pusht,lerobot,diffusion,export,plot,hub,docs,dev]'
	$(1)/bin/python setup/cpu_torchvision.py
	@touch $(1)/ready
endef

.venv/ready: setup.cfg setup/constraints.txt setup/cpu_torchvision.py | check-system
	$(call environment,.venv,setup/constraints.txt,maniskill)

# ManiSkill2 crashes with numpy 2, and ManiSkill3 needs another version of SAPIEN.
.numpy2/ready: setup.cfg setup/constraints_numpy2.txt setup/cpu_torchvision.py | check-system
	$(call environment,.numpy2,setup/constraints_numpy2.txt,maniskill3)

# The lowest versions that setup.cfg allows.
.minimum/ready: setup.cfg setup/lowest_versions.py
	$(PYTHON) -m venv .minimum
	$(PYTHON) setup/lowest_versions.py >.minimum/constraints.txt
	.minimum/$(INSTALL) 'pip<25.3'
	.minimum/$(INSTALL) -c .minimum/constraints.txt -e '.[diffusion,plot,dev]'
	@touch $@

demo: .venv/ready ## refine a controller that misses with ten demonstrations, and compare both in Meta-World
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash setup/demo.sh

demo-square: .venv/ready ## train a base policy and DiffTORI on robosuite's Square, from scripted demonstrations
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash setup/demo_square.sh

test: .venv/ready lint types docs ## run all tests, including those with simulators, lint, types and docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not gpu' -n auto --dist worksteal --durations=15

test-quick: .venv/ready ## run the fast tests without simulators
	$(BIN)/pytest

sim: .venv/ready ## run the tests with simulators
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'sim and not gpu' -n auto --dist worksteal --durations=15

# Beside robosuite 1.4.1 in .venv, whose dependencies it shares. PYTHONPATH puts it first.
.robosuite15/ready: setup.cfg | .venv/ready
	rm -rf .robosuite15
	.venv/$(INSTALL) --no-deps --target .robosuite15 "$$(grep -o 'robosuite==1\.5[0-9.]*' setup.cfg)"
	@touch $@

robosuite15: .robosuite15/ready ## install robosuite 1.5 into .robosuite15; to use it, set PYTHONPATH=.robosuite15

# Today's versions: numpy 2, robosuite 1.5 and ManiSkill3, with the driver of `make vulkan`.
numpy2: .numpy2/ready .robosuite15/ready ## run fast tests of data, deployment and simulators with numpy 2 and robosuite 1.5
	@bash setup/software_vulkan.sh .numpy2/share/software_vulkan
	PYTHONPATH=.robosuite15 .numpy2/bin/python -c "from importlib.metadata import version as v; \
	    assert v('numpy') >= '2' and v('robosuite') >= '1.5', (v('numpy'), v('robosuite'))"
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/.robosuite15 .numpy2/bin/pytest -m 'not slow and not gpu' -n auto --dist worksteal \
	    $(NUMPY2_TESTS)

gpu: .venv/ready ## run the tests that need a CUDA GPU
	$(BIN)/pytest -m gpu

gpu-report: .venv/ready ## run the tests and measurements that need a CUDA GPU, and write benchmarks/results/gpu.md
	$(BIN)/python -m benchmarks.gpu_report

lint: .venv/ready ## run ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## run mypy
	$(BIN)/mypy

docs: .venv/ready ## build the documentation site; warnings and pages that scroll horizontally are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/docs
	$(BIN)/python setup/check_widths.py build/docs

package: .venv/ready ## build the wheel and test it in a new environment
	@bash setup/check_package.sh $(BIN)/python

# Old versions emit deprecation warnings, so warnings are not errors here.
minimum: .minimum/ready ## run the unit tests with the lowest versions that setup.cfg allows, in an environment of their own
	OMP_NUM_THREADS=1 .minimum/bin/pytest -W default -n auto --dist worksteal tests/unit tests/property

format: .venv/ready ## format the sources with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches (runs and demonstrations stay)
	rm -rf .venv .robosuite15 .numpy2 .minimum .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
