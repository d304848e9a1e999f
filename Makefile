# All commands of the project; none needs root or Docker. `make` alone lists the commands.

# The Python that creates .venv, by default the first suitable one on the PATH.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3 python; do \
	$$candidate -c '$(SUITABLE)' 2>/dev/null && echo $$candidate && break; done)
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

RUN = .venv/bin/python
STACK = $(RUN) -m include.stack
# Without this filter, deptry warns about each requirement line that starts with -c (a constraint).
DEPTRY = $(RUN) -W "ignore:Unused option" -m deptry --config .ci/deptry.toml
# Builds the documentation site into site/, without a network; a broken link is an error.
BUILD_DOCS = NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# A version has to be a week old before it is locked: most malware is withdrawn within days. For an urgent fix:
# make lock COOL_DOWN="0 days" ARGS="--upgrade-package name". Only wheels are locked, because installing a source
# distribution runs its code and that of its build requirements, which no lock lists.
COOL_DOWN = 7 days
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --only-binary :all: --excludes .ci/excluded-packages.txt --exclude-newer "$(COOL_DOWN)" $(ARGS)
LOCKS = $(wildcard requirements*.txt)

# Without bytecode, the imports of each Airflow process take seconds longer.
unexport PYTHONDONTWRITEBYTECODE
# Use the repository's environment, whatever environment the caller has activated.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help audit bench bench-quick bench-gpu gpu-wheels demo docs resume pretrained dataset up down rotate status env logs test test-long soak lint lock sbom screenshots setup setup-dev installed

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {gsub(/[$$][$$]/, "$$", $$2); printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## set up, start everything, train on bundled data with progress, show the results
	@$(STACK) demo

resume: setup ## continue a finished job from its last.pt: make resume JOB=... EPOCHS=...
	@test -n "$(JOB)" && test -n "$(EPOCHS)" || { echo "Say which job, and up to which epoch: make resume JOB=<id> EPOCHS=<number>" >&2; exit 1; }
	@$(STACK) resume "$(JOB)" "$(EPOCHS)"

up: setup ## start PostgreSQL, S3 and Airflow
	@$(STACK) up

pretrained: installed ## store a file of pretrained weights for all jobs: make pretrained FILE=yolo26n.pt
	@test -n "$(FILE)" || { echo "Say which file: make pretrained FILE=<path of a .pt>" >&2; exit 1; }
	@$(STACK) pretrained "$(FILE)"

dataset: installed ## upload a dataset and register it as a version: make dataset FILE=mine.zip NAME=mine TASK=detect
	@test -n "$(FILE)" && test -n "$(NAME)" || { echo "Say which file, and the dataset's name: make dataset FILE=<a .zip or a folder> NAME=<name> [TASK=detect]" >&2; exit 1; }
	@$(STACK) dataset "$(FILE)" "$(NAME)" "$(or $(TASK),detect)"

down: installed ## stop PostgreSQL, S3 and Airflow; the data stay in .stack/
	@$(STACK) down

rotate: installed ## replace every secret except the key that signs models; training runs resume afterwards
	@$(STACK) rotate

status: installed ## show which services run, and where
	@$(STACK) status

env: installed ## print the variables that psql, S3 clients and curl need: eval "$$(make -s env)"
	@$(STACK) env

logs: installed ## follow the logs of the services
	@$(STACK) logs

test: setup-dev ## run the tests, except the longest ones, on separate services; ARGS="-k name" selects tests
	@$(RUN) -m pytest $(ARGS)

test-long: setup-dev ## run the longest tests and kill training runs a hundred times in total, at every stage; the table goes to .stack/killed-runs.md
	@$(RUN) -m pytest -m long $(ARGS) || [ $$? -eq 5 ] # no test was selected
	@$(RUN) -m pytest tests/long --numprocesses 0 --report .stack/killed-runs.md $(ARGS)

soak: setup-dev ## try hostile files and requests, and inject every fault, for hours; ARGS="-k name" selects tests
	@$(RUN) -m pytest tests/fuzz tests/api/test_api_properties.py tests/faults --timeout 0 --fuzz-inputs 20000 --faults all --report docs/reliability.md $(ARGS)

screenshots: setup-dev ## run real training runs, and take the screenshots of the console for docs/
	@$(RUN) -m tests.support.screenshots

bench: setup-dev ## compare with plain Ultralytics and other programs; ARGS="transfers kills" selects parts, --out FOLDER keeps the tables
	@$(RUN) -m benchmarks $(ARGS)

bench-quick: setup-dev ## check in minutes that all benchmarks run, several at a time; the figures are meaningless
	@$(RUN) -m benchmarks --quick $(ARGS)

bench-gpu: ## measure on a GPU without a network, for at most eight minutes; ARGS="--device cpu --quick" checks that it runs
	@$(or $(wildcard $(RUN)),$(PYTHON)) -m benchmarks.gpu $(ARGS)

gpu-wheels: setup ## download the packages that a GPU machine needs for bench-gpu, into gpu-wheels/
	@$(RUN) -m benchmarks.gpu.packages

docs: .venv-docs/installed ## build the documentation site into site/; a broken link is an error
	@$(BUILD_DOCS) $(ARGS)
	@echo "The documentation is built: site/index.html"

lint: setup-dev .venv-docs/installed ## check style, spelling, requirements, types, JavaScript and the documentation's links; look for secrets
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	.venv/bin/typos
	$(DEPTRY) include dags plugins .ci
	$(DEPTRY) --requirements-files requirements.in,requirements-dev.in --ignore DEP002 tests benchmarks
	$(RUN) -m mypy
	$(RUN) -m tests.support.javascript
	$(BUILD_DOCS)
	.ci/secrets

lock: setup ## update the requirement locks; ARGS=--upgrade uses newer versions
	$(COMPILE) requirements-uv.in --output-file requirements-uv.txt
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) --constraint requirements.txt requirements-airflow.in --output-file requirements-airflow.txt
	$(COMPILE) --constraint requirements.txt requirements-airflow.in requirements-trainer.in --output-file requirements-trainer.txt
	$(COMPILE) requirements-dev.in --output-file requirements-dev.txt
	$(COMPILE) requirements-docs.in --output-file requirements-docs.txt

audit: setup-dev ## check the locked versions for known vulnerabilities; needs the internet
	$(RUN) -m pip_audit --strict --disable-pip --require-hashes $(foreach lock,$(LOCKS),--requirement $(lock)) $(ARGS)

sbom: setup-dev ## write an SBOM and the licences of each image into sbom/
	@$(RUN) -m include.stack.sbom

setup: ## create .venv from the lock, or update it
	@$(call bootstrap,requirements.txt)

setup-dev:
	@$(call bootstrap,requirements.txt requirements-dev.txt)

# A separate environment, because the site needs none of the project's packages.
.venv-docs/installed: requirements-docs.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH." >&2; exit 1; }
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-docs.txt
	@touch $@

installed:
	@test -x $(RUN) || { echo "Nothing is set up here yet. Start with: make demo" >&2; exit 1; }

define bootstrap
python="$(PYTHON)"; \
test -n "$$python" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH. Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }; \
"$$python" -c '$(SUITABLE)' 2>/dev/null || { echo "$$python is $$("$$python" --version 2>/dev/null || echo 'no working Python'), but Python 3.11, 3.12 or 3.13 is needed. Name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }; \
"$$python" include/stack/bootstrap.py $(1)
endef
