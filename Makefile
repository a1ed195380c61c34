# commonroot: from public pages to a published federated checkpoint, in one readable file.

CONFIG ?= configs/demo.toml
RUN    ?= runs/demo
TORCH  ?= cpu

PY     := .venv/bin/python
CR     := .venv/bin/commonroot
ARGS    = --config $(CONFIG) --run $(RUN) $(OWN)

# make run PRIVATE="notes/siteA notes/siteB" URLS=my-urls.txt: the same on one's own text and pages
# (without URLS the public side is the demo's, without PRIVATE the private side is).
comma  := ,
empty  :=
space  := $(empty) $(empty)
ifneq ($(strip $(PRIVATE)$(URLS)),)
CONFIG := configs/mine.toml
OWN    += $(if $(URLS),--set gather.web.seeds_file="'$(URLS)'",--set gather.demo.enabled=true)
OWN    += $(if $(PRIVATE),--set shards.folders="['$(subst $(space),'$(comma)',$(strip $(PRIVATE)))']",--set shards.demo=true)
endif
OWN    += $(foreach pair,$(SET),--set $(pair))

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup run ingest ablate pretrain federate compare release report verify \
        generate trace publish server client register submit plan lint test test-fast bench clean

help:  ## this text
	@echo "make TARGET [CONFIG=$(CONFIG)] [RUN=$(RUN)] [SET='table.key=value …']"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1|/' | column -t -s '|'

setup: .venv/.ready  ## create .venv with every pinned package

# TORCH=cpu takes the build without CUDA (some GB smaller) where an index of yours offers it.
.venv/.ready: requirements.txt requirements-demo.txt pyproject.toml
	python3 -m venv .venv
	@echo "installing pinned packages into .venv: some minutes"
ifeq ($(TORCH),cpu)
	@$(PY) -m pip install --quiet torch==2.13.0+cpu 2>/dev/null \
	  || echo "no CPU-only build of torch 2.13.0 offered here: taking the default build"
endif
	$(PY) -m pip install --quiet -r requirements.txt
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-demo.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -rf commonroot.egg-info  # stale once pyproject.toml changes, and found first
	@touch $@

run: setup  ## every stage, end to end; prints where the report is
	$(CR) run $(ARGS)

ingest: setup  ## public web -> archive -> corpus
	$(CR) ingest $(ARGS)

ablate: setup  ## what each step of cleaning is worth, in bits per byte (after ingest)
	$(CR) ablate $(ARGS)

pretrain: setup  ## corpus -> base model
	$(CR) pretrain $(ARGS)

federate: setup  ## base + private shards -> federated model
	$(CR) graft $(ARGS)

compare: setup  ## federated beside centralised beside local-only
	$(CR) compare $(ARGS)

release: setup  ## the checkpoint to publish, with card and lineage
	$(CR) release $(ARGS)

report: setup  ## one HTML file of what is done so far
	$(CR) report --run $(RUN)

verify: setup  ## recheck every hash, back to the URLs
	$(CR) verify $(RUN)

generate: setup  ## PROMPT="…": continue a prompt with the released model
	@$(CR) generate "$(PROMPT)" --run $(RUN)

trace: setup  ## TOKENS=first:last (or URL=…): from the corpus back to pages, records, decisions
	@$(CR) trace --run $(RUN) $(if $(TOKENS),--tokens $(TOKENS)) $(if $(URL),--url "$(URL)")

publish: setup  ## REPO=name/model: list what would be uploaded; PUSH=1 uploads it
	HF_HUB_OFFLINE=$(if $(filter 1,$(PUSH)),0,1) $(CR) publish --repo "$(REPO)" --run $(RUN) $(if $(filter 1,$(PUSH)),--push)

server: setup  ## a Flower SuperLink over TLS, in the foreground
	$(CR) server --run $(RUN)

client: setup  ## SHARD=folder: a silo and its Flower SuperNode, in the foreground
	$(CR) client --shard "$(SHARD)" $(if $(NAME),--name "$(NAME)") $(ARGS)

register: setup  ## KEY=node.pub: admit a client on another machine to the server
	$(CR) register --key "$(KEY)" --run $(RUN)

submit: setup  ## run the rounds over the clients that joined the server
	$(CR) submit $(ARGS)

plan: setup  ## estimate time, memory, disk and bytes of a config
	$(CR) plan $(ARGS)

lint: setup  ## ruff, mypy --strict, imports, README tree
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PY) -m pytest -q tests/test_tree.py

# A file stays in one of the two processes: its tests share what is costly to make.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile

test: setup lint  ## all tests
	$(PYTEST) --durations=10

test-fast: setup  ## the tests that need seconds
	$(PYTEST) -m "not slow"

bench: setup  ## [PAGES=folder] measured, not asserted: writes tests/benchmarks/results/
	$(PY) -m pip install --quiet --no-deps -r requirements-bench.txt
	$(PY) -m tests.benchmarks.spine --json
	$(PY) -m tests.benchmarks.crawling --json $(if $(PAGES),--data $(PAGES)/..)
	$(PY) -m tests.benchmarks.proxies --json
	$(PY) -m tests.benchmarks.fetching --json
	$(PY) -m tests.benchmarks.cleaning --json
	$(PY) -m tests.benchmarks.pii --json
	$(PY) -m tests.benchmarks.scale_out --json
	$(PY) -m tests.benchmarks.pretrain --json
	$(PY) -m tests.benchmarks.federate --json
	$(PY) -m tests.benchmarks.hostile --json
	$(if $(PAGES),$(PY) -m tests.benchmarks.extraction --data $(PAGES) --json)

clean:  ## delete runs/ (keeps .venv)
	rm -rf runs
