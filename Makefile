# What can be made here: make help. Targets that need an engine, or a daemon to
# test with, run scripts/setup.sh themselves.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
LINT := $(GO) tool -modfile=tools/go.mod golangci-lint

# Root may build what somebody else checked out (sudo make install), and git then
# says what version it is only when it is told that this is meant.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

# The plugins whose source is here.
PLUGINS := $(filter $(notdir $(wildcard cmd/*)),$(notdir $(wildcard plugin-config/*)))

# What the e2e packages need is a real engine; everything else is a unit test.
UNIT_PACKAGES = $$($(GO) list ./... | grep -v -E '/test/(e2e|crash|bench|vm)(/|$$)')
E2E_TIMEOUT ?= 15m
# Engines and hosts are waited for about as long as they work.
E2E_PARALLEL ?= $$(($$(nproc) * 2))

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | sort | \
		while IFS=$$'\t' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

# Root's PATH, as sudo sets it, does not lead to where Go usually lies.
.PHONY: toolchain
toolchain:
	@command -v $(GO) >/dev/null || { \
		echo "make: there is no $(GO) in the PATH of $$(id -un): install Go 1.26 or later (https://go.dev/dl); where it is, but not for sudo: sudo env PATH=\"\$$PATH:/usr/local/go/bin\" make ..." >&2; exit 1; }

.PHONY: plugins
plugins: toolchain ## build the plugin folders, build/plugins/NAME/{config.json,rootfs}
	@for name in $(PLUGINS); do scripts/rootfs.sh "$$name"; done

.PHONY: cli
cli: toolchain ## build the plugin of the docker command, build/docker-dockline
	@scripts/cli.sh build

.PHONY: install
install: plugins cli engine ## build, create (or upgrade) and enable the plugins, or those in PLUGINS, and docker dockline; SETTINGS="KEY=VALUE ..." sets theirs
	@scripts/cli.sh install
	@scripts/plugin.sh install $(PLUGINS) $(SETTINGS)

.PHONY: uninstall
uninstall: ## remove the plugins from the engine, once all records are delivered; FORCE=yes does not wait
	@scripts/plugin.sh uninstall $(PLUGINS) $(if $(FORCE),FORCE=$(FORCE))
	@scripts/cli.sh uninstall

.PHONY: engine
engine:
	@scripts/setup.sh --for install

.PHONY: packages
packages:
	@scripts/setup.sh --no-engine

.PHONY: demo
demo: plugins cli ## show both plugins at work, on this machine's engine and on two hosts made for it
	@scripts/setup.sh --for demo
	@$(GO) run ./test/cmd/demo

.PHONY: test
test: test-unit reproducible test-e2e test-vm ## all tests

.PHONY: test-unit
test-unit: packages ## tests that need no engine, with the race detector
	GORACE=atexit_sleep_ms=0 $(GO) test -race -count=1 $(UNIT_PACKAGES)
	$(GO) test -C tools/release -count=1 .

.PHONY: test-e2e
test-e2e: packages plugins cli ## tests on private engines, which they start and remove
	$(GO) test -race -count=1 -p 1 -parallel $(E2E_PARALLEL) -timeout $(E2E_TIMEOUT) ./test/e2e/...

.PHONY: newuser
newuser: packages ## go the README's first steps on a bare Debian, from compiling everything to a container that its neighbours reach, and time them
	$(GO) test -count=1 -v -timeout 30m ./test/e2e/newuser -cold

.PHONY: test-matrix-net
test-matrix-net: packages plugins ## what test-e2e has of the network plugin with one engine only, with all of them
	$(GO) test -race -count=1 -v -timeout 30m -run '^TestMatrix$$' ./test/e2e/network -matrix

.PHONY: test-vm
test-vm: packages ## tests that need another kernel, in an emulated virtual machine
	$(GO) test -count=1 -v ./test/vm

.PHONY: test-loki
test-loki: toolchain ## send records to Loki itself, which this compiles first, for 20 minutes or more
	CGO_ENABLED=0 $(GO) build -C tools/loki -o $(CURDIR)/build/loki github.com/grafana/loki/v3/cmd/loki
	$(GO) test -race -count=1 -v -timeout 30m -tags loki -run '^TestLoki' ./logdriver/sink/loki -loki $(CURDIR)/build/loki

KILLS ?= 200
SECONDS ?= 600
CONTAINERS ?= 8

.PHONY: crash
crash: packages plugins ## kill plugin, engine and collectors at random and count what becomes of each record; KILLS, SECONDS, CONTAINERS, SEED
	@$(GO) run ./test/cmd/crash -kills $(KILLS) -seconds $(SECONDS) -containers $(CONTAINERS) $(if $(SEED),-seed $(SEED))

SOAK ?= 10m

.PHONY: soak-dhcp
soak-dhcp: packages ## keep 50 leases of 30 s (of dnsmasq: 2 min, its least) while servers restart and the plugin is killed; SOAK
	$(GO) test -race -count=1 -v -timeout 24h -run '^TestLeasesAreKept$$' ./test/dhcp -soak $(SOAK)

N ?= 300

.PHONY: crash-net
crash-net: packages plugins ## kill the network plugin at every step of every call, and look at links, addresses and connections; N, SECONDS (0: no limit), SEED, SUITE
	@$(GO) run ./test/cmd/crashnet -n $(N) -seconds $(if $(filter file,$(origin SECONDS)),0,$(SECONDS)) $(if $(SEED),-seed $(SEED)) $(if $(SUITE),-suite $(SUITE))

EVENTS ?= 40
RECORDS ?= 1000000

.PHONY: chaos
chaos: packages plugins ## change, break and replace the log plugin's collectors, their sources and its configuration under load, and count what becomes of each record; EVENTS, RECORDS, CONTAINERS, SEED
	@$(GO) run ./test/cmd/chaos -events $(EVENTS) -records $(RECORDS) -containers $(if $(filter file,$(origin CONTAINERS)),30,$(CONTAINERS)) $(if $(SEED),-seed $(SEED))

HOSTS ?= 3

.PHONY: chaos-ipam
chaos-ipam: packages plugins ## kill members of etcd, plugins and engines while containers of several hosts start and stop, and count addresses that had two owners, were lost or changed; HOSTS, CONTAINERS, SECONDS, SEED
	@$(GO) run ./test/cmd/chaosipam -hosts $(HOSTS) -containers $(if $(filter file,$(origin CONTAINERS)),100,$(CONTAINERS)) -seconds $(if $(filter file,$(origin SECONDS)),90,$(SECONDS)) $(if $(SEED),-seed $(SEED))

LINES ?= 2000000
ROUNDS ?= 3

.PHONY: bench-log
bench-log: packages plugins ## measure the log plugin against a plugin that discards and the engine's own drivers; LINES, ROUNDS
	@$(GO) run ./test/cmd/benchlog -lines $(LINES) -rounds $(ROUNDS)

DISK_SECONDS ?= 60

.PHONY: bench-disk
bench-disk: packages plugins ## measure what the log plugin writes to the disk, by the kernel's count; DISK_SECONDS
	@$(GO) run ./test/cmd/benchdisk -seconds $(DISK_SECONDS)

.PHONY: bench-net
bench-net: packages plugins ## measure the network plugin against the host's own network and the engine's own drivers; SUITE, ONLY (wire, run or protocol)
	@$(GO) run ./test/cmd/benchnet $(if $(SUITE),-suite $(SUITE)) $(if $(ONLY),-only $(ONLY))

.PHONY: clean-test
clean-test: ## remove engines, mounts and files that a killed test run left behind
	$(GO) run ./test/cmd/sweep

.PHONY: lint
lint: ## go vet, golangci-lint, and the scripts' syntax
	$(GO) vet ./...
	$(GO) vet -C tools/release .
	$(LINT) run
	bash -n scripts/*.sh .ci/run

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in what the code reaches; VULNDB names another database than Go's; code 2 of it is: nothing was checked
	@mkdir -p build && $(GO) build -o build/vulncheck ./test/cmd/vulncheck && build/vulncheck

.PHONY: docs
docs: ## write the pages that are made from the code: docs/log-options.md, docs/network-options.md, docs/metrics.md, docs/cli.md
	$(GO) generate ./logdriver/container ./test/docs ./test/monitoring ./cli

.PHONY: fmt
fmt: ## format the Go code
	$(LINT) fmt

.PHONY: release
release: toolchain ## build what a release is made of, for amd64 and arm64, in build/release/VERSION; VERSION
	@$(if $(VERSION),VERSION=$(VERSION) )scripts/release.sh

.PHONY: push
push: toolchain ## push the plugins of a release, one tag for each architecture; REGISTRY=registry.example.com/NAME VERSION
	@$(GO) run -C tools/release . push "$(CURDIR)/build/release/$(or $(VERSION),$(error VERSION says which release: one of build/release))" "$(or $(REGISTRY),$(error REGISTRY says where to: registry.example.com/NAME))"

.PHONY: reproducible
reproducible: packages ## build a release twice, in different places and by different users, compare, and run what was built
	@scripts/reproducible.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf build .cache
