# One line per thing to do; `make` alone lists them. Without make, run the commands themselves.

VENV ?= .venv
PY := $(VENV)/bin/python
JOBS ?= 2
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo up check test format chaos fuzz containers env

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install: virtual environment, locked requirements, front end
	@bin/setup --venv $(VENV)

setup-dev: ## the same, with what checks and tests need
	@bin/setup --venv $(VENV) --dev

demo: setup ## install, start everything, and train on a demo project
	@exec $(PY) manage.py up --demo --port $(PORT)

up: setup ## install and start everything, without the demo project
	@exec $(PY) manage.py up --port $(PORT)

check: setup-dev ## format, lint, types, import contracts, Django's checks, fast tests: under a minute
	@$(PY) bin/check.py

test: setup-dev ## all tests, against a real PostgreSQL and Redis
	@$(PY) -m pytest -n $(JOBS) --dist loadfile -m "not chaos and not containers and not fuzz"

chaos: setup-dev ## the long fault injection
	@$(PY) -m pytest -m chaos

fuzz: setup-dev ## 10,000 broken files and archives: 3 minutes, the seed is printed
	@$(PY) -m pytest -m fuzz -s

containers: setup-dev ## build the images, start the stack, run a job in it
	@$(PY) -m pytest -m containers

format: setup-dev ## put the code into its form
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

env: ## write .env for docker compose, with new passwords
	@bin/env
