# `make run` and `make test` need Python 3.11 or newer and nothing else.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
NODE := $(VENV)/bin/node
NODE_MODULES := node_modules/.package-lock.json
PYTHON3 ?= $(shell $(FIND_PYTHON))

.DEFAULT_GOAL := help
.PHONY: help run test check docs audit fix bench lock sbom words

help: ## Show these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## Serve console and registry at localhost:8080, with worker, scanner and beat
	@$(PYTHON) manage.py quickstart

test: $(VENV)/.development ## Run all tests, and those about data again on PostgreSQL
	@failed=; for group in $(TEST_GROUPS); do \
		$(MAKE) --no-print-directory test-$$group || failed="$$failed $$group"; \
	done; \
	[ -z "$$failed" ] || { echo "These groups of tests failed:$$failed (make test-GROUP runs one of them)"; exit 1; }; \
	echo "All groups of tests passed: $(TEST_GROUPS)"

# A group that fails does not keep the next ones from running.
TEST_GROUPS = plain real alone postgresql
.PHONY: $(addprefix test-,$(TEST_GROUPS))

test-plain: $(VENV)/.development
	$(PYTHON) -m pytest --numprocesses=2 -m "not real and not alone"

test-real: $(VENV)/.development
	$(PYTHON) -m pytest --numprocesses=2 --dist=loadfile -m "real and not alone"

test-alone: $(VENV)/.development
	$(PYTHON) -m pytest -m alone

test-postgresql: $(VENV)/.development
	KCR_TEST_DATABASE=postgresql $(PYTHON) -m pytest --numprocesses=2 -m "not real and not alone and not sqlite_only" $(ABOUT_DATA)

ABOUT_DATA = tests/accounts tests/test_locks.py tests/registry/test_access.py $(wildcard tests/registry/test_audit*.py) \
	tests/registry/test_tag_history.py tests/registry/test_undo.py tests/registry/test_cleanup.py tests/registry/test_statistics.py \
	tests/registry/test_constraints.py tests/registry/test_garbage.py tests/registry/test_growth.py tests/registry/test_prepared.py \
	tests/registry/test_trash.py tests/console/test_stories.py tests/console/test_lists.py tests/console/test_notifications.py \
	tests/console/test_hostile_input.py \
	tests/scanning \
	$(wildcard $(addprefix tests/registry/v2/test_,$(addsuffix .py,push_and_pull tags catalog referrers uploads manifests)))

check: $(VENV)/.development $(NODE_MODULES) ## Check format, lint rules, types, layers, migrations and documents
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports
	git ls-files -z 'templates/*.html' | xargs -0 --no-run-if-empty $(VENV)/bin/djade --check
	$(PYTHON) -m pylint --disable=all --enable=W0133 accounts registry scanning api console
	$(NODE) node_modules/.bin/prettier --check static '*.config.js'
	$(NODE) node_modules/.bin/eslint static
	$(NODE) node_modules/.bin/stylelint 'static/**/*.css'
	env $(SAFE) $(PYTHON) manage.py makemigrations --check --dry-run
	env $(SAFE) $(PYTHON) manage.py check --deploy --fail-level WARNING
	@$(MAKE) --no-print-directory docs

docs: $(VENV)/.development ## Build the documents as a site in build/docs; a warning or a dead link is an error
	$(PYTHON) -m sphinx -b html -c docs -q --fail-on-warning --keep-going --jobs auto . build/docs

audit: $(VENV)/.development ## Ask whether a locked dependency has a known vulnerability
	$(PYTHON) .ci/audit.py

# The minimum settings of a public installation, with a data directory of its own.
SAFE = KCR_PUBLIC_URL=https://registry.example.com KCR_DATA_DIR=$(VENV)/data

fix: $(VENV)/.development $(NODE_MODULES) ## Format the code and fix what the tools can fix
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	-git ls-files -z 'templates/*.html' | xargs -0 --no-run-if-empty $(VENV)/bin/djade
	-$(NODE) node_modules/.bin/eslint --fix static
	-$(NODE) node_modules/.bin/stylelint --fix 'static/**/*.css'
	$(NODE) node_modules/.bin/prettier --write static '*.config.js'

bench: $(VENV)/.development ## Measure this installation beside others; prints ratios, proves nothing
	$(PYTHON) -m bench

words: $(VENV)/.development ## Collect the console's words for translation, and compile them (needs GNU gettext)
	env $(SAFE) $(PYTHON) manage.py makemessages $(WORDS)
	env $(SAFE) $(PYTHON) manage.py compilemessages --locale ko --ignore '$(VENV)/*'

WORDS = --locale ko --no-location --no-obsolete --no-wrap --ignore '$(VENV)/*' --ignore 'tests/*' --ignore 'node_modules/*' --ignore 'build/*'

lock: $(VENV)/.development ## Take the newest allowed versions of all dependencies into the lock files
	$(VENV)/bin/uv pip compile $(LOCK) pyproject.toml -o requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) --group dev pyproject.toml -o requirements-dev.txt
	$(VENV)/bin/npm update --silent

sbom: $(VENV)/.runtime ## Write the list of what KCR is made of, as CycloneDX, to sbom.json
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" trivy filesystem --quiet --format cyclonedx --output sbom.json requirements.txt

LOCK = --no-config --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# A Python that was compiled with optimizations answers requests in three quarters of the time, so the first of these is
# taken, else the first one. Debian's Python has optimizations, but its CONFIG_ARGS do not say so.
FIND_PYTHON = found=; for each in $$(type -aP python3.11 python3 python3.12 python3.13 python3.14); do \
		is_fast=$$("$$each" -c '$(IS_FAST)' 2> /dev/null) || continue; \
		found=$${found:-$$each}; \
		[ "$$is_fast" = False ] || { found=$$each; break; }; \
	done; echo "$${found:-$$(command -v python3)}"
IS_FAST = import ensurepip, sys, sysconfig; \
	print(sys.prefix == "/usr" or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")); \
	sys.exit(sys.version_info < (3, 11))

$(PYTHON):
	@python="$(PYTHON3)"; \
	[ -n "$$python" ] || { echo "KCR needs Python 3.11 or newer (found: none)"; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "KCR needs Python 3.11 or newer (found: $$("$$python" --version 2>&1))"; exit 1; }; \
	echo "$$python -m venv $(VENV)"; "$$python" -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(PYTHON)
	@[ $(VENV)/.development -nt $< ] || $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.development: requirements-dev.txt | $(PYTHON)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(NODE_MODULES): package.json package-lock.json .npmrc | $(VENV)/.development
	@$(VENV)/bin/npm ci --silent
	@touch $@
