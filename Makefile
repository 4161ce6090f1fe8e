# Two commands on a fresh machine: `make demo` and `make test`. Only Rust has to be there; what else is missing is
# installed from the system's packages. Works as root and as an ordinary user, any number of times.

CARGO ?= cargo
# Where cargo puts its programs; honours CARGO_TARGET_DIR.
TARGET = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: build demo loadtest bench compare experiments test container-test lint

# The release binary: $(TARGET)/release/pgcorral
build:
	$(CARGO) build --release --locked

# A thousand cold invocations at a PostgreSQL with sixty connections: directly, then through the proxy.
demo:
	./scripts/setup-postgres.sh
	$(CARGO) build --release --locked
	$(TARGET)/release/pgcorral demo $(DEMO_FLAGS)

# The load generator: $(TARGET)/release/loadtest
loadtest:
	$(CARGO) build --release --locked --package loadtest --bin loadtest

# pgcorral against PgBouncer on this machine; writes docs/benchmarks.md. BENCH_FLAGS="--rounds 2" for a quick one.
bench:
	./scripts/setup-poolers.sh
	$(CARGO) build --release --workspace --locked
	$(TARGET)/release/bench --pgcorral $(TARGET)/release/pgcorral --output docs/benchmarks.md $(BENCH_FLAGS)

# Load plans at PostgreSQL itself, PgBouncer (as shipped, and tuned) and pgcorral on this machine; writes docs/comparison.md.
# Some 55 minutes. COMPARE_FLAGS="--plans lambda-1000 --rounds 1" for a quick one.
compare:
	./scripts/setup-poolers.sh
	$(CARGO) build --release --workspace --locked
	$(TARGET)/release/loadtest compare --pgcorral $(TARGET)/release/pgcorral $(COMPARE_FLAGS)

# The experiments of the guard, in the same way; writes docs/experiments.md. Some 12 minutes for one round.
experiments:
	./scripts/setup-poolers.sh
	$(CARGO) build --release --workspace --locked
	$(TARGET)/release/loadtest compare --pgcorral $(TARGET)/release/pgcorral --output docs/experiments.md \
		--plans e1,e1b,e1b-deaf,e2,e3,e4,e5,e8 --rounds 1 $(COMPARE_FLAGS)

# All tests: unit tests, and those that need a real PostgreSQL and real drivers. PGCORRAL_SKIP_DRIVERS=pgx,lib-pq leaves
# drivers out. Without PgBouncer, and where it cannot be installed, the tests that compare with it do without.
test:
	./scripts/setup-postgres.sh
	@./scripts/setup-poolers.sh || echo "going on without PgBouncer: what needs it is not tested" >&2
	./scripts/setup-drivers.sh
	./scripts/setup-functions.sh
	@./scripts/setup-browser.sh || echo "going on without a browser: the tests of the live page will fail" >&2
	@./scripts/setup-prometheus.sh || echo "going on without: the tests of dashboards and rules will fail" >&2
	$(CARGO) test --workspace --locked --no-fail-fast

# Builds the container images (buildah, without a daemon) and tests them. Five to ten minutes the first time.
container-test:
	./scripts/test-container.sh

# Format, lints and documentation; a warning is an error.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
