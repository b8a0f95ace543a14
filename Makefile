# Everything a checkout needs is set up by the first target that needs it: only Python 3.11+ and make are assumed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# As installing does: where Python writes no bytecode, each of the many starts would compile all sources again.
COMPILE := @$(BIN)/python -m compileall -q src tests

.PHONY: help serve demo test test-all deps-all coverage format sim soak fuzz bench docs site drift lock sbom clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

serve: $(STAMP)  ## run the server here (data in ./mainstem-data)
	@$(BIN)/mainstem serve --doors all

demo: $(STAMP)   ## run a shop of four services with load, outages and the console (data in ./shop-data; ARGS="--rate 50")
	@exec $(BIN)/python -m examples.shop.demo $(ARGS)

test: $(STAMP)   ## format, types, contracts and all tests that need nothing else (under 5 minutes)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/biome check --error-on-warnings .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	$(COMPILE)
	@$(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

coverage: $(STAMP) ## branch coverage of `make test`; fails below the floor in pyproject.toml
	$(COMPILE)
	@$(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile --timeout 300 --cov --cov-report=
	@$(BIN)/coverage report --skip-covered --skip-empty | tail -n 40

deps-all: $(STAMP) ## fetch the clients of other languages that test-all needs, and a real Apache Kafka
	@PYTHON=$(PYTHON) bash tests/compat/deps.sh
	@$(BIN)/pip install --quiet --disable-pip-version-check --group console
	@$(BIN)/pip install --quiet --disable-pip-version-check --group databases
	@$(BIN)/pip install --quiet --disable-pip-version-check --group http
	@$(BIN)/pip install --quiet --disable-pip-version-check --group scenarios
	@$(BIN)/pip install --quiet --disable-pip-version-check --group faults
	@$(BIN)/pip install --quiet --disable-pip-version-check --group fuzz
	@$(BIN)/pip install --quiet --disable-pip-version-check --group release
	@$(BIN)/pip install --quiet --disable-pip-version-check --group typing

test-all: deps-all ## the other tests: real clients in four languages, kill -9, scenarios (under 20 minutes)
	$(COMPILE)
	@$(BIN)/pytest -m slow --numprocesses auto --maxprocesses 4 -rs --durations=40 --durations-min=1

sim: $(STAMP)    ## repeat the simulated runs of one seed, and print what they did (SEED=7)
	@$(BIN)/python -m tests.sim --seed $(or $(SEED),1)

soak: $(STAMP)   ## an hour of random faults on a real server, each judged (ARGS="--minutes 10 --seed 7")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

fuzz: deps-all   ## look for inputs that break it, a minute for each reader (ARGS="--target query --seconds 600")
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(STAMP)  ## how fast, how small, beside its peers (ARGS="--full --report")
	@$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	@$(BIN)/python -m bench $(ARGS)

drift: $(STAMP)  ## print how the newest Kafka schemas (kio's) differ from ours; never fails, changes nothing
	-@$(BIN)/python -m tests.doors.kafka.drift

docs: $(STAMP)   ## write the tables in docs/ that are made from the code
	@$(BIN)/python -m tests.docs_blocks
	@$(BIN)/python -m tests.docs_drawings

site: $(STAMP)   ## build the docs site into build/site/html; a broken link or reference fails it
	@$(BIN)/pip install --quiet --disable-pip-version-check --group docs
	@$(BIN)/python -m tests.docs_site
	@$(BIN)/zensical build --clean --strict

lock: $(STAMP)   ## write the versions and hashes of all dependencies to requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --group release
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --all-extras --python-version 3.11 \
	  --no-header --no-annotate --upgrade pyproject.toml --output-file requirements.lock

sbom: $(STAMP)   ## write the dependencies in requirements.lock as CycloneDX JSON (sbom.cdx.json)
	@$(BIN)/pip install --quiet --disable-pip-version-check --group release
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --validate --output-file sbom.cdx.json

format: $(STAMP) ## format and fix the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/biome check --write .

clean:           ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
