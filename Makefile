# Every target sets up what it needs, in .venv; run again, it starts in seconds.
PYTHON ?= python3
LESSON ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := build/peers
COLAB  := build/colab

.DEFAULT_GOAL := help
.PHONY: help setup lab fresh test check mutants colab notebooks html answers bench bench-growth bench-peers results format clean

help:             ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)   ## make the local environment

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "No virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q --upgrade pip
	# torch first and pinned: the CPU build; everything else then finds it in place
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[lab,test,minigrid]'
	$(BIN)/python tools/lab.py prepare
	@touch $@

lab: setup        ## open the course in JupyterLab, on your own copies; LESSON=09 opens one lesson
	$(BIN)/python tools/lab.py open $(LESSON)

fresh: setup      ## put a fresh copy of LESSON=.. in my_course; the old one is kept beside it
	$(BIN)/python tools/lab.py fresh $(LESSON)

test: setup       ## all tests, on two cores
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup      ## the quick tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -m "not slow"

mutants: setup    ## plant faults in copies of the package, one at a time; the tests must see each
	$(BIN)/python tests/mutants.py

colab: $(COLAB)   ## exercises, widgets and all but the long lessons on the versions that Colab has
	$(COLAB)/bin/python -m pytest -n 2 --dist worksteal -W ignore -m "not long" tests/lessons tests/test_exercises.py \
		tests/test_attempts.py tests/test_checking.py tests/test_passport.py tests/test_explorers.py \
		tests/test_dream_player.py tests/test_course.py tests/test_notebooks.py

$(COLAB): tests/colab.txt
	rm -rf $(COLAB) && $(PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q "$$(grep '^torch==' constraints.txt)" || { rm -rf $(COLAB); exit 1; }
	$(COLAB)/bin/python -m pip install -q -c tests/colab.txt -e '.[test]' anywidget || { rm -rf $(COLAB); exit 1; }
	@touch $(COLAB)

notebooks: setup  ## build the committed notebooks from their sources; LESSON=09 builds one
	$(BIN)/python tools/build_notebooks.py $(LESSON)

html: setup       ## write the lessons as pages that need no network to build/html; LESSON=09 writes one
	$(BIN)/jupyter nbconvert --to html --output-dir=build/html notebooks/$(LESSON)*.ipynb

answers: setup    ## write the teacher's set to answers/: every exercise solved
	$(BIN)/python tools/build_notebooks.py --answers

bench: setup      ## what everything costs: gradient steps, acting, environments, replay, a dreamed frame
	$(BIN)/python tests/benchmarks/bench.py --json build/bench.json

bench-growth: setup  ## how cost grows with model, sequence, batch, image and replay
	$(BIN)/python tests/benchmarks/bench.py --growth --json build/growth.json

bench-peers: setup $(PEERS)  ## our gradient step beside that of sheeprl, in turns on one core
	$(BIN)/python tests/benchmarks/peers.py --peer $(PEERS)/bin/python --json build/peers.json

$(PEERS):
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q "$$(grep '^torch==' constraints.txt)" || { rm -rf $(PEERS); exit 1; }
	$(PEERS)/bin/python -m pip install -q "$$(grep '^torch==' constraints.txt)" sheeprl==0.8.4 || { rm -rf $(PEERS); exit 1; }

results: setup    ## remake the learning table of the README (a little over an hour on two cores)
	$(BIN)/python tests/benchmarks/learning.py

format: setup     ## sort imports and format
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:            ## delete the local environment; my_course stays
	rm -rf $(VENV)
