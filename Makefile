# Everything that people and machines do with a checkout. Needs make and Python 3.11 or newer, nothing else.
# Paths are relative on purpose: a checkout in a folder with spaces in its name works too.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PY := .venv/bin/python
STAMP := .venv/.installed
TOOLS := PATH="$(CURDIR)/.venv/bin:$$PATH"
UP_PID := data/up.pid

# What to test: a folder, a file, or one test. All of them when empty.
T ?=

.PHONY: help
help: ## Show what there is to do
	@echo 'usage: make TARGET'
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'One test:   make test T=tests/unit/test_deployment.py'
	@echo '            make test T="-k circuit -x"'
	@echo 'A Python of your own choice:   make setup PYTHON=python3.13'

# One environment, renewed when what it is made from changes

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything in it, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found="$$python" && break; \
	done; \
	if [ -z "$$found" ] && [ -n '$(PYTHON)' ]; then \
	    echo '$(PYTHON) is not Python 3.11 or newer: name another one, or leave PYTHON out.' >&2; \
	    exit 1; \
	fi; \
	if [ -z "$$found" ]; then \
	    echo 'Mailer needs Python 3.11 or newer, and found none. Install one (Debian: apt-get install python3 python3-venv),' >&2; \
	    echo 'or name yours: make setup PYTHON=/path/to/python3.12' >&2; \
	    exit 1; \
	fi; \
	if ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making .venv with $$("$$found" --version)"; \
	    if ! "$$found" -m venv --clear .venv; then \
	        rm -rf .venv; \
	        echo 'No virtual environment could be made (Debian: apt-get install python3-venv).' >&2; \
	        exit 1; \
	    fi; \
	fi
	@echo 'Installing into .venv'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fast,postgres,s3]'
	@touch $@

# Use

.PHONY: demo
demo: setup ## Send examples/ to 500 people through an inbox of our own: the whole system, under a minute
	@$(PY) -m demo

# True while what `make up` started still runs; $$pid is its process.
is_up = pid=$$(cat $(UP_PID) 2>/dev/null) && { tr '\0' ' ' < "/proc/$$pid/cmdline"; } 2>/dev/null | grep -q -e '-m mailer.cli up '

.PHONY: up
up: setup ## Run the three services in the foreground; Ctrl-C or `make down` ends them
	@if $(is_up); then \
	    echo "The services run already (process $$pid): \`make down\` ends them." >&2; \
	    exit 1; \
	fi; \
	mkdir -p data; echo $$$$ > $(UP_PID); exec $(PY) -m mailer.cli up

.PHONY: down
down: ## End what `make up` started, and wait until it has drained
	@if $(is_up); then \
	    kill -TERM "$$pid"; \
	    while $(is_up); do sleep 0.2; done; \
	    echo 'Ended.'; \
	else \
	    echo 'Nothing to end: `make up` is not running.'; \
	fi; \
	rm -f $(UP_PID)

.PHONY: inbox
inbox: setup ## Run a mail inbox on 127.0.0.1:1025 that keeps what it accepts in data/inbox
	@exec $(PY) -m mailer.cli inbox --port 1025 --directory data/inbox

# Judge

.PHONY: test
test: setup ## Run the tests on all cores, or those named by T=...
	@$(PY) -m pytest $(if $(T),$(T),-n auto --dist loadfile)

.PHONY: chaos
chaos: setup ## Kill the services at every instant and count every message (KILLS=100 POLICY=both SEED=... MESSAGES=...)
	@$(PY) -m chaos $(if $(KILLS),--kills $(KILLS)) $(if $(POLICY),--policy $(POLICY)) $(if $(SEED),--seed $(SEED)) $(if $(MESSAGES),--messages $(MESSAGES))

.PHONY: chaos-backup
chaos-backup: setup ## Kill the backup service at every phase while others write, and count every row (KILLS=100 SEED=...)
	@$(PY) -m chaos.backup $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

.PHONY: check
check: format-check lint types imports protos-lint protos-check ## Everything that judges the code without running it

.PHONY: format
format: setup ## Format the code and mend what can be mended without thought
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

.PHONY: format-check
format-check: setup
	@$(PY) -m ruff format --check --quiet --diff . && echo 'format: ok'

.PHONY: lint
lint: setup
	@$(PY) -m ruff check --quiet . && echo 'lint: ok'

.PHONY: types
types: setup
	@$(PY) -m mypy --strict

.PHONY: imports
imports: setup
	@$(PY) .venv/bin/lint-imports --no-logo

# Speed, all of it or one figure: a table, then one JSON object as the last line. Rounds and sizes: make bench-send BENCH="--rounds 1"

BENCH_STAMP := .venv/.bench
bench = $(PY) -m benchmarks$(1) --keep $(BENCH)

$(BENCH_STAMP): $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

.PHONY: bench
bench: $(BENCH_STAMP) ## Measure everything, side by side with others, and write benchmarks/results: a quarter of an hour
	@$(PY) -m benchmarks --keep

.PHONY: bench-send
bench-send: $(BENCH_STAMP) ## Messages per second end to end, beside nodemailer, aiosmtplib and smtp-source
	@$(call bench,.send)

.PHONY: bench-latency
bench-latency: $(BENCH_STAMP) ## Messages per second over a wire with a round trip of 20 ms
	@$(call bench,.latency)

.PHONY: bench-growth
bench-growth: $(BENCH_STAMP) ## What a message costs in a campaign of 1,000,000 and in one of 10,000, and the memory
	@$(call bench,.growth)

.PHONY: bench-due
bench-due: $(BENCH_STAMP) ## From due to the first SMTP byte with 10,000 campaigns, and the cost of waiting
	@$(call bench,.due)

.PHONY: bench-import
bench-import: $(BENCH_STAMP) ## How long 100,000 recipients take by stream, and a batch of 500 to the sender
	@$(call bench,.imports)

.PHONY: bench-fairness
bench-fairness: $(BENCH_STAMP) ## How long a run of a hundred takes behind a large one
	@$(call bench,.fairness)

.PHONY: bench-books
bench-books: $(BENCH_STAMP) ## What exact books cost: with and without intents, with and without waiting for the disk
	@$(call bench,.books)

.PHONY: bench-backup
bench-backup: $(BENCH_STAMP) ## What a snapshot and a restore of 500 MB cost, and how long writers wait meanwhile
	@$(call bench,.backup)

# The contract

PROTOS := $(wildcard protos/mailer/v1/*.proto)
generate = $(TOOLS) $(PY) -m grpc_tools.protoc -Iprotos --python_out="$(1)" --grpc_python_out="$(1)" \
    --mypy_out="quiet:$(1)" --mypy_grpc_out="quiet:$(1)" $(PROTOS)

.PHONY: protos
protos: setup ## Generate mailer/v1 from protos/
	@rm -f mailer/v1/*_pb2*
	@$(call generate,.)

.PHONY: protos-check
protos-check: setup ## Fail when mailer/v1 is not what protos/ generates
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,$$fresh) || exit 1; \
	if diff -r -x __init__.py -x __pycache__ "$$fresh/mailer/v1" mailer/v1 > "$$fresh/diff"; then \
	    echo 'protos: generated code is fresh'; \
	else \
	    head -20 "$$fresh/diff"; \
	    echo 'mailer/v1 is stale: run `make protos` and commit the result.' >&2; \
	    exit 1; \
	fi

# A contract that has landed is only ever extended. In a clone without origin/main there is nothing to compare with.
.PHONY: protos-lint
protos-lint: setup
	@.venv/bin/buf lint protos && echo 'protos: lint ok'
	@if git cat-file -e origin/main:protos/buf.yaml 2>/dev/null; then \
	    .venv/bin/buf breaking protos --against '.git#ref=origin/main,subdir=protos' && echo 'protos: nothing breaks'; \
	fi
