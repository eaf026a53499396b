.PHONY: help test lint format bench demo docs

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/ –/'

test:  ## every test and every docstring example
	pytest

lint:  ## style, formatting and types; changes nothing
	ruff check .
	ruff format --check .
	mypy

format:  ## put the code in the form that lint wants
	ruff check --fix .
	ruff format .

bench:  ## every benchmark, one after the other
	@set -e; for file in $(wildcard benchmarks/bench_*.py); do \
		echo "== $$file"; python "$$file"; done

demo:  ## the demonstration on synthetic images
	python -m skmedimg demo

docs:  ## the documentation site
	@echo "The documentation site comes later; until then README.md and the docstrings."
