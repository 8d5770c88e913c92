# `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo demo-drain down test lint unit real bench soak generate images sbom pin-images

UNIT_TESTS := --lib --bins $(addprefix --test ,architecture containerfile docs examples fields generated kafka_reader_faults \
  kafka_reader_probes kafka_reader_footprint kafka_reader_memory kafka_reader_tls language monitoring name_lookups \
  pulsar_reader_faults \
  rabbitmq_reader_answers rabbitmq_reader_faults rabbitmq_reader_footprint rabbitmq_reader_memory \
  rabbitmq_reader_tls rocketmq_reader_faults simulate)

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## Show the operator at work on a real Kubernetes, Kafka and RabbitMQ
	@examples/demo

demo-drain: ## Show an emergency drain of a deep backlog on a real Kubernetes and Kafka
	@examples/demo-drain

down: ## Remove the test bed and all that runs in it
	@tests/testbed/testbed down

test: ## Run all tests, on the real parts
	@tests/prepare
	@tests/chart/prepare
	@$(MAKE) --no-print-directory lint unit real

lint: ## Check format, lints, and the licences and sources of crates
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- --deny warnings
	supply-chain/check

unit: ## Run the tests that need nothing but this machine: the inner loop
	cargo test --locked --workspace --quiet $(UNIT_TESTS)

real: ## Run the tests on the real parts
	@tests/real

soak: ## Run 100 drains under faults of all kinds, each by its own seed, and large cases (about an hour)
	@QS_SOAK_RUNS=$${QS_SOAK_RUNS:-100} QS_A4_OBJECTS=500 tests/real d2_faults_of_all_kinds a4_many_objects

sbom: ## Write the list of crates in the operator's program (CycloneDX)
	@supply-chain/sbom

pin-images: ## Renew the digests of the base images in the Containerfile
	@supply-chain/pin-images

bench: ## Run the benchmarks and print a table
	@tests/prepare
	@benches/run

generate: ## Write the generated files again
	UPDATE=1 cargo test --locked --quiet --test generated

images: ## Build the images of operator and example worker into the test bed
	@tests/images
