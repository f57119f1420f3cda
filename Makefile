# make demo and make test need Python 3.10 to 3.14 and nothing else; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA := data/demo
RUN := work_dirs/demo
CONFIG := configs/demo/hrnet_tiny_psa_p_128x96.py
CHECKPOINT := $(RUN)/checkpoints/last.ckpt
WORKERS ?= 2
FAST := -n $(WORKERS) -m 'not cluster and not docs and not slow'

.PHONY: demo test oldest slow cluster docs lint install mmpose clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo 'installing into $(VENV): PyTorch and what else is needed, one to three minutes without a word'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@# opencv-python needs the system's libGL; where there is none its headless twin takes its place.
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	  echo 'opencv-python does not load here (no libGL?): installing opencv-python-headless'; \
	  $(BIN)/python -m pip install --disable-pip-version-check --quiet --force-reinstall --no-deps \
	    -c constraints.txt opencv-python-headless; }
	$(BIN)/python -c 'import cv2, torchvision, psa_pose'
	touch $@

$(DATA)/annotations/person_keypoints_val.json: | $(VENV)/.installed
	$(BIN)/psa-pose demo-data $(DATA)

# Trained once; an interrupted run goes on where it was.
$(RUN)/.trained: | $(DATA)/annotations/person_keypoints_val.json
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(RUN) --resume auto
	touch $@

demo: $(RUN)/.trained
	$(BIN)/python tools/test.py $(CONFIG) $(CHECKPOINT) --work-dir $(RUN) \
	  --metrics $(RUN)/metrics.json --out $(RUN)/results.json --show-dir $(RUN)/pictures
	@echo "pictures:    $(RUN)/pictures"
	@echo "tensorboard: $(BIN)/tensorboard --logdir $(RUN)/tensorboard"

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(FAST)

# The same with the oldest versions that pyproject.toml allows, in an environment of its own (5 GB).
oldest:
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --disable-pip-version-check --quiet uv
	build/oldest/bin/uv pip install --quiet --python build/oldest --resolution lowest-direct -e '.[dev]'
	build/oldest/bin/python -m pytest $(FAST)

# The longest tests but those of `cluster`: PSA's GPU kernels, interpreted on a CPU and compiled for a
# GPU that is not there; compiled training; trainings that are compared with one another.
slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) -m slow -rs

# The longest of the tests with several processes; what SLURM and namespaces need, see their skips.
cluster: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) -m cluster -rs

# The site in build/site, without a warning; then every block of its pages. The last lines say which
# blocks are not run.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -n $(WORKERS) -m docs -rs
	$(BIN)/python -m tests.docs.pages

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The checks of docs/mmpose.md against a real MMPose, in an environment of its own that is set up
# here (PyTorch's size) and that `make test` then uses too; MMPOSE_PYTHON=... takes one that is there.
mmpose: $(VENV)/.installed
	@[ -n "$$MMPOSE_PYTHON" ] || PYTHON=$(PYTHON) tests/mmpose/make_environment.sh
	$(BIN)/python -m pytest -rs tests/mmpose

clean:
	rm -rf $(VENV) $(DATA) work_dirs build
