# Chorus, for people: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
JOBS ?= $(shell nproc)
PORT ?= 3000
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/chorus
MODEL ?= $(CACHE)/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## install the Debian packages that are missing
	@deploy/setup/packages.sh build

.PHONY: build
build: setup ## build Release into build/release/bin/ (CUDA_ARCHITECTURES=90a-real: for these GPUs alone)
	@cmake --preset release --log-level=WARNING \
	  $(if $(CUDA_ARCHITECTURES),-D,-U)CHORUS_CUDA_ARCHITECTURES$(if $(CUDA_ARCHITECTURES),="$(CUDA_ARCHITECTURES)")
	@cmake --build --preset release -j $(JOBS)

.PHONY: model
model: ## fetch the default model once into ~/.cache/chorus/
	@deploy/setup/default_model.sh "$(CACHE)"

.PHONY: serve
serve: build model ## build, fetch the default model, serve on port 3000 (PORT=..., MODEL=..., ARGS=...)
	@exec build/release/bin/chorus-launcher --model-id "$(MODEL)" --port $(PORT) $(ARGS)

.PHONY: test
test: ## set up, build Release, run unit tests, end-to-end tests and lints
	@deploy/setup/packages.sh build test
	@$(MAKE) --no-print-directory build model CUDA_ARCHITECTURES=90a-real
	@deploy/setup/venv.sh .venv tests/e2e/requirements.txt
	@[ ! -x /usr/local/cuda/bin/nvcc ] || deploy/setup/venv.sh .venv-kernel-table bench/kernel_report_requirements.txt
	@ctest --preset release -j $(JOBS) --output-on-failure
	@.venv/bin/python -m pytest -q tests/e2e --ignore tests/e2e/clients
	@deploy/setup/venv.sh .venv-clients tests/e2e/clients/requirements.txt
	@.venv-clients/bin/python -m pytest -q tests/e2e/clients

.PHONY: test-all
test-all: test ## test, and clang 19, sanitizers, fuzz targets 60 s each, the larger models
	@deploy/setup/packages.sh build test test-all
	@tests/test_all.sh $(JOBS)

.PHONY: compare-tokenizers
compare-tokenizers: build ## hold token ids to Hugging Face's, 10,000 strings a vocabulary (ARGS="--count 1000")
	@deploy/setup/venv.sh .venv-reference tests/reference/requirements.txt
	@.venv-reference/bin/python tests/reference/tokenizer_compare.py --fetch "$(CACHE)/vocabularies" \
	  --pre-names "$(CACHE)/vocabularies" $(ARGS) "$(CACHE)/vocabularies" "$(CACHE)"/*.gguf

.PHONY: bench-router
bench-router: build model ## the router's processor time behind a mock shard (ARGS="--step-us 3000")
	@build/release/bin/router_cpu_bench --model-id "$(MODEL)" $(ARGS)

.PHONY: bench-lm-eval
bench-lm-eval: build model ## lm-eval's scores beside those of transformers (installs torch: some GB)
	@deploy/setup/venv.sh .venv-lm-eval bench/lm_eval_requirements.txt
	@.venv-lm-eval/bin/python bench/lm_eval_scores.py $(ARGS)

.PHONY: kernel-table
kernel-table: ## write tests/kernels/kernel_table_*.txt: registers, spills and instructions of each kernel
	@deploy/setup/venv.sh .venv-kernel-table bench/kernel_report_requirements.txt
	@cmake --preset release --log-level=WARNING -UCHORUS_CUDA_ARCHITECTURES
	@cmake --build --preset release -j $(JOBS) --target kernel_table

.PHONY: format
format: ## format the C++ files
	@python3 tests/lint/format.py . --fix

.PHONY: clean
clean: ## remove the build folders and the Python environment
	@rm -rf build .venv .venv-reference .venv-clients .venv-lm-eval .venv-kernel-table
