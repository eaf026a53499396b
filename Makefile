.PHONY: help test lint format bench demo docs

benchmarks := $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/bench_*.py))
.PHONY: $(benchmarks)
# Two benchmarks at once slow one another, whatever -j says.
.NOTPARALLEL:

medmnist := $(or $(SKMEDIMG_TEST_DATA),../shared/data)/medmnist
for_bench_leakage := --data "$(medmnist)"
for_bench_medmnist := "$(medmnist)"
for_bench_search := "$(medmnist)/pneumoniamnist.npz"
for_bench_search_processes := "$(medmnist)/pneumoniamnist.npz" --jobs
for_bench_uncertainty := --data "$(medmnist)/pneumoniamnist.npz"

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

bench: $(benchmarks)  ## every benchmark, one after the other

$(benchmarks):
	python benchmarks/$@.py $(for_$@)

demo:  ## the demonstration on synthetic images
	python -m skmedimg demo

docs:  ## the documentation site
	@echo "The documentation site comes later; until then README.md and the docstrings."
