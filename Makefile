# `make demo` and `make test` set up their environment by themselves.
VENV ?= .venv
BEAM_VENV ?= .venv-beam
PYTHON ?= python3
RUN = $(VENV)/bin/python
JOBS ?= 2
RESULTS ?= runs/bench
BUDGET ?= 10m

.PHONY: help demo test test-slow test-beam lint format bench arena clean

help:
	@sed -n 's/^## //p' Makefile

$(VENV)/.installed: $(wildcard requirements*.txt)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	touch $@

## make demo        train a small AKOrN on textured sprites and look at what it found
demo: $(VENV)/.installed
	$(RUN) launch.py --config=configs/demo.py:textured --workdir=runs/demo

## make test        run the tests
test: $(VENV)/.installed
	$(RUN) -m pytest -n $(JOBS) -m "not slow"

## make test-slow   run the tests that take minutes
test-slow: $(VENV)/.installed
	$(RUN) -m pytest -n $(JOBS) -m slow

$(BEAM_VENV)/.installed: $(wildcard requirements*.txt)
	$(PYTHON) -m venv $(BEAM_VENV)
	$(BEAM_VENV)/bin/python -m pip install --quiet --constraint=requirements-dev.txt \
		-r requirements.txt -r requirements-beam.txt pytest pytest-timeout pytest-xdist
	touch $@

## make test-beam   run the tests of generating by Apache Beam, in an environment that has it
test-beam: $(BEAM_VENV)/.installed
	$(BEAM_VENV)/bin/python -m pytest tests/datasets/test_beam.py

## make lint        check format and style
lint: $(VENV)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

## make format      mend what lint complains of, where a machine can
format: $(VENV)/.installed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

## make bench       measure, with the figures in $(RESULTS); BASELINE=DIR is a clone of AKOrN's official
##                  code to compare with, BASELINE_PYTHON=PATH a Python for its converter (TensorFlow)
bench: $(VENV)/.installed
	$(RUN) -m benchmarks.train_step --output=$(RESULTS)/train_step.json \
		$(if $(BASELINE),--baseline=$(BASELINE))
	$(RUN) -m benchmarks.train_step --recipes configs/tetrominoes_slot_attention.py --images=16 \
		--output=$(RESULTS)/train_step_slots.json
	$(RUN) -m benchmarks.train_step --recipes configs/tetrominoes_slot_attention.py \
		--config.model.image_size=16 --config.model.kernel_size=1 --config.model.slot_size=32 \
		--output=$(RESULTS)/train_step_slots_small.json
	$(if $(BASELINE),$(RUN) -m benchmarks.parts --output=$(RESULTS)/parts.json)
	$(RUN) -m benchmarks.profile --output=$(RESULTS)/profile.json
	$(RUN) -m benchmarks.profile --recipe=configs/tetrominoes_akorn.py:conv \
		--output=$(RESULTS)/profile_conv.json
	$(RUN) -m benchmarks.scaling --output=$(RESULTS)/scaling.json \
		--figure=$(RESULTS)/performance.png
	$(RUN) -m benchmarks.evaluation --output=$(RESULTS)/evaluation.json
	$(RUN) -m benchmarks.convolutions --output=$(RESULTS)/convolutions.json
	$(RUN) -m benchmarks.assignment --output=$(RESULTS)/assignment.json
	$(RUN) -m benchmarks.input --output=$(RESULTS)/input.json
	$(RUN) -m benchmarks.prepare --output=$(RESULTS)/prepare.json $(if $(BASELINE_PYTHON),\
		--baseline=$(BASELINE) --baseline_python=$(BASELINE_PYTHON))
	$(RUN) -m benchmarks.rendering --output=$(RESULTS)/rendering.json

## make arena       train every system on the same scenes with the same BUDGET (10m), three seeds each;
##                  the page is runs/arena/arena.html, and interrupted it resumes
arena: $(VENV)/.installed
	$(RUN) -m benchmarks.arena --budget=$(BUDGET) --out=runs/arena

clean:
	rm -rf $(VENV) $(BEAM_VENV) .pytest_cache .ruff_cache .hypothesis
