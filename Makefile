# Serin. `make help` lists what there is. Two commands do all the set-up on a
# fresh machine: `make demo` (needs Go and nothing else) and `make test`.

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
OUT     ?= demo-out
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)
TESTFLAGS ?=

.PHONY: help build demo demo-cluster test test-go test-cluster test-ui test-browser quick test-long lint generate ui cluster-up \
	bench-gateway bench-judge bench-core bench-rollback bench-controller bench-dashboard clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/serin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/serin ./cmd/serin

demo: build ## the whole story on this machine, about 90 seconds: v1, a good v2, a bad v3
	./bin/serin demo --out $(OUT)
	./bin/serin demo --check $(OUT)

test: lint test-ui test-go test-cluster test-browser ## everything, the race detector on; the first time it builds a Kubernetes and an Istio, about 15 minutes

test-go: ## the Go packages, some of them against a real API server
	assets=$$(cd test/cluster && $(GO) run ./cmd/assets) && KUBEBUILDER_ASSETS=$$assets GORACE=atexit_sleep_ms=0 $(GO) test -race -timeout 30m $(TESTFLAGS) ./...
	$(GO) test $(TESTFLAGS) -run TestCrashAtEveryStep ./internal/engine # all of them; under the race detector one in eight
	cd tools/config && $(GO) test $(TESTFLAGS) ./...
	cd test/acme && $(GO) test $(TESTFLAGS) ./...

test-cluster: build browser-modules ## the controller in a real Kubernetes with a real istiod and its data plane
	cd test/cluster && $(GO) test -timeout 40m -count=1 -parallel 4 $(TESTFLAGS) ./... # they wait more than they work

test-ui: ## the dashboard's own tests, and that ui/dist is what its sources make
	./tools/check-ui

.PHONY: browser-modules
browser-modules:
	./tools/with-node test/browser true

test-browser: build browser-modules ## the dashboard in a real browser, on the real daemon
	./tools/with-node test/browser npm test

ui: ## ui/dist anew
	./tools/with-node ui npm run build

cluster-up: ## a Kubernetes with Istio on this machine, to play with
	cd test/cluster && $(GO) run ./cmd/cluster-up

demo-cluster: ## the story of make demo on that Kubernetes
	cd test/cluster && $(GO) run ./cmd/demo-cluster

quick: ## the inner loop: fewer worlds, not the whole demo, no race detector
	$(GO) vet ./...
	SERIN_WORLDS=300 $(GO) test -short ./...

test-long: ## 100,000 worlds and the judge's full campaigns, without the race detector
	SERIN_WORLDS=100000 $(GO) test -timeout 120m -count=1 ./internal/sim
	$(GO) test -timeout 300m -count=1 ./internal/sim/worlds -run Campaign -v -sets healthy,weather,blind,latency,cold,clean,ugly,slow,onset -runs 1000

lint: ## gofmt, vet, staticcheck, generated files, govulncheck where its database can be reached
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt'ed:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	for m in tools/config test/acme test/cluster; do (cd $$m && $(GO) vet ./...) || exit 1; done
	@./tools/check-generated
	@./tools/check-vulnerabilities

generate: ## write generated files anew: deep copies, CRDs, install.yaml
	./tools/generate

bench-gateway: ## the gateway beside nginx and HAProxy on the same work (Debian packages)
	./test/bench-gateway/run

bench-judge: build ## the judge beside the peers' rules on the public set of scenarios, against the golden table
	./bin/serin simulate --scenarios test/scenarios --golden

bench-core: ## one decision, one look, one pass
	$(GO) test -run '^$$' -bench . -benchmem ./internal/rollout ./internal/analysis ./internal/engine ./internal/gateway

bench-rollback: ## 50 % errors at 5 % in the cluster: from the first bad answer to weight 0
	cd test/cluster && $(GO) run ./cmd/bench-rollback

bench-controller: ## 500 rollouts at rest and 50 under way: memory, CPU, requests, queries
	cd test/cluster && $(GO) run ./cmd/bench-controller

bench-dashboard: build ## 2,000 rollouts in the list, 100 viewers: first paint, memory, fan-out
	./tools/with-node test/browser node bench.mjs

clean: ## what was built
	rm -rf bin $(OUT)
