# What a developer, a newcomer and CI run. Needs Rust, Node (20.19 or later) with npm, a C compiler, and Go for the
# tests with LiveKit; the rest is set up here.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help flamegraphs perf valgrind run cluster build web setup test lint bench bench-paths bench-curves bench-history bench-cluster instructions loadtest chromium postgres livekit k6 toxiproxy coturn redis faketime nginx haproxy

PORT ?= 3003
DATA_DIR ?= ./data
CARGO_TARGET_DIR ?= target
# Without npm the program is built without its page, and says at / how to get it.
WEB := $(if $(shell command -v npm),$(wildcard web/package-lock.json))
WEB_SOURCES := $(if $(WEB),$(shell find web/src web/public web/index.html web/vite.config.ts web/tsconfig.json -type f 2>/dev/null))
TEST_PACKAGES := $(wildcard tests/package-lock.json tests/*/package-lock.json)
# Formatted as the page is.
FORMATTED := tests/run.mjs tests/play.mjs 'tests/support/*.mjs' 'tests/service/*.mjs' 'tests/postgres/*.mjs' \
  'tests/livekit/*.mjs' 'tests/coturn/*.mjs' 'tests/redis/*.mjs' 'tests/cluster/*.mjs' \
  'benches/*.mjs' 'benches/cluster/*.mjs' 'benches/peers/*.mjs' 'loadtest/*.mjs' 'loadtest/*.js' 'loadtest/lib/*.js' 'flamegraphs/*.mjs'
# Where `npm ci` leaves word of what it installed.
installed = $(patsubst %package-lock.json,%node_modules/.package-lock.json,$(1))

help: ## what there is to run
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: web ## builds the page and the service, and runs it: http://localhost:3003
	cargo build --release --locked
	@echo
	@echo "The call service: http://localhost:$(PORT)   (stop with Ctrl-C; its data: $(DATA_DIR))"
	@echo
	@exec env PORT=$(PORT) DATA_DIR=$(DATA_DIR) $(CARGO_TARGET_DIR)/release/call-service

cluster: web $(call installed,tests/package-lock.json) ## three nodes with Redis Cluster, Postgres and nginx, to play with
	$(call debian,redis-server,redis-server,the nodes)
	$(call debian,$(INITDB),postgresql,the nodes)
	cargo build --release --locked
	@exec node tests/play.mjs

build: web ## the release build with the page in it
	cargo build --release --locked

web: $(if $(WEB),web/dist/index.html) ## the page, where npm is there to build it

%/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20.19 or later"; exit 1; }
	cd $* && npm ci
	@touch $@

web/dist/index.html: $(call installed,$(WEB)) $(WEB_SOURCES)
	cd web && npm run build
	@touch $@
	@# The program embeds the page: have it look again.
	@touch src/http/console.rs

# What Debian has is installed where it may be: the commands that have to be there, the packages they are in, what they are for.
define debian
@for it in $(1); do \
  if command -v $$it >/dev/null; then continue; fi; \
  if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
    echo "$$it is missing and this is not root on Debian: install $(2) for $(3)"; exit 1; \
  fi; \
  echo "Installing $(2) for $(3)"; \
  apt-get update -q; \
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(2); \
  break; \
done
endef

# Debian keeps it out of the way.
INITDB = $(or $(shell command -v initdb),/usr/lib/postgresql/*/bin/initdb)

chromium:
	$(call debian,chromium,chromium,the browser tests)

postgres:
	$(call debian,$(INITDB),postgresql,the tests with a database)

coturn:
	$(call debian,turnserver turnutils_uclient ip,coturn iproute2,the tests with a TURN server)

redis:
	$(call debian,redis-server ip,redis-server iproute2,the tests with Redis)

valgrind:
	$(call debian,valgrind vgdb,valgrind,counting instructions)

perf:
	$(call debian,perf,linux-perf,the flamegraphs)

faketime:
	$(call debian,faketime,faketime,the tests with a clock that jumps)

nginx:
	$(call debian,nginx,nginx-light,the tests with load balancers)

haproxy:
	$(call debian,haproxy,haproxy,the tests with load balancers)

livekit: .cache/livekit/server

toxiproxy: .cache/toxiproxy/server

k6: .cache/k6/k6

.cache/livekit/server: SOURCE := github.com/livekit/livekit-server/cmd/server@v1.11.0
.cache/toxiproxy/server: SOURCE := github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0
# Each in a folder of its own: both call their program `server`.
.cache/%/server:
	@command -v go >/dev/null || { echo "go is missing: install Go to build $* for the tests with it"; exit 1; }
	@echo "Building $* for the tests with it: about a minute"
	GOBIN=$(CURDIR)/.cache/$* go install $(SOURCE)

.cache/inferno/bin/inferno-flamegraph:
	cargo install inferno --version 0.12.7 --locked --root $(CURDIR)/.cache/inferno

.cache/k6/k6:
	@command -v go >/dev/null || { echo "go is missing: install Go to build k6 for the load tests"; exit 1; }
	@echo "Building k6 for the load tests: about two minutes"
	GOBIN=$(CURDIR)/.cache/k6 go install go.k6.io/k6@v1.8.1

setup: web faketime $(call installed,$(TEST_PACKAGES)) $(if $(wildcard web/tests/*.test.mjs),chromium) \
  $(if $(wildcard tests/postgres/*.test.mjs),postgres toxiproxy) \
  $(if $(wildcard tests/livekit/*.test.mjs),livekit toxiproxy) $(if $(wildcard tests/coturn/*.test.mjs),coturn) \
  $(if $(wildcard tests/redis/*.test.mjs),redis nginx haproxy) \
  $(if $(wildcard tests/cluster/*.test.mjs),postgres toxiproxy redis nginx)

test: setup ## every suite; the last line is the sum
	cargo build --locked
	cargo test --locked --no-run
	node tests/run.mjs

lint: $(call installed,$(WEB)) ## formatting, clippy, the layers, docs, the page's own checks
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --locked --quiet --test layers
	@# The pages are for those who work on it, so private parts have theirs, and may be linked to.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --no-deps --locked --document-private-items
	$(if $(WEB),cd web && npm run check)
	$(if $(WEB),web/node_modules/.bin/prettier --config web/.prettierrc.json --check --log-level warn $(FORMATTED))
	@for tool in "cargo-machete:cargo machete" "cargo-deny:cargo deny --offline check bans licenses sources" "typos:typos"; do \
	  if command -v $${tool%%:*} >/dev/null; then echo "$${tool#*:}"; $${tool#*:}; \
	  else echo "$${tool%%:*} is not installed: left out"; fi; \
	done

bench: ## the benches
	cargo bench --locked
	$(MAKE) bench-paths bench-curves bench-history bench-cluster

bench-paths: $(call installed,$(wildcard tests/package-lock.json benches/peers/package-lock.json)) livekit redis postgres ## each hot path against the least it can cost
	cargo build --release --locked
	@# Apart from it, as below.
	cargo build --release --locked --example load
	cargo build --release --locked --manifest-path benches/peers/socketioxide/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/peers
	ulimit -n "$$(ulimit -Hn)"; \
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node benches/paths.mjs

bench-history: $(call installed,$(wildcard tests/package-lock.json)) postgres ## a year of history: pages of it, and what goes on beside it
	cargo build --release --locked
	cargo build --release --locked --example load
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node benches/history.mjs

bench-curves: $(call installed,$(wildcard tests/package-lock.json)) ## how costs grow with live calls and sockets, and how soon a service is back
	cargo build --release --locked
	cargo build --release --locked --example load
	ulimit -n "$$(ulimit -Hn)"; \
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node benches/curves.mjs

bench-cluster: $(call installed,$(wildcard tests/package-lock.json)) postgres redis ## what 1, 3 and 6 nodes take
	cargo build --release --locked
	@# Apart from it: what examples and tests need beyond that would be in the program else.
	cargo build --release --locked --example bus_trips
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node benches/cluster.mjs

instructions: $(call installed,$(wildcard tests/package-lock.json)) livekit valgrind ## what each hot path executes, against its budget
	cargo build --release --locked
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node benches/instructions.mjs

flamegraphs: $(call installed,$(wildcard tests/package-lock.json)) livekit perf .cache/inferno/bin/inferno-flamegraph ## where processor time goes on each hot path
	cargo build --release --locked
	cargo build --release --locked --example load
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service node flamegraphs/make.mjs

loadtest: $(call installed,$(wildcard tests/package-lock.json)) k6 postgres redis livekit ## k6, smoke to spike, against SQLite alone and a whole deployment
	cargo build --release --locked
	CALL_SERVICE_BIN=$(abspath $(CARGO_TARGET_DIR))/release/call-service K6=$(CURDIR)/.cache/k6/k6 node loadtest/run.mjs
