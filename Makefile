# The commands of developers and the CI. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

python := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR):$(CURDIR)/layers/core/python:$(CURDIR)/layers/lender/python
# Without bytecode every process of the local system would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV

# Variables of `make run`, given on the command line: make run PORT=8090 ONCE=1
PORT ?= 8080
export PORT DATA ONCE SIZE

openapi := docs/reference/openapi.json

# Variables of `make simulate`.
SEEDS ?= 200

.PHONY: help install install-run run test test-deep engine test-fast spark test-spark simulate notebooks check openapi synth
.PHONY: bench lock reset clean distclean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run takes PORT=8080 (the port of the API)"
	@echo "                 ONCE=1 (stop after the report)"
	@echo "                 SIZE=900 (customers of the simulated lender)"
	@echo "                 DATA=<folder of real data> (instead of the simulated lender)"

install:  ## Create .venv and install the locked requirements (when they changed)
	@scripts/bootstrap requirements.txt

install-run:
	@scripts/bootstrap requirements-run.txt

run: install-run  ## Start the synthesized system here, load history, retrain, decide checkouts, serve
	@scripts/synth-when-changed
	@$(python) -m demo

fast := $(addprefix tests/,features model decide reasons edge lender) $(wildcard tests/test_*.py)

pytest := $(python) -m pytest -n auto --dist loadscope --no-loadscope-reorder

test: install engine  ## The tests on all cores; COVERAGE=1 measures branch coverage of the libraries
	@$(pytest) $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

test-deep: install engine  ## Tests that take minutes by nature: kill loops, many worlds; THOROUGH=1 runs all their cases
	@$(pytest) -m deep $(if $(THOROUGH),--thorough)

# Installs the DynamoDB engine before the test workers start, which must not install it at the same time.
engine: install
	@$(python) -c 'from local.aws import dynoxide; dynoxide.supported() and dynoxide.binary()'

test-fast: install  ## The inner loop: features, models, policy, decisions and contracts, without AWS
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-fast} $(python) -m pytest -q -n auto -m "not slow and not deep" $(fast)

spark: install  ## Create .cache/spark, the environment of Spark jobs (needs Java 17)
	@scripts/spark-environment

test-spark: install  ## Compare training sets of Spark, the embedded engine and the oracle; skipped without Java
	@scripts/spark-environment; code=$$?; \
	if [ $$code -eq 3 ]; then echo "test-spark is skipped"; exit 0; elif [ $$code -ne 0 ]; then exit $$code; fi; \
	.cache/spark/bin/python -m pytest -q -p no:cacheprovider tests/spark

simulate: install  ## Simulate SEEDS worlds of the event path with faults, or one world: SEED=17
	@$(python) -m simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

notebooks: install  ## Run the notebooks; the results, with figures, are in .cache/notebooks
	@mkdir -p .cache/notebooks
	@for notebook in notebooks/*.ipynb; do \
		$(python) -m jupyter execute --output="$(CURDIR)/.cache/$$notebook" "$$notebook" || exit 1; \
	done

check: install  ## Check formatting, lint, types, import rules and the OpenAPI document
	@echo "ruff check"; ruff check
	@echo "ruff format"; ruff format --check
	@echo "mypy --strict"; mypy
	@echo "import rules"; lint-imports
	@echo "OpenAPI"; $(python) -m candor.edge.openapi | cmp -s - $(openapi) || \
		{ echo "$(openapi) differs from the contracts: run make openapi, review its diff, commit it"; exit 1; }

openapi:  ## Write the API's OpenAPI document from the contracts
	@$(python) -m candor.edge.openapi > $(openapi)

synth: install-run  ## Synthesize the CDK app into cdk.out
	@$(python) app.py

bench: install  ## Measure the budgets, and the peers (installed under .cache/peers); fails when a budget is missed
	@$(python) -m benchmarks

lock:  ## Resolve the requirements*.in into their locks again (needs uv)
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-strip-extras \
		--quiet requirements.in -o requirements.txt
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-strip-extras \
		--no-annotate --quiet -c requirements.txt requirements-run.in -o requirements-run.txt
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet requirements-spark.in -o requirements-spark.txt
	@uv pip compile --python-version 3.13 --python-platform x86_64-manylinux_2_28 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --quiet -c requirements.txt \
		training/requirements.in -o training/requirements.txt

reset:  ## Remove the local system's state (.local), before a run with other DATA= or SIZE=; caches stay
	@rm -rf .local

clean: reset  ## reset, and remove the synthesized app and all caches, which take minutes to fetch again
	@rm -rf cdk.out .cache .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .coverage
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv and the DynamoDB engine
	@rm -rf .venv local/aws/dynoxide/node_modules
