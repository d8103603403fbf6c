# SPDX-License-Identifier: Apache-2.0
#
# The commands of a developer.  "make help" lists them.  Packaging is setup.py's
# work and the C build dataplane/Makefile's; this file only orders the steps
# and remembers which of them are still valid.

PYTHON ?= /usr/bin/python3

# Where the virtual environment is: in the checkout, unless the unprivileged
# user that runs the daemons could not read it there (tools/state_dir.sh).
STATE := $(shell tools/state_dir.sh)
ifeq ($(STATE),build)
VENV ?= .venv
INSTALL = --editable .
else
VENV ?= $(STATE)/venv
INSTALL = .
endif
override VENV := $(abspath $(VENV))
LOGS := $(STATE)/log
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
STAGE := $(PYTHON) tools/stage.py
# Several "make" at a time (an editor, a test run) must not install at once.
LOCK = flock $(STATE)/lock

# Nova, Neutron and os-vif with all that they require, in an environment of
# their own: none of it is the product's.  RELEASE is newest or previous.
RELEASE ?= newest
PYTEST ?= -v
OPENSTACK := $(abspath $(STATE))/openstack/$(RELEASE)
# Where a libvirtd runs without a cloud, and what the documentation tells its readers to type.
LIBVIRT = $(wildcard tests/functional/test_libvirt_*.py tests/functional/test_doc_*.py)
# All services of a cloud, for "make e2e".
E2E := $(abspath $(STATE))/openstack/e2e

# A copied or moved checkout brings an environment that still points to the old
# place: forget that it is installed.
venv_ok = grep -qsF "$(1)" $(1)/bin/activate && $(1)/bin/python -c "import pip" 2>/dev/null
$(foreach venv,$(VENV) $(OPENSTACK) $(E2E),$(shell grep -qsF "$(venv)" $(venv)/bin/activate || \
	rm -f $(venv)/.installed $(venv)/.requirements))

REQUIREMENTS := requirements.txt test-requirements.txt doc/requirements.txt
# What the installation is made of.  An editable one reads Python sources in
# place and is only refreshed for the rest.
SOURCES = $(shell find dataplane -name build -prune -o \( -name '*.[ch]' -o -name 'Makefile' \) -print) \
	setup.py setup.cfg pyproject.toml vif_uswitch/_dataplane_build.py
ifneq ($(STATE),build)
SOURCES += $(shell find vif_uswitch \( -name '*.py' -o -name '*.json' \) -print)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-build setup-demo setup-test setup-bench setup-desktop build demo demo-stop test \
	check-vfio check-libvirt check-virt-manager check-openstack openstack lint fuzz prove bench docs \
	releasenotes genconfig clean distclean FORCE
.DELETE_ON_ERROR:
.NOTPARALLEL:

help: ## this list
	@echo "vif-uswitch: a packet switch for virtual machines in userspace"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-26s %s\n", $$1, $$2}'
	@echo
	@echo "Virtual environment: $(VENV)"
	@echo "PYTHON=$(PYTHON) and VENV= may be given; see CONTRIBUTING.rst."

setup: ## install the host packages of bindep.txt that are missing (root, or sudo)
	@$(PYTHON) tools/setup_host.py build test demo bench

setup-build setup-demo setup-test setup-bench:
	@$(PYTHON) tools/setup_host.py build $(filter-out build,$(@:setup-%=%))

setup-desktop:
	@$(PYTHON) tools/setup_host.py build test desktop

build: $(VENV)/.installed ## compile the dataplane, install everything into the virtual environment

demo: setup-demo build ## two guests through the switch, shown end to end (KEEP=1 leaves it running)
	@$(VENV)/bin/python -m testbed.demo $(if $(filter-out 0,$(KEEP)),--keep)

demo-stop: ## end what "make demo KEEP=1" left running
	@$(VENV)/bin/python -m testbed.demo --stop

test: setup-test build ## every check and every test; the logs of the stages stay in build/log
	@$(VENV)/bin/python -m tools.run_checks --logs $(LOGS) --pytest lint docs c fuzz prove openstack

check-vfio: setup-test build ## drivers for VFIO in a nested host with an IOMMU (T="million" chooses; root)
	@USWITCH_VFIO_LOGS=$(abspath $(LOGS))/vfio $(VENV)/bin/python -m pytest -v --tb=short tests/vfio $(if $(T),-k "$(T)")
	@echo "logs of the nested host: $(LOGS)/vfio"

check-libvirt: setup-test build ## libvirt without a cloud, and the documentation's commands: all tests of both (T="migration"; root)
	@$(VENV)/bin/python -m pytest -v --tb=short $(LIBVIRT) $(if $(T),-k "$(T)")

check-virt-manager: setup-desktop build ## a page's steps in a real virt-manager, on a display in memory (root)
	@USWITCH_DESKTOP_LOGS=$(abspath $(LOGS))/virt-manager $(VENV)/bin/python -m pytest -v --tb=short \
		tests/functional/test_virt_manager.py

check-openstack: setup-test openstack ## real Nova, Neutron, os-vif and libvirtd (RELEASE=previous: the release before; T=...)
	@$(OPENSTACK)/bin/python -m pytest $(PYTEST) --tb=short tests/openstack $(if $(T),-k "$(T)")

openstack: $(OPENSTACK)/.installed ## their virtual environment alone

lint: setup-test build ## the linters and type checkers alone
	@$(VENV)/bin/python -m tools.run_checks --logs $(LOGS) lint

fuzz: setup-test build ## the fuzz targets alone (FUZZ_SECONDS=60 each), and the bugs they must find
	@$(VENV)/bin/python -m tools.run_checks --logs $(LOGS) fuzz

prove: setup-test build ## the bounded proofs alone (DEEP=1: with larger bounds)
	@$(VENV)/bin/python -m tools.prove $(if $(filter-out 0,$(DEEP)),--deep)

bench: setup-bench build ## speed beside other switches (CASES="64 1514" ROUNDS=3 BENCH="--priority")
	@$(VENV)/bin/python -m tests.bench $(CASES:%=--case %) $(if $(ROUNDS),--rounds $(ROUNDS)) $(BENCH)

docs: build ## what an operator reads, into doc/build/html
	@$(VENV)/bin/python -m tools.run_checks --logs $(LOGS) docs

releasenotes: build ## the release notes as a page, into releasenotes/build/html
	@$(VENV)/bin/sphinx-build -q -W --keep-going -b html releasenotes/source releasenotes/build/html

genconfig: build ## write what is generated: etc/*.conf.sample, vif_uswitch/api/schema.json
	@for file in etc/*-config-generator.conf; do $(VENV)/bin/oslo-config-generator --config-file $$file || exit 1; done
	@$(VENV)/bin/python -m vif_uswitch.api.schema > $(STATE)/schema.json
	@cp $(STATE)/schema.json vif_uswitch/api/schema.json

clean: ## remove what was built; the virtual environment and what was downloaded stay
	@-$(MAKE) -s -C dataplane clean
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name testbed-cache ! -name openstack -exec rm -rf {} +
	@rm -rf dist doc/build releasenotes/build vif_uswitch/dataplane/_native*.so *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis $(VENV)/.installed
	@rm -f $(STATE)/openstack/*/.installed
	@find vif_uswitch tests tools -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove those as well
	@rm -rf build $(VENV) $(filter-out build,$(STATE))

# A new list of sources (one was added or removed) makes the installation old.
$(STATE)/sources: FORCE
	@tools/state_dir.sh create >/dev/null
	@echo "$(sort $(SOURCES))" | cmp -s - $@ || echo "$(sort $(SOURCES))" > $@

$(VENV)/.requirements: $(REQUIREMENTS) | $(STATE)/sources
	@$(LOCK) sh -c '$(call venv_ok,$(VENV)) || $(STAGE) --log $(LOGS)/venv.log \
		"virtual environment $(VENV)" $(PYTHON) -m venv --clear $(VENV)'
	@$(LOCK) $(STAGE) --log $(LOGS)/requirements.log "Python packages for build and tests" \
		$(PIP) install --progress-bar off pbr setuptools wheel $(REQUIREMENTS:%=-r %)
	@touch $@

# --no-build-isolation: what the build needs is in the environment already, and
# a rebuild works without a network.  build/lib would keep deleted modules.
# In the environment outside of the checkout the extension is also put beside
# its sources: programs run from the checkout find the package there first.
$(VENV)/.installed: $(VENV)/.requirements $(STATE)/sources $(SOURCES)
	@rm -rf build/lib build/lib.* build/bdist.*
	@$(LOCK) $(STAGE) --log $(LOGS)/build.log "dataplane and extension" \
		$(PIP) install -v --no-deps --no-build-isolation $(INSTALL)
ifneq ($(STATE),build)
	@cp $(VENV)/lib/python3*/site-packages/vif_uswitch/dataplane/_native*.so vif_uswitch/dataplane/
endif
	@$(VENV)/bin/python -c 'import vif_uswitch.dataplane._native'
	@touch $@

$(OPENSTACK)/.requirements: tests/openstack/requirements-$(RELEASE).txt tests/openstack/requirements.txt \
		requirements.txt | $(STATE)/sources
	@$(LOCK) sh -c '$(call venv_ok,$(OPENSTACK)) || $(STAGE) --log $(LOGS)/openstack-venv.log \
		"virtual environment $(OPENSTACK)" $(PYTHON) -m venv --clear $(OPENSTACK)'
	@$(LOCK) $(STAGE) --log $(LOGS)/openstack-requirements.log "OpenStack ($(RELEASE) release) for tests" \
		$(OPENSTACK)/bin/python -m pip --disable-pip-version-check install --progress-bar off \
		pbr setuptools wheel -r $<
	@touch $@

# As in the other environment: its entry points are what Nova and Neutron look for.
$(OPENSTACK)/.installed: $(OPENSTACK)/.requirements $(VENV)/.installed
	@rm -rf build/lib build/lib.* build/bdist.*
	@$(LOCK) $(STAGE) --log $(LOGS)/openstack-build.log "vif-uswitch beside OpenStack" \
		$(OPENSTACK)/bin/python -m pip --disable-pip-version-check install -v --no-deps \
		--no-build-isolation $(INSTALL)
	@touch $@

# A whole cloud: all services of OpenStack in an environment of their own.
.PHONY: setup-e2e e2e

setup-e2e:
	@$(PYTHON) tools/setup_host.py build test e2e

e2e: setup-e2e build $(E2E)/.installed ## an OpenStack cloud on loopback (T="router migration" chooses stages; KEEP=1; root)
	@$(E2E)/bin/python -m tests.e2e --logs $(abspath $(LOGS))/e2e $(if $(filter-out 0,$(KEEP)),--keep) $(T)

$(E2E)/.requirements: tests/e2e/requirements.txt requirements.txt | $(STATE)/sources
	@$(LOCK) sh -c '$(call venv_ok,$(E2E)) || $(STAGE) --log $(LOGS)/e2e-venv.log \
		"virtual environment $(E2E)" $(PYTHON) -m venv --clear $(E2E)'
	@$(LOCK) $(STAGE) --log $(LOGS)/e2e-requirements.log "OpenStack's services, from PyPI" \
		$(E2E)/bin/python -m pip --disable-pip-version-check install --progress-bar off \
		pbr setuptools wheel -r $<
	@touch $@

$(E2E)/.installed: $(E2E)/.requirements $(VENV)/.installed
	@rm -rf build/lib build/lib.* build/bdist.*
	@$(LOCK) $(STAGE) --log $(LOGS)/e2e-build.log "vif-uswitch beside OpenStack's services" \
		$(E2E)/bin/python -m pip --disable-pip-version-check install -v --no-deps \
		--no-build-isolation $(INSTALL)
	@touch $@
