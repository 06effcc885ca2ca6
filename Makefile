# ecsd: Amazon ECS tasks on containerd. `make help` lists the targets.
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOARCH ?= $(shell go env GOARCH)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 GOARCH=$(GOARCH) go build -trimpath
GOLANGCI := v2.15.0
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ecsd
TESTFLAGS ?= -race -timeout 20m

.DEFAULT_GOAL := build
.PHONY: help deps build install lint test test-slow test-vm bench demo fuzz docs clean cross

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what tests and demo need from the distribution (Debian)
	@test/deps.sh test

build: ## build bin/ecsd and bin/ecsd-log
	@mkdir -p bin
	$(GOBUILD) -ldflags '$(LDFLAGS)' -o bin/ecsd ./cmd/ecsd
	$(GOBUILD) -ldflags '-s -w' -o bin/ecsd-log ./cmd/ecsd-log

cross: ## build for linux/arm64 into dist/arm64
	@mkdir -p dist/arm64
	CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/arm64/ecsd ./cmd/ecsd
	CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -ldflags '-s -w' -o dist/arm64/ecsd-log ./cmd/ecsd-log

install: build ## install both binaries into $(DESTDIR)/usr/local/bin
	install -D -m 0755 bin/ecsd $(DESTDIR)/usr/local/bin/ecsd
	install -D -m 0755 bin/ecsd-log $(DESTDIR)/usr/local/bin/ecsd-log

$(CACHE)/bin/golangci-lint-$(GOLANGCI):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(CACHE)/bin/golangci-lint $@

lint: $(CACHE)/bin/golangci-lint-$(GOLANGCI) ## run the linters
	$< run ./...

test: deps ## run all tests, unit and real-containerd, with the race detector
	go test $(TESTFLAGS) ./...

test-slow: deps ## run the tests that take minutes
	ECSD_TEST_SLOW=1 go test -timeout 60m -run Slow ./...

test-vm: ## run the end-to-end tests in a Debian guest: systemd, cgroup v2
	@test/vm/test.sh $(CACHE)/vm

bench: deps ## measure against a bare containerd client and ctr, side by side
	@test/bench/run.sh

demo: ## show ecsd at work; KEEP=1 leaves it running
	@test/deps.sh demo
	@KEEP=$(KEEP) test/demo/demo.sh

FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; done; done

docs: ## write the generated parts of docs/
	go test ./pkg/spec -run TestDocs -update
	go test ./cmd/ecsd -run TestDocs -update

clean: ## remove what was built
	rm -rf bin dist
